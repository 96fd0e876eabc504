"""A lesson with cameras: rows equal plain Python over recorded features, in any order, with repeats, live too."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import numpy as np
import pytest
from test_lesson_live import START as LIVE
from test_lesson_live import Class, compare_with_replay, until

from operators.classroom import NAMES, SIGNALS
from operators.errors import PolicyRefused
from operators.group_affect import CAMERAS, FACES, READINGS, WATCHED
from operators.seat_readings import SeatReadings
from stream import lesson_desk
from stream.config import PolicyConfig
from stream.lesson import Event
from stream.memory import MemoryLog
from stream.ops_status import OpsStatus
from stream.replaying import replay, replay_config
from tests.operators import features
from tests.stream.camera_lesson import POLICY, SEATS, START, posts

K, MINUTES, STEP = 10, 4, 0.05


def told(said: list[dict[str, object]], path: Path, policy: PolicyConfig = POLICY) -> tuple[list[str], OpsStatus]:
    path.write_text("\n".join(map(json.dumps, said)) + "\n")
    config = replay_config("classroom", windows=["1m"], lateness="5s", disorder="5s", engine="stub", policy=policy)
    rows, status = asyncio.run(replay(MemoryLog(), config, path))
    return [line.decode() if isinstance(line, bytes) else line for line in rows.lines()], status


def trimmed(numbers: list[float]) -> float | None:
    kept = sorted(numbers)[1:-1]
    return sum(kept) / len(kept) if len(numbers) >= K else None


def in_step(curves: list[list[float | None]]) -> list[float]:
    """Of each seat that moves, the mean correlation with every other one; by numpy's own."""
    rows = []
    for curve in curves:
        known = [value for value in curve if value is not None]
        mean = sum(known) / max(1, len(known))
        if len(known) >= 6 and max(known) - min(known) > 1e-9:
            rows.append([mean if value is None else value for value in curve])
    table = np.corrcoef(np.array(rows))
    return [(float(row.sum()) - 1) / (len(rows) - 1) for row in table]


def test_rows_are_what_plain_python_makes_of_the_recorded_features(tmp_path: Path) -> None:
    lines, status = told(posts(MINUTES), tmp_path / "events.jsonl")
    rows = {(row["window_start"], row["signal"]): row for row in map(json.loads, lines)}
    assert status.applied == status.consumed
    assert {name for _, name in rows} == set(SIGNALS)
    slots = {seed: features.slots(features.readings(seed, MINUTES, START)) for seed in SEATS}
    checked, largest = 0, 0.0
    for begin in range(START, START + MINUTES * features.MINUTE, features.MINUTE):
        seats = [features.numbers(slots[seed], begin) for seed in SEATS]
        curves = [features.curve(slots[seed], begin) for seed in SEATS]
        for name in WATCHED:
            said = in_step(curves) if name == "synchrony" else [n[name] for n in seats]
            want, row = trimmed([v for v in said if v is not None]), rows[begin, f"classroom.{name}"]
            assert (row["value"] is None) == (want is None), (name, begin, row)
            if want is None:
                continue
            largest = max(largest, abs(row["value"] - want))
            assert row["value"] == pytest.approx(round(want / STEP) * STEP, abs=1e-9), (name, begin)
            assert row["lo"] - 1e-9 <= want <= row["hi"] + 1e-9
            assert row["n"] == len(SEATS) // 5 * 5
            assert any("proxy, not validated" in why for why in row["reasons"])
            checked += 1
    assert checked >= 0.8 * MINUTES * len(WATCHED)
    assert 0 < largest <= STEP / 2 + 1e-9
    assert "sound" in str(rows[START, "classroom.feeling"]["reasons"][-1])


def test_order_and_repeats_change_no_byte_and_no_seat_is_named(tmp_path: Path) -> None:
    said, dice = posts(2), random.Random(2)
    first, _ = told(said, tmp_path / "a.jsonl")
    late = sorted(said, key=lambda post: int(str(post["created_at"])) + dice.randrange(4_000))
    other, status = told(sorted(late + dice.sample(late, 60), key=late.index), tmp_path / "b.jsonl")
    assert status.duplicate == 60
    assert other == first
    assert not any(f"{seed:016x}" in line for seed in SEATS for line in first)


@pytest.mark.parametrize("gone", ["face", "voice", "mix"])
def test_words_that_lack_leave_signals_null_and_the_others_as_they_are(gone: str, tmp_path: Path) -> None:
    whole, _ = told(posts(1), tmp_path / "a.jsonl")
    part, _ = told([post for post in posts(1) if not str(post["text"]).startswith(gone)], tmp_path / "b.jsonl")
    value = {row["signal"]: row["value"] for row in map(json.loads, part)}
    before = {row["signal"]: row["value"] for row in map(json.loads, whole)}
    assert set(value) == set(before)
    lost = {"face": {*FACES, "attention", "distraction", "synchrony"}, "voice": {"tone"}, "mix": {*READINGS}}[gone]
    assert all(value[f"classroom.{name}"] is None for name in lost)
    same = {"face": READINGS, "voice": (*CAMERAS, *FACES), "mix": (*FACES, "attention", "distraction")}[gone]
    assert all(value[f"classroom.{name}"] == before[f"classroom.{name}"] for name in same)


def test_cameras_count_only_where_the_gate_lets_them_in(tmp_path: Path) -> None:
    lines, _ = told(posts(1), tmp_path / "a.jsonl", PolicyConfig())
    assert {json.loads(line)["signal"] for line in lines} == {f"classroom.{name}" for name in NAMES}
    with pytest.raises(PolicyRefused, match=r"5\(1\)\(f\)"):
        told(posts(1), tmp_path / "b.jsonl", PolicyConfig(**{**_asdict(POLICY), "jurisdiction": "EU"}))


def test_live_is_replay_with_cameras_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesson_desk, "TICK_S", 0.02)
    room = Class(tmp_path, policy=_asdict(POLICY))
    looked, tick = [0], room.desk.lesson.tick

    def counted(now_ms: int) -> list[Event]:
        looked[0] = now_ms
        return tick(now_ms)

    monkeypatch.setattr(room.desk.lesson, "tick", counted)

    async def whole() -> None:
        async with room.going():
            seats = [room.desk.lesson.join("1", room.desk.lesson.rooms["1"].code, "", room.clock.ms)[1] for _ in SEATS]
            streams = [features.readings(seed, 2, LIVE) for seed in SEATS]
            for seat in seats:
                seat.sockets, seat.readings = 1, SeatReadings()
            while room.clock.ms < LIVE + 3 * features.MINUTE:
                room.clock.ms += 5_000
                for seat, stream in zip(seats, streams, strict=True):
                    while stream and stream[0][0] <= room.clock.ms:
                        _, kind, at, held = stream.pop(0)
                        assert seat.readings is not None
                        if kind == "look":
                            seat.readings.look(at, None if held[0] is None else np.array(held[0]), held[1], held[2])
                        elif kind == "hear":
                            seat.readings.hear(at, np.array(held[0]))
                        elif kind == "say":
                            seat.readings.say(at, np.array(held[0]), held[1])
                        else:
                            seat.readings.lost(at)
                await until(lambda: looked[0] == room.clock.ms and not room.desk._waiting)
            await until(lambda: room.row("feeling", LIVE + 2 * features.MINUTE) is not None)
            assert all(seat.readings is not None and seat.readings.late == 0 for seat in seats)
            for name in ("attention", "feeling", "expression", "engagement.seen"):
                row = room.row(name, LIVE + features.MINUTE)
                assert row is not None
                assert row["value"] is not None, name

    asyncio.run(whole())
    compare_with_replay(room)


def _asdict(policy: PolicyConfig) -> dict[str, object]:
    return {name: getattr(policy, name) for name in policy.__struct_fields__}
