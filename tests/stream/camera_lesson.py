"""A made-up lesson with cameras: recorded features of its seats, the words they become, and the posts these are."""

from __future__ import annotations

from collections.abc import Sequence

from operators.seat_readings import SeatReadings
from stream.config import PolicyConfig
from tests.operators import features
from tests.operators.test_seat_readings import feed

START = 1_700_000_040_000
SEATS = tuple(seed for seed in range(1, 17) if seed % 7)
"""Seeds of fourteen seats with cameras."""
POLICY = PolicyConfig(
    jurisdiction="US", setting="education", modalities=("text", "participation", "face", "voice"), purpose="teaching",
    unit="group", audit="audit.jsonl",
)  # fmt: skip


def posts(minutes: int, seats: Sequence[int] = SEATS) -> list[dict[str, object]]:
    """Events of the lesson in the order they are sent, each with an id of its own."""
    sent: list[tuple[int, str, int, str]] = []
    for seed in seats:
        name = f"{seed:016x}"
        said = feed(SeatReadings(), features.readings(seed, minutes, START))
        sent += [(at + 3_200, name, at, word) for at, word in said if at < START + minutes * features.MINUTE]
        sent += [(at, name, at, "here") for at in range(START + 500, START + minutes * features.MINUTE, 20_000)]
    return [
        {"id": f"c{k}", "text": word, "created_at": at, "author": name, "event": "1"}
        for k, (_, name, at, word) in enumerate(sorted(sent))
    ]
