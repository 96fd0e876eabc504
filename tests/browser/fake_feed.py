"""A feed of believable moving data for looking at the page: no log, no model, no posts of real people.

    python -m tests.browser.fake_feed --port 8700 [--domain market|crisis|social] [--seconds N]

One simulated window of history per step, then one step a second. Seeded: two runs draw the same curves.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import time

from operators.records import SignalRow, Status
from stream.feed import Feed, SpotPost
from stream.metrics import Metrics
from stream.ops_status import OpsStatus
from stream.web import LiveServer

STEP_MS = 10_000
WINDOWS_MS = (60_000, 300_000, 3_600_000, 86_400_000)
MIN_N = 20

EMOTIONS = {
    "neutral": 0.46,
    "joy": 0.2,
    "fear": 0.11,
    "sadness": 0.08,
    "anger": 0.07,
    "surprise": 0.05,
    "disgust": 0.03,
}
NEEDS = {
    "water": 0.034, "food": 0.028, "shelter": 0.041, "medical_help": 0.022, "medical_products": 0.008,
    "clothing": 0.006, "transport": 0.012, "electricity": 0.03, "search_and_rescue": 0.017, "security": 0.004,
    "missing_people": 0.009, "money": 0.011, "tools": 0.003,
}  # fmt: skip
WORLDS = {
    "market": {"ticker:AAPL": 90, "ticker:TSLA": 70, "ticker:NVDA": 64, "ticker:GME": 40, "ticker:KO": 4, "all:*": 300},
    "crisis": {
        "place:Houston": 60,
        "place:Galveston": 34,
        "place:Port Arthur": 9,
        "place:Corpus Christi": 3,
        "all:*": 190,
    },
    "social": {"topic:launch": 80, "topic:outage": 36, "topic:support": 8, "all:*": 160},
}
TEXTS = {
    "market": [
        ("fear", "[ticker] gapping down again and nobody is buying the dip. I am out until this settles."),
        ("joy", "Told you [ticker] would hold that level. Beautiful close, adding on Monday."),
        ("anger", "Halted AGAIN? Every single time it runs. [user] this is a joke."),
        ("neutral", "[ticker] reports after the bell, consensus 1.42, whisper a bit higher. [link]"),
        ("surprise", "wait, +9 % on no news?? what am I missing here"),
        ("sadness", "Three years of gains gone in a week. Lesson learned the hard way."),
    ],
    "crisis": [
        ("water", "Shelter on 5th street has run out of drinking water, about 200 people here, kids too."),
        ("medical_help", "My neighbour needs insulin tonight, roads are flooded on both sides. [user] please share"),
        ("offer", "We have a boat and two free hands near the harbour, tell us where to go."),
        ("electricity", "No power since yesterday noon in the whole block, phone at 8 %."),
        ("search_and_rescue", "Two people on a roof at the end of the marina road, waving."),
    ],
    "social": [
        ("joy", "The new version finally opens in a second. Whoever did this: thank you!"),
        ("anger", "Paid for a year and the export button is gone? Seriously [user]"),
        ("surprise", "Did not expect dark mode to look this good."),
        ("love", "This little app has become part of my mornings."),
        ("neutral", "Release notes are here: [link]"),
    ],
}  # fmt: skip


def mood(t_s: float, entity: str) -> float:
    """-1..1, a slow wave with one panic and its recovery, different for every entity."""
    phase = (hash_of(entity) % 628) / 100
    wave = 0.45 * math.sin(t_s / 900 + phase) + 0.2 * math.sin(t_s / 210 + 2 * phase)
    since = (t_s + 1_500) % 5_400 - 2_400
    panic = -0.9 * (1 - math.exp(-since / 90)) * math.exp(-since / 700) if since > 0 else 0.0
    return max(-1.0, min(1.0, wave + panic))


def hash_of(text: str) -> int:
    return sum((k + 1) * ord(c) for k, c in enumerate(text)) * 2_654_435_761 % 2**32


def wilson(p: float, n: float) -> tuple[float, float]:
    z2 = 3.8416
    mid, half = (p + z2 / (2 * n)) / (1 + z2 / n), 1.96 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, mid - half), min(1.0, mid + half)


def values(domain: str, entity: str, t_s: float, rng: random.Random, n: int) -> dict[str, tuple[float, float, float]]:
    """signal -> (value, lo, hi) as a window of `n` posts would show them."""
    m = mood(t_s, entity)
    noise = 1 / math.sqrt(max(n, 5))
    found: dict[str, tuple[float, float, float]] = {}

    def share(name: str, p: float) -> None:
        p = min(0.97, max(0.001, p * (1 + 0.25 * noise * rng.gauss(0, 1))))
        found[f"{domain}.{name}"] = (p, *wilson(p, max(n, 1)))

    def bipolar(name: str, v: float) -> None:
        v = max(-0.98, min(0.98, v + 0.1 * noise * rng.gauss(0, 1)))
        half = 1.5 * noise * math.sqrt(1 - v * v) * 0.5
        found[f"{domain}.{name}"] = (v, max(-1, v - half), min(1, v + half))

    if domain == "crisis":
        for need, base in NEEDS.items():
            local = 0.4 + 1.6 * abs(math.sin(t_s / 1_300 + hash_of(entity + need) % 7))
            share(f"need.{need}", base * local)
        share("request", 0.16 + 0.07 * math.sin(t_s / 800))
        share("offer", 0.07 + 0.03 * math.sin(t_s / 1_000 + 1))
        share("without_place", 0.55)
        return found
    tilt = {"joy": 1.0, "love": 1.0, "fear": -1.6, "sadness": -0.8, "anger": -1.1, "disgust": -0.6}
    shares = {e: b * math.exp(tilt.get(e, 0.0) * m) for e, b in EMOTIONS.items()}
    if domain == "social":
        shares["love"] = 0.09 * math.exp(m)
    total = sum(shares.values())
    for emotion, p in shares.items():
        share(emotion, p / total)
    bipolar("valence", 0.5 * m)
    if domain == "market":
        bipolar("bullishness", 0.6 * mood(t_s + 60, entity) + 0.1)
        share("agreement", 0.35 + 0.3 * m * m)
        share("disagreement", 0.65 - 0.3 * m * m)
    return found


def rows(domain: str, end_ms: int, now_ms: int, rng: random.Random) -> list[SignalRow]:
    """Every row whose window ends at `end_ms`; beyond `now_ms` it is still filling."""
    made: list[SignalRow] = []
    for entity, base in WORLDS[domain].items():
        for size in WINDOWS_MS:
            filled = max(0.0, min(1.0, 1 - (end_ms - now_ms) / size))
            swing = 1 + 0.5 * abs(mood(end_ms / 1_000, entity))
            n = int(base * (size / 60_000) ** 0.9 * swing * filled * rng.uniform(0.95, 1.05))
            if n == 0:
                continue
            status: Status = "final" if end_ms <= now_ms else "provisional"
            revision = 1 if status == "final" and rng.random() < 0.06 else 0
            common = {
                "domain": domain, "entity": entity, "window_start": end_ms - size, "window_end": end_ms, "n": n,
                "n_eff": n * 0.92, "authors": max(1, int(n * 0.71)), "buzz": float(n), "revision": revision,
                "watermark": min(end_ms, now_ms), "model": "fake@00000000", "ontology": "parrott-1",
            }  # fmt: skip
            for signal, (value, lo, hi) in values(domain, entity, end_ms / 1_000, rng, n).items():
                enough = n * 0.92 >= MIN_N
                made.append(
                    SignalRow(
                        signal=signal,
                        status="revised" if revision else status,
                        value=value if enough else None,
                        lo=lo if enough else None,
                        hi=hi if enough else None,
                        **common,  # type: ignore[arg-type]
                    )
                )
            if domain == "market":
                buzz = float(n)
                made.append(
                    SignalRow(signal="market.buzz", status=status, value=buzz, lo=None, hi=None, **common)  # type: ignore[arg-type]
                )
    return made


def posts(domain: str, entity: str, now_ms: int, rng: random.Random) -> list[SpotPost]:
    label, text = rng.choice(TEXTS[domain])
    score = round(rng.uniform(0.55, 0.97), 4)
    return [SpotPost(time_ms=now_ms, text_masked=text, label=label, score=score, repost=rng.random() < 0.15, lang="en")]


def fill(feed: Feed, domain: str, until_ms: int, steps: int, rng: random.Random) -> None:
    """History of `steps` windows that end at or before `until_ms`, and the six that are still open."""
    for k in range(steps, 0, -1):
        end = until_ms - k * STEP_MS
        hole = 300 < k < 318  # a stretch without posts: the page must show a gap
        if not hole:
            feed.publish(rows(domain, end, until_ms, rng))
    for entity in WORLDS[domain]:
        for k in range(12, 0, -1):
            feed.spotlight(entity, posts(domain, entity, until_ms - k * 3_700, rng))


def ops(domain: str, started: float, consumed: int, now_ms: int, rng: random.Random) -> OpsStatus:
    late, rejected, in_flight = consumed // 400, consumed // 3_000, rng.randrange(0, 64)
    duplicate = consumed // 50
    applied = consumed - late - rejected - in_flight - duplicate
    return OpsStatus(
        rate_per_s=rng.uniform(380, 460), consumed=consumed, applied=applied, duplicate=duplicate, late=late,
        rejected=rejected, in_flight=in_flight, lag=rng.randrange(0, 40), watermark_ms=now_ms - 4_000,
        watermark_delay_s=rng.uniform(3.2, 5.1), rows=consumed // 9, partitions=4, engine="hashed",
        model="hashed-bag@7c1f02ab", engine_reason="no GPU found, so no TensorRT; ONNX Runtime is not installed",
        domain=domain, uptime_s=time.monotonic() - started, ready=True, problem=None,
    )  # fmt: skip


async def serve(port: int, domain: str, seconds: float) -> None:
    rng = random.Random(7)
    feed = Feed()
    server = LiveServer(feed, Metrics(), port=port)
    await server.start()
    print(server.url, flush=True)
    started, consumed = time.monotonic(), 120_000
    now = int(time.time() * 1_000) // STEP_MS * STEP_MS
    fill(feed, domain, now, 400, rng)
    try:
        while time.monotonic() - started < seconds:
            for k in range(7):
                feed.publish(rows(domain, now + k * STEP_MS, now, rng))
            for entity in WORLDS[domain]:
                if rng.random() < 0.4:
                    feed.spotlight(entity, posts(domain, entity, now, rng))
            consumed += 4_200
            status = ops(domain, started, consumed, now, rng)
            feed.status(status)
            server.metrics.status(status)
            now += STEP_MS
            await asyncio.sleep(1)
    finally:
        await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8700)
    parser.add_argument("--domain", choices=sorted(WORLDS), default="market")
    parser.add_argument("--seconds", type=float, default=math.inf)
    args = parser.parse_args()
    asyncio.run(serve(args.port, args.domain, args.seconds))


if __name__ == "__main__":
    main()
