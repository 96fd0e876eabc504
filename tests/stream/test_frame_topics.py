"""Frames by way of topics: the rows of private mode, whatever is killed; what is malformed, withdrawn or too old."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from test_lesson_live import MINUTE, START, Class, kept, until

from operators.classroom import SIGNALS
from operators.errors import PolicyRefused
from operators.frame_wire import Frame
from stream import frame_strand, lesson_desk
from stream.audit import entries
from stream.base import CommitUnit, Log, Output, TopicSpec
from stream.capture import PICTURE, Piece
from stream.capture_desk import glance
from stream.cli import main
from stream.config import Config
from stream.errors import UsageError
from stream.frame_log import FrameLog
from stream.frame_strand import FrameStrand
from stream.lesson import Seat
from stream.memory import MemoryLog
from stream.permits import permit
from stream.sqlite_log import SqliteLog
from stream.topics import DEAD_LETTER, FRAMES, frame_topics
from stream.topology import build_codec
from tests.stream import kept_frames
from tests.stream.kept_frames import END, MEDIA, POLICY, SEATS, Clock, Sent, alive, written

pytest.importorskip("onnxruntime")
Told = dict[str, tuple[object, ...]]


async def lived(
    room: Class, looks: kept_frames.CaptureDesk, sent: list[Sent]
) -> tuple[Told, list[tuple[int, int, str]]]:
    """A minute of the lesson in which the recording arrives: its rows, and the words said of every seat."""
    begin, ticked = room.clock.ms, [0]
    tick = room.desk.lesson.tick

    def counted(now_ms: int) -> list[lesson_desk.Event]:
        ticked[0] = now_ms
        return tick(now_ms)

    room.desk.lesson.tick = counted  # type: ignore[method-assign]
    async with room.going():
        code = room.desk.lesson.rooms["1"].code
        seats: list[Seat] = []
        for _ in range(SEATS):
            _, seat, events = room.desk.lesson.join("1", code, "", room.clock.ms)
            room.desk.send(events)
            seat.sockets = 1
            seats.append(seat)
        watches = [looks.watch(seat, begin) for seat in seats]
        left = list(sent)
        while room.clock.ms < begin + MINUTE + 30_000:
            now = room.clock.ms
            while left and begin + left[0].at_ms + left[0].delay_ms <= now:
                one = left.pop(0)
                arrived, watch = begin + one.at_ms + one.delay_ms, watches[one.seat]
                piece = Piece(one.piece.kind, one.piece.number, begin + one.piece.sent_ms, one.piece.body)
                room.clock.ms = arrived
                looks.take(watch, piece, arrived)
                assert watch.overtaken == 0
                await glance(looks, room.desk, watch)
            room.clock.ms = now + 1_000
            async with asyncio.timeout(60):
                while not (ticked[0] == room.clock.ms and not room.desk._waiting and read_up_to(room)):  # noqa: ASYNC110
                    await asyncio.sleep(0.003)
        await until(lambda: room.row("feeling", START + MINUTE) is not None)
        rows = {name: room.row(name.removeprefix("classroom."), START + MINUTE) for name in SIGNALS}
        names = {seat.name: k for k, seat in enumerate(seats)}
        said = sorted((names[seat], at, word) for seat, at, word in (await kept_frames.words(room.log)).values())
    facts = ("value", "lo", "hi", "n", "n_eff", "authors", "status", "revision", "reasons")
    return {name: tuple(row[fact] for fact in facts) for name, row in rows.items() if row is not None}, said


def read_up_to(room: Class) -> bool:
    """Whether everything that has arrived is told; at once, where nothing goes over the log."""
    reader = None if room.strand is None else room.strand.reader
    return reader is None or reader.standing.told_ms == room.clock.ms


def test_the_rows_of_private_mode_and_of_topics_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesson_desk, "TICK_S", 0.005)
    monkeypatch.setattr(frame_strand, "TURN_S", 0.005)
    sent = [
        one for one in kept_frames.recorded(62) if one.piece.kind != PICTURE or one.piece.number % 2 == one.seat % 2
    ]
    told = {}
    for mode in ("private", "topics"):
        (tmp_path / mode).mkdir()
        looks = kept_frames.looks(tmp_path)
        room = Class(tmp_path / mode, looks=looks, policy=POLICY, capture={"mode": mode}, seats=SEATS)
        told[mode] = asyncio.run(lived(room, looks, sent))
        if room.strand is not None:
            reader = room.strand.reader
            assert reader is not None
            assert reader.counts == {
                "read": reader.counts["scored"],
                "scored": reader.counts["scored"],
            } | dict.fromkeys(("repeated", "withdrawn", "rejected", "missed"), 0)
            assert reader.counts["read"] > 0.9 * len(sent)
    rows, words = told["private"]
    assert rows == told["topics"][0]
    assert words == told["topics"][1]
    assert {word.split()[0] for _, _, word in words} == {"face", "voice", "mix"}
    known = {name for name, row in rows.items() if row[0] is not None}
    assert {"classroom.attention", "classroom.tone", "classroom.feeling"} <= known
    assert ("classroom.expression" in known) == MEDIA.is_file()


class Gone(Exception):
    """The process is no more."""


class Dying:
    """A log whose process ends at some commits, just before or just after."""

    def __init__(self, log: Log, dice: random.Random | None) -> None:
        self._log, self._dice = log, dice
        self.topics, self.span, self.read = log.topics, log.span, log.read
        self.committed, self.restore, self.ensure, self.join = log.committed, log.restore, log.ensure, log.join
        self.close = log.close

    async def commit(self, unit: CommitUnit) -> None:
        lot = 1.0 if self._dice is None else self._dice.random()
        if lot < 0.15:
            raise Gone
        await self._log.commit(unit)
        if lot < 0.3:
            raise Gone


async def letters(log: Log) -> list[bytes]:
    return [record.value for record in await log.read(DEAD_LETTER, 0, 0, 1_000)]


def test_a_reader_that_is_killed_again_and_again_says_the_same_words(tmp_path: Path) -> None:
    looks, sent = kept_frames.looks(tmp_path), kept_frames.recorded(40, 2)

    async def whole(dice: random.Random | None) -> tuple[list[tuple[str, int, str]], dict[str, int], int, int]:
        log, deaths = MemoryLog(Clock(END)), 0
        await written(log, looks, sent, Clock(END))
        await log.commit(CommitUnit("t", outputs=[Output(FRAMES[0], 0, b"1", b"\0junk", END)] * 3))
        while True:
            reader = await alive(log, looks, Clock(END))
            reader._log = Dying(log, dice)
            try:
                await reader.catch_up()
            except Gone:
                deaths += 1
                continue
            said = sorted((await kept_frames.words(log)).values())
            return said, dict(reader.counts), len(await letters(log)), deaths

    said, counts, dead, _ = asyncio.run(whole(None))
    again, counts_again, dead_again, deaths = asyncio.run(whole(random.Random(3)))
    assert deaths >= 3
    assert again == said
    assert counts_again == counts
    assert dead == dead_again == counts["rejected"] == 3
    assert counts["read"] == sum(counts.values()) - counts["read"] == counts["scored"] + 3 == len(sent) + 3


def test_what_cannot_be_scored_is_a_dead_letter_without_a_byte_of_the_frame(tmp_path: Path) -> None:
    looks, codec = kept_frames.looks(tmp_path), build_codec()
    shown = kept_frames.pictures()[0]
    mark = shown[-100:-40]
    good = Frame(
        room="1", seat="s", number=1, captured_ms=START, arrived_ms=START, codec="jpeg", width=120, height=120,
        body=shown,
    )  # fmt: skip
    replace, size = msgspec.structs.replace, shown.index(b"\xff\xc0")
    hollow = shown[: size + 2 + int.from_bytes(shown[size + 2 : size + 4])] + mark + b"\xff\xd9"  # a header, no picture
    bad = [
        replace(good, codec="pcm16"), replace(good, codec="unknown"), replace(good, width=121),
        replace(good, width=None), replace(good, room="no such room"), replace(good, room="2"), replace(good, seat=""),
        replace(good, number=-1), replace(good, arrived_ms=END + 3_600_000), replace(good, captured_ms=END),
        replace(good, body=b""), replace(good, body=hollow, number=2),
        replace(good, body=mark * 9_000),
    ]  # fmt: skip
    raw = [codec.encode(one) for one in bad]
    raw += [b"", mark, raw[0][:200] + mark, b"\0" + mark, b'{"body": "' + mark.hex().encode() + b'"}']
    odd = replace(good, codec="pcm16", width=None, height=None, rate=16_000, body=b"odd")
    sounds = [codec.encode(one) for one in (odd, replace(odd, rate=8_000, body=b"even"), replace(good, body=mark))]

    async def whole() -> tuple[dict[str, int], list[bytes]]:
        log = MemoryLog(Clock(END))
        await log.ensure([*frame_topics(600_000), TopicSpec(kept_frames.PARTICIPATION), TopicSpec(DEAD_LETTER)])
        outputs = [Output(FRAMES[0], 0, b"1", value, START) for value in [codec.encode(good), *raw]]
        outputs += [Output(FRAMES[1], 0, b"1", value, START) for value in sounds]
        await log.commit(CommitUnit("t", outputs=outputs))
        reader = await alive(log, looks, Clock(END))
        await reader.catch_up()
        return dict(reader.counts), await letters(log)

    counts, found = asyncio.run(whole())
    assert counts["rejected"] == len(found) == len(raw) + len(sounds)
    assert counts["read"] == counts["scored"] + counts["rejected"] == 1 + len(raw) + len(sounds)
    dead = [codec.decode_dead_letter(one) for one in found]
    digests = {hashlib.sha256(value).hexdigest() for value in [*raw, *sounds, hollow]}
    assert {one.detail.split()[1].rstrip(":") for one in dead} <= digests
    assert all(one.size_bytes in {len(value) for value in [*raw, *sounds, hollow]} for one in dead)
    assert {"bad_frame", "bad_magic", "not_a_picture", "not_a_sound", "too_large", "empty"} <= {
        one.reason for one in dead
    }
    for k in range(0, len(mark) - 8, 8):
        assert not any(mark[k : k + 8] in one for one in found)


def test_withdrawn_seats_are_dropped_by_writer_and_reader_after_a_restart_too(tmp_path: Path) -> None:
    looks, sent = kept_frames.looks(tmp_path), kept_frames.recorded(15)

    async def whole() -> None:
        log = MemoryLog(Clock(END))
        await written(log, looks, sent, Clock(END))
        keeper = looks.keeper
        assert isinstance(keeper, FrameLog)
        keeper.forget("seat-2")
        await keeper.flush()
        one = sent[0].piece
        watch = looks.watch(Seat("seat-2", "1", START, START), START)
        looks.take(watch, Piece(PICTURE, 1, START, one.body), START + 21_000)
        assert watch.overtaken == 1, "nothing of it is written any more"
        reader = await alive(log, looks, Clock(END))
        await reader.catch_up()
        said = await kept_frames.words(log)
        assert {seat for seat, _, _ in said.values()} == {f"seat-{k}" for k in (0, 1, 3, 4)}
        assert reader.counts["withdrawn"] == sum(one.seat == 2 for one in sent)
        assert reader.counts["read"] == reader.counts["scored"] + reader.counts["withdrawn"]

    asyncio.run(whole())


def test_what_is_over_its_retention_is_in_no_file_any_more(tmp_path: Path) -> None:
    looks, clock = kept_frames.looks(tmp_path), Clock(END)
    sent = kept_frames.recorded(20, 2)
    (tmp_path / "log").mkdir()
    mark = kept_frames.pictures()[1][-300:-200]

    async def whole() -> None:
        log = SqliteLog(tmp_path / "log" / "run.db", clock=clock)
        await written(log, looks, sent, Clock(END))
        reader = await alive(log, looks, Clock(END))
        await reader.catch_up()
        assert kept(tmp_path / "log", mark) != []
        clock.ms += 600_000
        await reader.commit()  # what a run does every half minute, though nothing comes
        assert kept(tmp_path / "log", mark) == []
        assert all(first == end for first, end in await log.span(FRAMES[0]))
        assert await kept_frames.words(log) != {}
        await log.close()

    asyncio.run(whole())


def test_a_topic_that_keeps_longer_than_people_are_told_is_refused(tmp_path: Path) -> None:
    room = Class(tmp_path, policy=POLICY, capture={"mode": "topics"}, seats=SEATS)

    class Foreign(MemoryLog):
        """Keeps what it was made with, as a broker does."""

        async def ensure(self, topics: Iterable[TopicSpec]) -> None:
            known = {spec.name for spec in await self.topics()}
            await super().ensure([spec for spec in topics if spec.name not in known])

    async def whole() -> None:
        log = Foreign()
        await log.ensure([TopicSpec(FRAMES[1], 1, 3_600_000)])
        strand = FrameStrand(room.config, room.clock)
        with pytest.raises(UsageError, match="keeps frames for 3600 s, people are told 10m"):
            await strand.start(log, kept_frames.looks(tmp_path), 1)
        assert not strand.alive
        await room.log.close()

    asyncio.run(whole())
    room.audit.close()


@pytest.mark.parametrize("setting", ["education", "workplace"])
@pytest.mark.parametrize("where", ["US", "EU"])
def test_frames_are_kept_in_no_school_and_at_no_work(
    where: str, setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        f'domain = "classroom"\n[log]\nurl = "sqlite:///{tmp_path}/x.db"\n[windows]\nsizes = ["1m"]\n[capture]\n'
        f'mode = "topics"\n[policy]\njurisdiction = "{where}"\nsetting = "{setting}"\nresearch = true\n'
        'modalities = ["text", "participation", "face"]\npurpose = "medical"\nunit = "group"\ncontroller = "C"\n'
        f'document = "D"\naudit = "{tmp_path}/a.jsonl"\n'
    )
    assert main(["run", "-c", str(file), "--seconds", "1"]) == 78
    assert 'set capture.mode to "private"' in capsys.readouterr().err
    assert not (tmp_path / "x.db").exists()
    gate = [entry for entry in entries(tmp_path / "a.jsonl") if entry.kind == "gate"]
    assert [(entry.facts["outcome"], entry.facts["frames"]) for entry in gate] == [("prohibited", "topics")]
    with pytest.raises(PolicyRefused, match="declare face or voice"):
        permit(
            msgspec.convert(
                {"domain": "classroom", "capture": {"mode": "topics"}, "windows": {"sizes": ["1m"]}}, Config
            )
        )
