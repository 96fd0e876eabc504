"""What the people of the scenarios say: sentences by mood, written for this project, none taken from a data set.

`{e}` is the entity (a cashtag, a company, a town, a product); `{pct}`, `{price}`, `{n}`, `{street}`, `{hour}`, `{item}`
are filled by the scenario. A post is a core, at times with an opening before it and a closing after it. The disaster's
part is in `crisis_phrases`.
"""

from __future__ import annotations

from typing import NamedTuple


class Mood(NamedTuple):
    """One thing a post can express. `channels`: what the ground truth says of it."""

    channels: tuple[str, ...]
    cores: tuple[str, ...]
    openings: tuple[str, ...] = ()
    closings: tuple[str, ...] = ()


def lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


SCARED = lines(
    """
    I'm terrified
    this is scary
    I feel sick with fear
    please let this stop
    so afraid right now
    my hands are shaking
    nowhere to hide
    I can't sleep like this
    """
)
ANGRY = lines(
    """
    absolutely furious
    what a disgrace
    I hate this
    makes my blood boil
    unbelievable and shameful
    so angry right now
    """
)
SAD = lines(
    """
    so sad
    I could cry
    heartbroken
    this hurts
    feeling hopeless
    just depressed tonight
    """
)
GLAD = lines(
    """
    so happy
    love it
    what a day!
    best feeling ever
    can't stop smiling
    wonderful
    """
)

MARKET: dict[str, Mood] = {
    "panic": Mood(
        ("fear", "stance.bearish"),
        lines(
            """
            {e} is crashing and I'm panicking
            total panic in {e}, down {pct}% and nobody is buying
            scared to death of what {e} does at the open
            get out of {e} before it is too late, this is a crash
            fear everywhere, {e} could lose another {pct}% tomorrow
            sold all my {e} in a panic, terrified of a margin call
            {e} below {price}, this is getting really scary
            worried sick about my {e} position, down {pct}% already
            bloodbath in {e}, I'm afraid there is no bottom
            {e} free fall, I'm so nervous I can't look at the screen
            the way {e} is dumping frightens me
            {e} puts are printing, everyone else is in terror mode
            anxious about {e}, this looks like 2008 all over again
            """
        ),
        ("oh god,", "help,", "PANIC:", "wow,", "not good,", "I knew it,"),
        SCARED,
    ),
    "anger": Mood(
        ("anger", "stance.bearish"),
        lines(
            """
            {e} management are liars and thieves, sell this garbage
            so angry at {e}, they knew and said nothing
            {e} is a scam, shorting it all the way down to {price}
            furious with {e}, worst company in my portfolio
            I hate {e}, it robbed me of {pct}% in a week
            {e} insiders sold before the drop, this is disgusting fraud
            fire the CEO of {e} now, what a pathetic joke
            screw {e}, I'm done with this trash stock
            outrageous, {e} halted again so that only the rich get out
            {e} lied about its guidance, I'm mad as hell
            """
        ),
        ("seriously,", "enough!", "wtf,", "are you kidding me?"),
        ANGRY,
    ),
    "despair": Mood(
        ("sadness", "stance.bearish"),
        lines(
            """
            lost half of my savings in {e}, I'm devastated
            {e} broke my heart, down {pct}% and no way back
            so depressed about {e}, my retirement is gone
            sad day for {e} holders, bearish from here
            I should have sold {e} at {price}, regret it so much
            crying over my {e} bags tonight
            {e} keeps falling and I have no hope left
            miserable week, {e} took everything I made this year
            """
        ),
        ("sigh,", "well,", "honestly,"),
        SAD,
    ),
    "neutral": Mood(
        (),
        lines(
            """
            {e} reports earnings on Thursday after the close
            {e} volume today {n} thousand shares
            {e} traded at {price} at {hour}
            {e} to present at a conference next week
            {e} files its quarterly report
            watching {e} around {price} today
            {e} opens at {price}, previous close {price}
            {e} names a new head of its European unit
            chart of {e} in the link, support near {price}
            {e} holds its annual meeting in May
            """
        ),
        ("update:", "fyi,", "news:"),
        ("via the wire", "details later", "no position", "just watching"),
    ),
    "optimism": Mood(
        ("joy", "stance.bullish"),
        lines(
            """
            {e} looks great here, buying more at {price}
            bullish on {e}, this dip is a gift
            {e} will be back above {price} soon, adding calls
            confident in {e}, strong buy for the long term
            {e} bouncing nicely, the worst is over
            happy to hold {e}, great company and great numbers
            loading up on {e} before the next leg up
            {e} breakout coming, target {price}, feeling good
            nice recovery in {e}, up {pct}% from the low
            {e} is undervalued, I expect a strong rally
            """
        ),
        ("good morning!", "patience pays,", "told you,", "stay calm,"),
        ("long and strong", "bullish", "buy the dip", "let's go bulls", "happy to wait"),
    ),
    "excitement": Mood(
        ("joy", "stance.bullish"),
        lines(
            """
            {e} to the moon! up {pct}% today
            what a rally in {e}, I'm so excited!
            {e} is flying, best trade of my year
            LET'S GO {e}! new high at {price}
            wow {e} calls up {n}%, incredible day!
            {e} squeezing the shorts, I love it!
            {e} exploding higher, this is amazing
            so happy with {e}, champagne tonight!
            """
        ),
        ("yes!!", "boom!", "wow!", "woohoo,"),
        GLAD,
    ),
    "surprise": Mood(
        ("surprise",),
        lines(
            """
            wow, did not see that move in {e} coming
            what just happened to {e}? {pct}% in two minutes
            shocked by the {e} numbers, nobody expected that
            {e} at {price}?! I can't believe my eyes
            unbelievable reversal in {e}, completely stunned
            """
        ),
        ("whoa,", "what?!", "omg,"),
    ),
}

LAUNCH: dict[str, Mood] = {
    "excitement": Mood(
        ("joy",),
        lines(
            """
            the {e} keynote starts at {hour} and I'm so excited!
            can't wait to get my hands on the {e}!
            pre-ordered the {e}, best day of the year
            the {e} looks incredible, take my money
            that {item} on the {e} gave me goosebumps, what a show
            counting the hours until {e}, so hyped
            """
        ),
        ("yes!!", "omg,", "finally!"),
        GLAD,
    ),
    "joy": Mood(
        ("joy",),
        lines(
            """
            my {e} arrived and it makes me so happy
            the {item} of the {e} is a pure delight
            smiling like a kid with my new {e}
            day {n} with the {e} and I enjoy every minute
            the {e} works perfectly, great job to the team
            had so much fun with the {e} this evening
            """
        ),
        (),
        GLAD,
    ),
    "love": Mood(
        ("love",),
        lines(
            """
            I love my {e} so much
            in love with the {item} of the {e}
            the {e} is adorable, thank you to everyone who made it
            my daughter adores her {e}, lovely little thing
            """
        ),
        (),
        ("love love love", "so sweet", "thank you!"),
    ),
    "surprise": Mood(
        ("surprise",),
        lines(
            """
            wow, the {e} for only {price}? did not expect that
            what? the {e} has a new {item}? I'm amazed
            no way, the {e} ships today! what a surprise
            stunned by the {item} of the {e}, nobody saw that coming
            """
        ),
        ("whoa,", "wait what,"),
    ),
    "disappointment": Mood(
        ("sadness",),
        lines(
            """
            so disappointed with the {e}, the {item} is no better than last year
            the {e} feels like a letdown, I expected more
            sad about my {e}, the {item} broke on day {n}
            returned the {e} today, what a disappointment
            my {e} order was cancelled, feeling let down
            the {e} made me miss my old one, sadly
            """
        ),
        ("meh,", "sigh,", "well,"),
        ("what a pity", "so sad", "expected better", "unfortunately"),
    ),
    "anger": Mood(
        ("anger",),
        lines(
            """
            {price} dollars for the {e}? that is robbery
            the {e} support hung up on me, I'm furious
            my {e} is dead after {n} hours, absolute garbage
            hate the new {item} on the {e}, who decided that?
            lied to us about the {item} of the {e}, disgusting
            the {e} servers are down again, this makes me so mad
            """
        ),
        ("wtf,", "seriously?", "enough,"),
        ANGRY,
    ),
    "neutral": Mood(
        (),
        lines(
            """
            the {e} comes in {n} colours and costs {price}
            {e} keynote live stream at {hour}
            comparing the {item} of the {e} with last year's model
            the {e} ships in March
            does the {e} support the older charger?
            review of the {e} in the link
            """
        ),
        ("fyi,", "question:"),
        ("link below", "more soon", "any thoughts?"),
    ),
}

BOT = (
    "{e} signal: join our free group, {pct}% profit guaranteed, next target {price}",
    "{e} alert! our members made {pct}% today, target {price}, join free",
)
ITEMS = ("camera", "screen", "battery", "keyboard", "speaker", "design", "charger", "software", "strap", "microphone")
ASIDES = lines(
    """
    just saying
    writing this at {hour}
    on my phone
    day {n} of this
    anyone else?
    who is with me?
    my wife says the same
    my brother told me at {hour}
    everybody here talks about it
    tell me I'm wrong
    will post again at {hour}
    back in {n} minutes
    let that sink in
    I said so {n} days ago
    that's my view
    don't @ me
    thread below
    first post in {n} weeks
    the neighbours agree
    what do you think?
    think about it
    not the first time
    make of it what you want
    sorry for typos
    my two cents
    checked it {n} times
    it is {hour} here
    still awake
    more at {hour}
    talk later
    """
)
