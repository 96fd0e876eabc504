"""A file of posts onto a log: each line once, in the partition of its id, with its time; broken lines as they are."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from operators.arrivals import author_hasher
from stream.base import Record, TopicSpec, partition_of
from stream.errors import UsageError
from stream.ingest import IngestPlan, file_mark, in_seconds, ingest
from stream.memory import MemoryLog

NOW = 1_800_000_000_000
T = 1_790_000_000_000


def plan(path: Path, **more: object) -> IngestPlan:
    fields: dict[str, object] = {
        "path": path, "topic": "t", "partitions": 3, "rank_time_ms": None, "author_key": b"k", "now_ms": NOW, **more
    }  # fmt: skip
    return IngestPlan(**fields)  # type: ignore[arg-type]


def written(path: Path, lines: list[object]) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def sent(*plans: IngestPlan) -> tuple[list[list[Record]], list[tuple[int, int]]]:
    """Records per partition after the plans ran one after the other, and what each said."""

    async def scene() -> tuple[list[list[Record]], list[tuple[int, int]]]:
        log = MemoryLog()
        await log.ensure([TopicSpec("t", 3)])
        said = [await ingest(log, each) for each in plans]
        return [await log.read("t", p, 0, 10_000) for p in range(3)], said

    return asyncio.run(scene())


@pytest.mark.parametrize("name", ["posts.jsonl", "posts.jsonl.gz"])
def test_every_line_lies_once_in_the_partition_of_its_id(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, [{"id": f"p{k}", "text": "t", "created_at": T + k} for k in range(5_000)])
    lanes, said = sent(plan(path), plan(path))
    assert said == [(5_000, 0), (0, 5_000)]
    ids = [[json.loads(r.value)["id"] for r in lane] for lane in lanes]
    for partition, lane in enumerate(ids):
        assert all(partition_of(name.encode(), 3) == partition for name in lane)
        assert lane == sorted(lane, key=lambda name: int(name[1:]))
    assert sorted(name for lane in ids for name in lane) == sorted(f"p{k}" for k in range(5_000))


def test_broken_and_blank_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "p.jsonl", [{"id": "a", "text": "t"}, "", '{"id": "b", "te', "[1, 2]", "   ", "null"])
    lanes, said = sent(plan(path))
    assert said == [(4, 0)]
    assert sorted(r.value for lane in lanes for r in lane) == sorted(
        [b'{"id": "a", "text": "t"}', b'{"id": "b", "te', b"[1, 2]", b"null"]
    )


def test_authors_are_hashed_before_they_reach_the_log(tmp_path: Path) -> None:
    path = written(
        tmp_path / "p.jsonl", [{"id": "a", "text": "t", "author": "jane"}, {"id": "b", "text": "t", "author": 7}]
    )
    lanes, _ = sent(plan(path))
    values = b" ".join(r.value for lane in lanes for r in lane)
    assert b"jane" not in values
    assert f"{author_hasher(b'k')('jane'):016x}".encode() in values


def arrivals(path: Path, **more: object) -> dict[str, int]:
    lanes, _ = sent(plan(path, **more))
    return {json.loads(r.value)["id"]: r.timestamp_ms for lane in lanes for r in lane}


def test_a_past_file_is_its_own_clock(tmp_path: Path) -> None:
    """Arrival time = the newest event time so far; absent and unusable stamps do not move it, nor do future ones."""
    stamps = [None, T + 5, "2026-01-01", T + 3, NOW + 60_001, True, T + 9, "junk"]
    path = written(tmp_path / "p.jsonl", [{"id": f"p{k}", "text": "t", "created_at": s} for k, s in enumerate(stamps)])
    assert list(dict(sorted(arrivals(path).items())).values()) == [T + 5] * 6 + [T + 9] * 2


def test_live_posts_arrive_now(tmp_path: Path) -> None:
    path = written(tmp_path / "p.jsonl", [{"id": "a", "text": "t", "created_at": T}, {"id": "b", "text": "t"}])
    assert arrivals(path, live=True) == {"a": NOW, "b": NOW}


def test_times_by_rank_count_lines_from_the_first_stamp(tmp_path: Path) -> None:
    lines = [{"id": "a", "text": "t"}, "", {"id": "b", "text": "t", "created_at": T}, "{", {"id": "c", "text": "t"}]
    lanes, _ = sent(plan(written(tmp_path / "p.jsonl", lines), rank_time_ms=250.0))
    posts = [json.loads(r.value) for lane in lanes for r in lane if r.value != b"{"]
    assert {post["id"]: post["created_at"] for post in posts} == {"a": T, "b": T + 500, "c": T + 1_000}


def test_another_file_is_another_ingest(tmp_path: Path) -> None:
    one = written(tmp_path / "a.jsonl", [{"id": "a", "text": "t"}])
    same = written(tmp_path / "b.jsonl", [{"id": "a", "text": "t"}])
    other = written(tmp_path / "c.jsonl", [{"id": "c", "text": "t"}])
    assert file_mark(one) == file_mark(same) != file_mark(other)
    _, said = sent(plan(one), plan(same), plan(other))
    assert said == [(1, 0), (0, 1), (1, 0)]


def rotten(path: Path) -> Path:
    """A gzip file with bytes changed in the middle."""
    body = bytearray(
        gzip.compress(b"".join(b'{"id":"%d","text":"%d"}\n' % (k, k * 7919 % 10007) for k in range(5_000)))
    )
    for at in range(len(body) // 2, len(body) // 2 + 40):
        body[at] ^= 0xFF
    path.write_bytes(body)
    return path


def not_there(path: Path) -> Path:
    return path


def a_folder(path: Path) -> Path:
    path.mkdir()
    return path


def not_gzip(path: Path) -> Path:
    path.write_bytes(b'{"id": "a", "text": "t"}\n')
    return path


def no_header(path: Path) -> Path:
    path.write_bytes(b"\x1f\x8bgarbage")
    return path


def cut(path: Path) -> Path:
    path.write_bytes(gzip.compress(b'{"id": "a", "text": "t"}\n' * 9)[:-9])
    return path


@pytest.mark.parametrize("make", [not_there, a_folder, not_gzip, no_header, cut, rotten])
def test_a_file_that_cannot_be_read_is_one_line_that_names_it(tmp_path: Path, make: object) -> None:
    path = make(tmp_path / "odd.jsonl.gz")  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"odd\.jsonl\.gz") as error:
        sent(plan(path))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_byte_order_mark_is_passed_over_and_costs_no_post(tmp_path: Path) -> None:
    bare = written(tmp_path / "bare.jsonl", [{"id": f"p{k}", "text": "t", "created_at": T + k} for k in range(3)])
    for name, pack in (("marked.jsonl", bytes), ("marked.jsonl.gz", gzip.compress)):
        marked = tmp_path / name
        marked.write_bytes(pack(b"\xef\xbb\xbf" + bare.read_bytes()))
        assert sent(plan(marked))[0] == sent(plan(bare))[0]


@pytest.mark.parametrize(
    ("body", "said"),
    [('{"id":"a"}'.encode("utf-16"), "UTF-16; convert"), (gzip.compress(b"{}"), r"gzip; its name must end in \.gz")],
    ids=["UTF-16", "gzip"],  # not the bytes: those of gzip hold the time, and two workers would collect two tests
)
def test_a_file_that_is_no_utf_8_text_is_refused_whole(tmp_path: Path, body: bytes, said: str) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(body)
    with pytest.raises(UsageError, match=said):
        sent(plan(path))


@pytest.mark.parametrize("author", [123456, {"name": "Bob Bobson"}, ["Bob Bobson"], True])
def test_an_author_that_is_no_text_is_not_stored_either(tmp_path: Path, author: object) -> None:
    (lane,) = (
        lane
        for lane in sent(plan(written(tmp_path / "p.jsonl", [{"id": "a", "text": "t", "author": author}])))[0]
        if lane
    )
    assert json.loads(lane[0].value)["author"] == 0


@pytest.mark.parametrize(
    ("given", "found"), [(1_709_562_600, 1_709_562_600), (1_709_562_600_000, None), ("2024-03-04", None), (0, None)]
)
def test_times_in_seconds_are_noticed(tmp_path: Path, given: object, found: int | None) -> None:
    assert in_seconds(written(tmp_path / "p.jsonl", ["broken", {"id": "a", "text": "t", "created_at": given}])) == found
