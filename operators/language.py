"""The language of a text, where the post does not say it: ISO 639-1, or "" where the text is too little to tell.

The one door to `eld` (byte n-grams, no model file outside the package, no network). Measured on short posts in six
languages it was both the quickest and the most accurate of the small libraries tried (`test_language.py` keeps the
floor). Two shortcuts spare most posts the n-grams: scripts that only one language of the field uses, and
English function words.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from eld import LanguageDetector

from operators.base import Emit
from operators.records import PostBatch

MIN_LETTERS = 8
"""Fewer letters than this of an alphabet shared by many languages are no evidence; ideographs need `MIN_SIGNS`."""
MIN_SIGNS = 2
MAX_CHARS = 160
"""The n-grams of so many characters are looked at; more costs time and changes next to nothing."""
MIN_LEAD = 1.02
"""The best language must score so many times the second."""
MIN_LEAD_OF_ENGLISH = 1.7
MIN_SCORE = 0.3
"""Another language must score so many times what English does, and so much, to be told: a readable post that is taken
for a foreign one is left out of every value. English has this lead in under 1 % of foreign posts; without it names and
short lines were taken for Tagalog (`benchmarks/bench_languages.py` prints both errors)."""

_NOISE = re.compile(r"https?\S*|www\.\S+|[@#$&]\w+;?|\b(?:USER|HASHTAG|URL|RT)\b|\d+")
_LETTER = re.compile(r"[^\W\d_]")
_PLAIN = re.compile(r"[a-z]+(?:'[a-z]+)?")
_ENGLISH_WORDS = """
    the and are were you your this that with for have has not just what when they their them would can't don't it's
    i'm been about from there which who how why should could because here than then some it of to my our she his be
    if out up get got at we but like so will all can need people now tomorrow one more good know going day time see
    new food back today want its think had after too only over where love stock last any really down water even
    night make find off year right way take first said next before very call never again thanks thank buy him into
    other great big these bad week give being many also look something since anything those price feel little school
    say better morning someone another house that's money watch best getting two happy thing things years nothing
    sleep coming tonight sad every didn't gonna wait through keep days sorry wish already reports world place made
    end does always left looks though tell sure everyone i've lost looking yet old might under until start guys free
    short you're anyone doing without thought i'll hate away shares makes nice while done close soon few hard
    working having yeah against found company sell friends maybe must trying hold such watching waiting stop came
    actually deal doesn't use seen needs everything believe taking wrong half ago between win feeling sick gets
    problem birthday girl boy friend beautiful ugly funny scared angry omg baby
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
"""Frequent words that few other languages write; German `was`, Dutch `is`, Spanish `he` are left out."""
_FAR = re.compile(r"[\u0370-\uffef]")
_SCRIPTS = (
    ("el", 0x0370, 0x03FF),
    ("he", 0x0590, 0x05FF),
    ("bn", 0x0980, 0x09FF),
    ("pa", 0x0A00, 0x0A7F),
    ("gu", 0x0A80, 0x0AFF),
    ("ta", 0x0B80, 0x0BFF),
    ("te", 0x0C00, 0x0C7F),
    ("th", 0x0E00, 0x0E7F),
    ("ja", 0x3040, 0x30FF),
    ("zh", 0x3400, 0x9FFF),
    ("ko", 0xAC00, 0xD7A3),
)


@lru_cache(maxsize=1)
def _detector() -> LanguageDetector:
    """Loaded with the first text that needs it (about 0.2 s)."""
    return LanguageDetector()


def detect(text: str) -> str:
    """ISO 639-1 code of `text`, or "". Depends on the text alone."""
    far = [] if text.isascii() else [c for c in _FAR.findall(text[: 2 * MAX_CHARS]) if c.isalnum()]
    if far:
        code = _by_script(text, far)
        if code:
            return code
    elif len(_ENGLISH.intersection(_PLAIN.findall(text[: 2 * MAX_CHARS].lower()))) >= 3:
        return "en"
    text = _NOISE.sub(" ", text)
    if len(_LETTER.findall(text[: 2 * MAX_CHARS])) < MIN_LETTERS:
        return ""
    scores = _detector().detect(text.strip()[:MAX_CHARS]).scores()
    ranked = sorted(scores.values(), reverse=True)
    if not ranked or (len(ranked) > 1 and ranked[0] < MIN_LEAD * ranked[1]):
        return ""
    code = str(max(scores, key=lambda code: scores[code]))
    if code != "en" and ranked[0] < max(MIN_SCORE, MIN_LEAD_OF_ENGLISH * scores.get("en", 0.0)):
        return ""
    return code


def _by_script(text: str, far: list[str]) -> str:
    """The language whose own script makes up at least half of the letters, or ""; `far` = letters beyond Latin."""
    letters = sum(map(str.isalpha, text[: 2 * MAX_CHARS]))
    kana = sum("\u3040" <= c <= "\u30ff" for c in far)
    # Japanese mixes its own syllables with ideographs: a fifth of them is enough.
    if kana >= MIN_SIGNS and kana * 5 >= letters:
        return "ja"
    for code, low, high in _SCRIPTS:
        if low <= ord(far[0]) <= high:
            signs = sum(low <= ord(c) <= high for c in far)
            return code if signs >= MIN_SIGNS and signs * 2 >= letters else ""
    return ""


class Language:
    """Fill `langs` where it is "". Stateless; what was given stays, `und` (somebody left it open) included."""

    async def process(self, batch: PostBatch) -> Emit:
        """Return the batch with languages; drops nothing."""
        return Emit(self.run(batch))

    def run(self, batch: PostBatch) -> PostBatch:
        """`process` as a plain function."""
        if all(batch.langs):
            return batch
        return replace(batch, langs=[lang or detect(text) for lang, text in zip(batch.langs, batch.texts, strict=True)])
