"""Words that point to something: who responds to a disaster, who offers help, who speaks of a rumour.

Hand-written lists, matched word by word. A cue is no classifier: it says that a word is there, not what is meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from operators.records import Bools

_GAPS = str.maketrans(dict.fromkeys([*(c for c in map(chr, range(128)) if not c.isalnum()), *"‘’“”«»…–—·•"], " "))

RESPONDERS = """
fema|red cross|red crescent|salvation army|national guard|coast guard|army corps|civil defence|civil defense|unicef
united nations|world food programme|world food program|doctors without borders|medecins sans frontieres|oxfam
government|govt|govt s|authorities|officials|governor|mayor|city hall|city council|county|white house|congress|senate
ministry|minister|parliament|federal aid|public works|emergency management|emergency services|emergency services
emergency crews|first responders|first responder|responders|rescuers|rescue team|rescue teams|rescue crews
rescue workers|relief workers|aid workers|aid agencies|relief agencies|search teams|firefighter|firefighters|firemen
fire department|fire brigade|police|sheriff|sheriffs|cops|paramedic|paramedics|911 operators|911 operator|coastguard
national weather service|weather service|power company|electric company|electricity company|water company|gas company
power crews|line crews|lineworkers|linemen|utility|utilities|utility company|utility crews|water board|grid operator
entergy|centerpoint|pg e|con edison|coned|duke energy|florida power|fpl|dominion energy|cleco|oncor
"""
"""Agencies, utilities and responders, by their general names and a few well-known ones."""

OFFERS = """
give away|giving away|to give|free meals|free meal|free food|free water|free drinking water|free hot|free clinic
free shelter|free rides|free ride|free charging|for free|free of charge|come and eat|come and get|can take in
can deliver|can bring|can pick up|can offer|can drive|can treat|can rescue|can host|can lend|to lend|to spare
i can help|we can help|happy to help|glad to help|here to help|ready to help|want to help|would like to help
offer help|offer our help|offering|we offer|i offer|we are offering|beds free|beds available|rooms available
room available|space available|spare room|spare bed|spare generator|open our doors|doors are open|is open and
to donate|donating|we donate|i donate|will donate|want to volunteer|volunteering|volunteer rescue|volunteers ready
if you need|if anyone needs|anyone who needs|whoever needs|we have a boat|we have boats|i have a boat|charge your phone
"""
"""Ways to offer help. Some of them ask for it too: an offer counts with what the head leaves of a request."""

RUMOURS = """
rumor|rumors|rumour|rumours|hoax|hoaxes|fake news|fake photo|fake photos|fake video|fake picture|false report
false reports|false claim|false claims|misinformation|disinformation|unconfirmed|unverified|not confirmed|not verified
not been confirmed|is it true|is this true|is that true|any truth|can anyone confirm|can someone confirm
can anybody confirm|anyone confirm|someone told me|i heard that|i hear that|people are saying|they say that|cover up
covering up|hiding the truth|not telling us|conspiracy|conspiracies|debunked|debunk|snopes|fact check|photoshopped
"""
"""Words with which people doubt, spread or deny what is not known to be true."""


class Cues:
    """A list of phrases, looked for in texts: whole words, in any case, with anything but letters between them.

    `#RedCross` and `@redcross` are `red cross` too.

    >>> Cues("red cross|fema").found(["Where is FEMA?", "thank you @RedCross!", "the cross is red"]).tolist()
    [True, True, False]
    """

    def __init__(self, phrases: str) -> None:
        singles: set[str] = set()
        self._longer: dict[str, list[str]] = {}
        for phrase in phrases.replace("\n", "|").split("|"):
            words = words_of(phrase)
            if len(words) > 1:
                # Looked for where its longest word is: the rarest, as a rule.
                self._longer.setdefault(max(words, key=len), []).append(f" {' '.join(words)} ")
            if words:
                singles.add("".join(words))
        self._singles = frozenset(singles)

    def found(self, texts: Iterable[str]) -> Bools:
        """bool, one for each text: whether a phrase is in it."""
        return self.among([words_of(text) for text in texts])

    def among(self, texts: Iterable[Sequence[str]]) -> Bools:
        """As `found`, for texts whose words are known already."""
        return np.array([self._in(words) for words in texts], np.bool_)

    def _in(self, words: Sequence[str]) -> bool:
        if not self._singles.isdisjoint(words):
            return True
        if self._longer.keys().isdisjoint(words):
            return False
        text = f" {' '.join(words)} "
        return any(phrase in text for word in words for phrase in self._longer.get(word, ()))


def words_of(text: str) -> list[str]:
    """The words of a text, lower-cased; apostrophes part them."""
    return text.lower().translate(_GAPS).split()
