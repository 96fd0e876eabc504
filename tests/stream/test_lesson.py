"""The rules of a lesson: consent, codes, one answer each, limits, withdrawal; a made-up lesson read back exactly."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from pathlib import Path

import pytest

from operators.classroom import NAMES
from operators.records import MICRO
from stream.config import load_config
from stream.errors import UsageError
from stream.lesson import AWAY_MS, BURST, HERE_EVERY_MS, MOST_SEATS, Lesson, Refused
from stream.memory import MemoryLog
from stream.replaying import replay, replay_config
from stream.scenario_lesson import GONE_AT, lesson

NOW = 1_700_000_041_000
BEGUN = NOW // 60_000 * 60_000


def made() -> tuple[Lesson, str, list[tuple[str, int, int, int]]]:
    told: list[tuple[str, int, int, int]] = []
    one = Lesson(("1", "2"), 60_000, 20_000, lambda *change: told.append(change))
    return one, one.room("1").code, told


def test_joining_takes_the_code_and_gives_a_random_seat() -> None:
    rooms, code, told = made()
    for name, given in (("1", "WRONG1"), ("1", ""), ("2", code), ("3", code)):
        with pytest.raises(Refused):
            rooms.join(name, given, "", NOW)
    key, seat, events = rooms.join("1", f" {code.lower()} ", "", NOW)
    assert [(e.word, e.seat, e.room) for e in events] == [("here", seat.name, "1")]
    assert seat.name not in key
    again, same, more = rooms.join("1", code, key, NOW + 5)
    assert (again, same is seat, more) == (key, True, [])
    assert told == [("1", 1, 0, 1)]
    rooms.renew("1")
    with pytest.raises(Refused, match="no longer"):
        rooms.join("1", code, "", NOW)


def test_a_room_has_an_end() -> None:
    rooms, code, _ = made()
    names = {rooms.join("1", code, "", NOW)[1].name for _ in range(MOST_SEATS)}
    assert len(names) == MOST_SEATS
    with pytest.raises(Refused, match="full"):
        rooms.join("1", code, "", NOW)


def test_a_seat_does_so_much_and_no_more() -> None:
    rooms, code, _ = made()
    _, seat, _ = rooms.join("1", code, "", NOW)
    for _ in range(int(BURST)):
        rooms.act(seat, NOW)
    with pytest.raises(Refused, match="slow down"):
        rooms.act(seat, NOW)
    rooms.act(seat, NOW + 500)
    assert [e.word for e in rooms.press(seat, "lost", NOW)] == ["lost"]
    for word in ("gone", "here", "answer 1 1 5", "chat 1 1", ""):
        with pytest.raises(Refused, match="no such button"):
            rooms.press(seat, word, NOW)


def test_a_question_is_answered_once_by_each_and_closes() -> None:
    rooms, code, _ = made()
    _, seat, _ = rooms.join("1", code, "", NOW)
    for options, right in ((["a"], None), (["a", "b"], 2), ([" ", "b"], None)):
        with pytest.raises(Refused):
            rooms.ask("1", "?", options, right, NOW)
    asked = rooms.ask("1", " 7 x\n8? ", ["54", "56", ""], 1, NOW)
    assert (asked.text, asked.options) == ("7 x 8?", ("54", "56"))
    for number, option in ((asked.number + 1, 0), (asked.number, 2), (asked.number, -1)):
        with pytest.raises(Refused):
            rooms.reply(seat, number, option, NOW)
    assert [e.word for e in rooms.reply(seat, asked.number, 1, NOW + 4_000)] == ["answer 1 1 4000"]
    with pytest.raises(Refused, match="already"):
        rooms.reply(seat, asked.number, 0, NOW)
    rooms.close("1")
    with pytest.raises(Refused, match="closed"):
        rooms.reply(seat, asked.number, 0, NOW)


def test_withdrawing_drops_the_link_and_marks_every_open_minute() -> None:
    rooms, code, told = made()
    key, seat, _ = rooms.join("1", code, "", BEGUN + 5_000)
    events = rooms.withdraw(key, seat, BEGUN + 10_000)
    assert [(e.word, e.time_ms) for e in events] == [("gone", BEGUN - 1), ("gone", BEGUN + 10_000)]
    assert rooms.room("1").seats == {}
    assert rooms.withdraw(key, seat, BEGUN + 10_001) == []
    fresh, other, _ = rooms.join("1", code, key, BEGUN + 11_000)
    assert fresh != key
    assert other.name != seat.name
    assert [(e.word, e.time_ms) for e in rooms.withdraw(fresh, other, BEGUN + 30_000)] == [("gone", BEGUN + 30_000)]
    assert [change[1:3] for change in told] == [(1, 0), (0, 1), (1, 0), (0, 1)]


def test_seats_say_that_they_are_there_and_are_let_go_when_away() -> None:
    rooms, code, _ = made()
    _, near, _ = rooms.join("1", code, "", NOW)
    _, far, _ = rooms.join("1", code, "", NOW)
    near.sockets = 1
    assert rooms.tick(NOW + HERE_EVERY_MS - 1) == []
    assert {e.seat for e in rooms.tick(NOW + HERE_EVERY_MS)} == {near.name, far.name}
    assert {e.seat for e in rooms.tick(NOW + AWAY_MS + 1)} == {near.name}
    assert len(rooms.room("1").seats) == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AFFECT_CLASSROOM__SEATS", "4", "classroom.seats: expected 5"),
        ("AFFECT_WINDOWS__SIZES", "1m,5m", "overlap"),
        ("AFFECT_WINDOWS__SIZES", "5m/1m", "overlap"),
        ("AFFECT_WINDOWS__SIZES", "30s", "1m or longer"),
        ("AFFECT_CLASSROOM__ROOMS", "a b", "letters"),
        ("AFFECT_CLASSROOM__ROOMS", "a,a", "different"),
        ("AFFECT_RUN__SHED_ABOVE", "10", "shed_above"),
    ],
)
def test_what_protects_seats_cannot_be_set_away(name: str, value: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_config("deploy/config/classroom.toml", {name: value})
    load_config("deploy/config/classroom.toml", {"AFFECT_CLASSROOM__SEATS": "5"})


def trimmed(numbers: list[float]) -> float:
    kept = sorted(numbers)[1:-1]
    return sum(kept) / len(kept)


def test_a_lesson_read_back_is_what_plain_python_makes_of_it(tmp_path: Path) -> None:
    """An independent computation by seat and minute: same rows, and the planted chances lie within the intervals."""
    minutes = 40
    made_up = lesson(11, minutes, BEGUN)
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(map(json.dumps, made_up.posts)) + "\n")
    config = replay_config("classroom", windows=["1m"], lateness="5s", disorder="5s", engine="stub")
    rows, status = asyncio.run(replay(MemoryLog(), config, path))
    assert (status.consumed, status.applied) == (len(made_up.posts), len(made_up.posts))
    said: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for post in made_up.posts:
        said[int(str(post["created_at"])) // 60_000][str(post["author"])].append(str(post["text"]))
    found = {(row["window_start"] // 60_000, row["signal"]): row for row in map(json.loads, rows.lines())}
    assert {row["entity"] for row in found.values()} == {"room:1"}
    assert len(found) == minutes * len(NAMES)
    first = set(said[BEGUN // 60_000])
    checked = 0
    for minute in sorted(said)[: int(GONE_AT * minutes) - 1]:  # up to here the seats counted are those there at first
        seats = [words for seat, words in said[minute].items() if seat in first]
        acts = [sum(w not in ("here", "gone") for w in words) for words in seats]
        confusion, pace = [], []
        for words in seats:
            lines = [int(w.split()[2]) / MICRO for w in words if w.startswith("chat")]
            confusion.append(1.0 if "lost" in words else sum(lines) / len(lines) if lines else 0.0)
            pace.append(float("fast" in words) - float("slow" in words))
        want = {
            "engagement": trimmed([1 - 0.5**a for a in acts]),
            "participation": trimmed([float(a > 0) for a in acts]),
            "confusion": trimmed(confusion),
            "pace": trimmed(pace),
            "hands": trimmed([float("hand" in words) for words in seats]),
        }
        for name, value in want.items():
            row = found[minute, f"classroom.{name}"]
            assert abs(row["value"] - value) <= 0.025 + 1e-9, (minute, name)
            assert row["lo"] <= value + 1e-9
            assert row["hi"] >= value - 1e-9
            assert row["n"] == len(first) // 5 * 5
            checked += 1
    assert checked > 100
    planted = [
        (t, found[t.minute_ms // 60_000, f"classroom.{t.channel}"]) for t in made_up.truth if t.channel == "pace"
    ]
    inside = sum(row["lo"] - 1e-9 <= t.planted <= row["hi"] + 1e-9 for t, row in planted if row["value"] is not None)
    assert inside >= 0.85 * len(planted)
