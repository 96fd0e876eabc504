"""Made-up streams of posts with a known truth: a market panic, a hurricane, a product launch.

Everything follows from the seed. Each minute and entity has a planted mix of moods (`TruthRow.planted`) that moves
along the plot; posts are drawn from it, so `count / posts` is what was really written. On top, as live streams have it:
posts out of order, the same post sent twice, reposts under another id, and a bot.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from stream import crisis_phrases, phrases
from stream.errors import UsageError
from stream.phrases import Mood
from stream.wordings import reword

MINUTE_MS = 60_000
DISORDER, DELAY_MS = 0.27, 20_000
"""So many posts arrive late by up to so much."""
DUPLICATES, REPOSTS, BOT = 0.02, 0.04, 0.03
"""Shares of posts sent again, repeated under another id, and written by the bot while it is awake."""
UNKNOWN_AUTHOR, NO_LANGUAGE = 0.05, 0.4
TWICE = 0.5
"""Share of posts of two sentences of the same mood."""
GIVEN, LOOSE = 0.5, 0.2
"""Shares of posts that carry their entity as a field, and that name it so loosely that linking cannot find it."""
AUTHORS = 2_500
ALL = "all:*"


@dataclass(frozen=True, slots=True)
class TruthRow:
    """What was planted for one entity and minute.

    Attributes:
        entity: as signals name it, `ticker:AAPL`, or `all:*`. Posts that name no entity count under `all:*` alone.
        minute_ms: start of the minute, by `created_at`.
        channel: `fear`, `stance.bullish`, `need.water`, `message.request`, ...
        planted: the chance with which a post of this entity and minute carries the channel; the bot and reposts apart.
        count: posts that carry it, each id once, bot and reposts included.
        posts: posts of the entity in that minute, each id once.
    """

    entity: str
    minute_ms: int
    channel: str
    planted: float
    count: int
    posts: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """A generated stream: `posts` in order of arrival, by the post contract; `truth` by entity, minute, channel."""

    name: str
    domain: str
    posts: list[dict[str, object]]
    truth: list[TruthRow]


@dataclass(frozen=True, slots=True)
class _Subject:
    """An entity: how much is said of it, how hard the plot hits it, and its names in texts.

    `spoken` names are found by linking; `loose` ones (`our town`, a product without hashtag) only a reader understands.
    """

    entity: str
    spoken: tuple[str, ...]
    loose: tuple[str, ...]
    share: float
    hit: float


@dataclass(frozen=True, slots=True)
class _Plot:
    """`mix(u, hit)` gives the mood weights at progress u in [0, 1]; `rate(u)` the multiple of the mean rate."""

    domain: str
    subjects: tuple[_Subject, ...]
    moods: Mapping[str, Mood]
    mix: Callable[[float, float], dict[str, float]]
    rate: Callable[[float], float]


@dataclass(slots=True)
class _Tally:
    """Posts and channel counts of one (entity, minute), and the mix they were drawn from."""

    posts: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    planted: dict[str, float] = field(default_factory=dict)


def _bump(u: float, centre: float, width: float) -> float:
    return math.exp(-(((u - centre) / width) ** 2))


def _rise(u: float, at: float, width: float) -> float:
    return 1 / (1 + math.exp(-(u - at) / width))


def _panic_mix(u: float, hit: float) -> dict[str, float]:
    fall = hit * _bump(u, 0.45, 0.13)
    mend = _rise(u, 0.68, 0.04)
    return {
        "panic": 0.05 + 2.6 * fall,
        "anger": 0.05 + 1.0 * hit * _bump(u, 0.52, 0.14),
        "despair": 0.04 + 0.6 * hit * _bump(u, 0.57, 0.13),
        "neutral": 0.7,
        "surprise": 0.05 + 0.5 * hit * _bump(u, 0.36, 0.06),
        "optimism": 0.4 * (1 - min(1.0, 1.4 * fall)) + 0.8 * mend,
        "excitement": 0.15 * (1 - min(1.0, 1.6 * fall)) + 0.5 * mend,
    }


_NEED_WEIGHT = {
    "water": (1.0, 0.7),
    "food": (0.8, 0.75),
    "shelter": (0.9, 0.5),
    "medical_help": (0.7, 0.55),
    "electricity": (0.9, 0.48),
    "search_and_rescue": (1.1, 0.42),
}
"""Need -> how much is asked for, and when most (progress; landfall is at 0.4)."""


def _hurricane_mix(u: float, hit: float) -> dict[str, float]:
    mix = {
        "fear": 0.25 + 1.6 * hit * _bump(u, 0.38, 0.12),
        "sadness": 0.05 + 0.6 * hit * _rise(u, 0.5, 0.05),
        "anger": 0.05 + 0.5 * hit * _bump(u, 0.7, 0.15),
        "relief": 0.03 + 0.7 * _rise(u, 0.78, 0.05),
        "news": 0.8,
    }
    for need, (weight, peak) in _NEED_WEIGHT.items():
        mix[f"request.{need}"] = 0.01 + 0.9 * hit * weight * _bump(u, peak, 0.13)
        mix[f"offer.{need}"] = 0.01 + 0.35 * weight * _bump(u, min(peak + 0.15, 0.85), 0.15)
    return mix


def _launch_mix(u: float, hit: float) -> dict[str, float]:
    after = _rise(u, 0.6, 0.05)
    return {
        "excitement": 0.3 + 1.8 * hit * _bump(u, 0.35, 0.15),
        "joy": 0.15 + 0.6 * after * (1 - _bump(u, 0.72, 0.08)),
        "love": 0.1 + 0.3 * after,
        "surprise": 0.05 + 0.7 * hit * _bump(u, 0.33, 0.05),
        "disappointment": 0.05 + 1.3 * hit * _bump(u, 0.72, 0.1),
        "anger": 0.04 + 0.7 * hit * _bump(u, 0.75, 0.08),
        "neutral": 0.6,
    }


def _subject(entity: str, spoken: str, share: float, hit: float, loose: str = "") -> _Subject:
    return _Subject(entity, tuple(spoken.split("|")), tuple(filter(None, loose.split("|"))), share, hit)


def _town(name: str, spoken: str, share: float, hit: float) -> _Subject:
    return _subject(f"place:{name}", spoken, share, hit, "our town|our city|my neighbourhood")


PLOTS: Mapping[str, _Plot] = {
    "panic": _Plot(
        "market",
        (
            _subject("ticker:TSLA", "$TSLA|Tesla", 0.26, 1.0),
            _subject("ticker:NVDA", "$NVDA|Nvidia", 0.22, 0.9),
            _subject("ticker:AAPL", "$AAPL", 0.2, 0.6),
            _subject("ticker:AMZN", "$AMZN", 0.14, 0.7),
            _subject("ticker:JPM", "$JPM|JPMorgan", 0.1, 0.8),
            _subject("ticker:KO", "$KO|Coca-Cola", 0.08, 0.1),
        ),
        phrases.MARKET,
        _panic_mix,
        lambda u: 0.55 + 1.9 * _bump(u, 0.47, 0.14) + 0.2 * _rise(u, 0.68, 0.04),
    ),
    "hurricane": _Plot(
        "crisis",
        (
            _town("New Orleans", "New Orleans|#NewOrleans", 0.3, 0.8),
            _town("Houma", "Houma, LA", 0.2, 1.0),
            _town("Lake Charles", "Lake Charles|#LakeCharles", 0.16, 0.5),
            _town("Slidell", "Slidell, LA", 0.14, 0.7),
            _town("Baton Rouge", "Baton Rouge|#BatonRouge", 0.12, 0.4),
            _town("Biloxi", "Biloxi, MS", 0.08, 0.2),
        ),
        crisis_phrases.CRISIS,
        _hurricane_mix,
        lambda u: 0.5 + 1.3 * _bump(u, 0.45, 0.16) + 0.3 * _rise(u, 0.45, 0.05),
    ),
    "launch": _Plot(
        "social",
        (
            _subject("topic:auroraone", "#AuroraOne", 0.7, 1.0, "Aurora One|Aurora"),
            _subject("topic:pulseband", "#PulseBand", 0.3, 0.4, "PulseBand"),
        ),
        phrases.LAUNCH,
        _launch_mix,
        lambda u: 0.5 + 1.8 * _bump(u, 0.35, 0.12) + 0.5 * _bump(u, 0.72, 0.12),
    ),
}
_BOT_CHANNELS = {"market": ("stance.bullish",), "crisis": (), "social": ()}


def generate(
    name: str, seed: int, minutes: int, posts_per_minute: int, start_ms: int, only: tuple[str, str] | None = None
) -> Scenario:
    """Generate one run of a scenario. The same arguments give the same posts, on any machine.

    Args:
        name: `panic`, `hurricane` or `launch`.
        seed: any integer; ids carry it, so runs of other seeds share no id.
        minutes: length of the plot, >= 1.
        posts_per_minute: mean over the plot, about, >= 1; duplicates come on top.
        start_ms: time of the first minute, epoch milliseconds, rounded down to the minute.
        only: (entity, mood), people speak of nothing else: to learn how a model hears that mood.

    Raises:
        UsageError: an unknown name or a number below 1.
    """
    plot = PLOTS.get(name)
    if plot is None:
        raise UsageError(f"scenario: no {name!r}; expected one of {', '.join(PLOTS)}")
    if minutes < 1 or posts_per_minute < 1:
        raise UsageError(f"scenario: expected minutes and posts_per_minute >= 1, got {minutes} and {posts_per_minute}")
    if only is not None:
        own = tuple(s for s in plot.subjects if s.entity == only[0])
        plot = replace(plot, subjects=own, mix=lambda u, hit: {only[1]: 1.0})
    return _Writer(name, plot, seed, minutes, posts_per_minute, start_ms // MINUTE_MS * MINUTE_MS).write()


def play(name: str, seed: int, posts_per_minute: int, start_ms: int, minutes: int = 40) -> Iterator[dict[str, object]]:
    """Posts in order of arrival without end: one run after another, each with the next seed."""
    while True:
        yield from generate(name, seed, minutes, posts_per_minute, start_ms).posts
        seed, start_ms = seed + 1, start_ms + minutes * MINUTE_MS


class _Writer:
    """Writes one run: minute by minute, then shuffles by arrival."""

    def __init__(self, name: str, plot: _Plot, seed: int, minutes: int, per_minute: int, start_ms: int) -> None:
        self.name, self.plot, self.seed, self.minutes, self.start_ms = name, plot, seed, minutes, start_ms
        self.dice = random.Random(f"{name}/{seed}")
        progress = [(m + 0.5) / minutes for m in range(minutes)]
        scale = per_minute * minutes / sum(map(plot.rate, progress))
        self.rates = [plot.rate(u) * scale for u in progress]
        self.arrivals: list[tuple[int, int, dict[str, object]]] = []
        self.tallies: dict[tuple[str, int], _Tally] = {}
        self.recent: list[tuple[dict[str, object], str, tuple[str, ...]]] = []

    def write(self) -> Scenario:
        for minute in range(self.minutes):
            self._minute(minute)
        self.arrivals.sort(key=lambda a: a[:2])
        truth = [
            TruthRow(entity, ms, channel, planted, tally.counts.get(channel, 0), tally.posts)
            for (entity, ms), tally in sorted(self.tallies.items())
            for channel, planted in sorted(tally.planted.items())
        ]
        return Scenario(self.name, self.plot.domain, [post for _, _, post in self.arrivals], truth)

    def _minute(self, minute: int) -> None:
        dice, plot = self.dice, self.plot
        u = (minute + 0.5) / self.minutes
        begin = self.start_ms + minute * MINUTE_MS
        mixes = {s.entity: plot.mix(u, s.hit) for s in plot.subjects}
        self._plant(begin, mixes)
        rate = self.rates[minute]
        count = max(0, round(dice.gauss(rate, math.sqrt(rate))))
        bot_awake = 0.25 <= u <= 0.6
        for at in sorted(begin + int(dice.random() * MINUTE_MS) for _ in range(count)):
            draw = dice.random()
            if bot_awake and draw < BOT:
                self._bot(at, begin)
            elif self.recent and draw > 1 - REPOSTS:
                self._repost(at, begin)
            else:
                subject = dice.choices(plot.subjects, [s.share for s in plot.subjects])[0]
                mix = mixes[subject.entity]
                mood = plot.moods[dice.choices(list(mix), list(mix.values()))[0]]
                self._post(subject, mood, at, begin)

    def _plant(self, begin: int, mixes: Mapping[str, dict[str, float]]) -> None:
        """Note the planted chances of the minute, per entity and over all (weighted by the entities' shares)."""
        overall = self.tallies.setdefault((ALL, begin), _Tally())
        whole = sum(s.share for s in self.plot.subjects)
        for subject in self.plot.subjects:
            tally = self.tallies.setdefault((subject.entity, begin), _Tally())
            mix = mixes[subject.entity]
            total = sum(mix.values())
            for name, weight in mix.items():
                for channel in self.plot.moods[name].channels:
                    chance = weight / total
                    tally.planted[channel] = tally.planted.get(channel, 0.0) + chance
                    overall.planted[channel] = overall.planted.get(channel, 0.0) + chance * subject.share / whole

    def _post(self, subject: _Subject, mood: Mood, at: int, begin: int) -> None:
        dice = self.dice
        given = dice.random() < GIVEN
        loose = bool(subject.loose) and dice.random() < LOOSE
        post: dict[str, object] = {"id": self._id(), "text": "", "created_at": at}
        if given:
            post.update(self._field(subject))
        post["text"] = self._text(mood, dice.choice(subject.loose if loose else subject.spoken))
        if dice.random() >= UNKNOWN_AUTHOR:
            # The power makes a few authors loud and most of them quiet, as they are.
            post["author"] = f"user_{int(AUTHORS * dice.random() ** 1.5):05d}"
            post["followers"] = int(math.exp(dice.gauss(5.0, 1.6)))
        if dice.random() >= NO_LANGUAGE:
            post["lang"] = "en"
        entity = subject.entity if given or not loose else ""
        self.recent.append((post, entity, mood.channels))
        del self.recent[:-50]
        self._send(post, entity, mood.channels, begin)

    def _text(self, mood: Mood, spoken: str) -> str:
        """One core or two, reworded, with what people put around it: the same words twice are rare, as in life."""
        dice = self.dice
        cores = dice.sample(mood.cores, 1 + (len(mood.cores) > 2 and dice.random() < TWICE))
        text = self._fill(". ".join(cores), spoken)
        if mood.openings and dice.random() < 0.45:
            text = f"{dice.choice(mood.openings)} {text}"
        for extras, chance in ((mood.closings, 0.6), (phrases.ASIDES, 0.6)):
            if extras and dice.random() < chance:
                text = (
                    f"{text}{dice.choice(('. ', ', ', ' - ', '! ', '... '))}{self._fill(dice.choice(extras), spoken)}"
                )
        text = reword(text, dice) + dice.choice(("", "", "", ".", "!", "!!", "..."))
        if dice.random() < 0.2:
            text = text[0].upper() + text[1:]
        if dice.random() < 0.12:
            text += self._link()
        return text

    def _field(self, subject: _Subject) -> dict[str, object]:
        name = subject.entity.split(":", 1)[1]
        fields: dict[str, dict[str, object]]
        fields = {"market": {"tickers": [name]}, "crisis": {"place": name}, "social": {"event": name}}
        return fields[self.plot.domain]

    def _link(self) -> str:
        return f" https://t.co/{self.dice.randrange(36**6):06x}"

    def _bot(self, at: int, begin: int) -> None:
        subject = self.plot.subjects[0]
        text = self._fill(self.dice.choice(phrases.BOT), subject.spoken[0]) + self._link()
        post: dict[str, object] = {"id": self._id(), "text": text, "created_at": at, "author": "signal_bot_4711"}
        post.update({"lang": "en", "followers": 12}, **self._field(subject))
        self._send(post, subject.entity, _BOT_CHANNELS[self.plot.domain], begin)

    def _repost(self, at: int, begin: int) -> None:
        """Another id and author; half of them word for word, half with `RT @user:` in front."""
        first, entity, channels = self.dice.choice(self.recent)
        post = {**first, "id": self._id(), "created_at": at, "author": f"user_{self.dice.randrange(AUTHORS):05d}"}
        if self.dice.random() < 0.5:
            post["text"] = f"RT @{first.get('author', 'someone')}: {first['text']}"
        self._send(post, entity, channels, begin)

    def _send(self, post: dict[str, object], entity: str, channels: tuple[str, ...], begin: int) -> None:
        """Count the post, and let it arrive: on time or late, once or twice."""
        for name in filter(None, (entity, ALL)):
            tally = self.tallies[name, begin]
            tally.posts += 1
            for channel in channels:
                tally.counts[channel] = tally.counts.get(channel, 0) + 1
        dice, at = self.dice, post["created_at"]
        assert isinstance(at, int)
        arrival = at + (dice.randint(1, DELAY_MS) if dice.random() < DISORDER else 0)
        self.arrivals.append((arrival, len(self.arrivals), post))
        if dice.random() < DUPLICATES:
            self.arrivals.append((arrival + dice.randint(1, DELAY_MS), len(self.arrivals), post))

    def _id(self) -> str:
        return f"{self.name}-{self.seed}-{self.dice.getrandbits(48):012x}"

    def _fill(self, core: str, spoken: str) -> str:
        dice = self.dice
        return core.format(
            e=spoken,
            pct=dice.choice((dice.randint(2, 39), round(dice.uniform(1, 15), 1))),
            price=dice.randint(12, 980),
            n=dice.randint(2, 60),
            street=f"{dice.randint(1, 999)} {dice.choice(crisis_phrases.STREETS)}",
            hour=f"{dice.randint(1, 12)} {dice.choice(('am', 'pm'))}",
            item=dice.choice(phrases.ITEMS),
        )
