"""The audit log: a chain that shows every change, goes on after a crash, and has no field for a person."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from stream.audit import KINDS, Audit, Entry, entries, verify
from stream.errors import LogCorrupt, StreamError, UsageError


class Clock:
    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        self.ms += 1
        return self.ms


def written(path: Path, count: int = 5) -> str:
    audit = Audit(path, Clock())
    for k in range(count):
        audit.note("consent", room="7B", given=k, withdrawn=0, seats=k)
    audit.close()
    return verify(path).head


def test_a_chain_verifies_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    head = written(path)
    assert verify(path).entries == 5
    assert path.stat().st_mode & 0o777 == 0o600
    assert written(path, 2) != head
    assert verify(path, head).entries == 7
    assert [e.seq for e in entries(path)] == list(range(7))


def flip(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b'"seats":2', b'"seats":9'), *lines[3:]]


def rehash(lines: list[bytes]) -> list[bytes]:
    """A careful forger: the changed line gets a hash that fits it, the next one still follows the old."""
    from stream.audit import _chained

    old = msgspec.json.decode(lines[2], type=Entry)
    new = _chained(old.seq, old.time_ms, old.kind, {**old.facts, "seats": 9}, old.prev)
    return [*lines[:2], msgspec.json.encode(new) + b"\n", *lines[3:]]


def swap(lines: list[bytes]) -> list[bytes]:
    return [*lines[:1], lines[2], lines[1], *lines[3:]]


def drop(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], *lines[3:]]


def behead(lines: list[bytes]) -> list[bytes]:
    return lines[1:]


@pytest.mark.parametrize("tamper", [flip, rehash, swap, drop, behead])
def test_tampering_is_found_and_stops_the_next_start(tamper: object, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written(path)
    assert callable(tamper)
    path.write_bytes(b"".join(tamper(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(LogCorrupt, match="line"):
        verify(path)
    with pytest.raises(LogCorrupt):
        Audit(path, Clock())


def test_a_cut_tail_or_a_new_file_is_found_by_a_head_kept_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    head = written(path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert verify(path).entries == 4
    with pytest.raises(LogCorrupt, match="cut off"):
        verify(path, head)


def test_a_line_half_written_by_a_crash_is_cut_and_said(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written(path)
    whole = path.read_bytes()
    for size in (1, 40, len(whole.splitlines()[-1])):
        path.write_bytes(whole[: len(whole) - size])
        cut = len(path.read_bytes()) - (path.read_bytes().rfind(b"\n") + 1)
        with pytest.raises(LogCorrupt):
            verify(path)
        Audit(path, Clock()).close()
        last = list(entries(path))[-1]
        assert (last.kind, last.facts) == ("mended", {"bytes_cut": cut})


def test_two_processes_do_not_write_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    first = Audit(path, Clock())
    with pytest.raises(UsageError, match="another process"):
        Audit(path, Clock())
    first.close()
    Audit(path, Clock()).close()


def test_no_kind_has_a_field_for_a_person_and_no_other_field_is_taken(tmp_path: Path) -> None:
    fields = set().union(*KINDS.values())
    assert fields.isdisjoint({"person", "seat", "face", "name", "author", "student", "text"})
    audit = Audit(tmp_path / "a.jsonl", Clock())
    for kind, facts in (("consent", {"seat": "4"}), ("gossip", {"room": "1"})):
        with pytest.raises(StreamError, match="no fields"):
            audit.note(kind, **facts)
    with pytest.raises(StreamError, match="bytes, at most"):
        audit.note("gate", message="x" * 5000)
    audit.close()
    assert verify(tmp_path / "a.jsonl").entries == 0


@pytest.mark.skipif(os.geteuid() != 0 and not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_error() -> None:
    audit = Audit.__new__(Audit)
    audit.path, audit._clock, audit._seq, audit._head = Path("/dev/full"), Clock(), 0, "0" * 64
    audit._file = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(StreamError, match="cannot be written: No space"):
        audit.note("admin", act="start")
    os.close(audit._file)
