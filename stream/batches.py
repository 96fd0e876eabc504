"""Outputs of a commit as batches: cut per partition, packed into one checked blob, and read back as records.

A log stores batches, never single records: 500 posts are one row. A blob is a msgpack list of (key, value, timestamp)
with a crc32 over what it holds and where it belongs, so a flipped bit or a swapped row is found when it is read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from stream.base import Output, Record
from stream.errors import LogCorrupt

MAX_RECORDS = 1024
"""A batch is read and unpacked as a whole: larger ones would make small reads dear."""

MAX_BYTES = 1 << 20
"""A batch is closed once its values are this many bytes together."""

Entry = tuple[bytes | None, bytes, int]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition that are stored together. `newest_ms`: largest timestamp, what retention looks at."""

    topic: str
    partition: int
    entries: Sequence[Entry]
    newest_ms: int


def batches(outputs: Sequence[Output]) -> Iterator[Batch]:
    """Cut `outputs` into batches; the order within each partition is kept."""
    lanes: dict[tuple[str, int], list[Entry]] = {}
    for topic, partition, key, value, timestamp_ms in outputs:
        lane = lanes.get((topic, partition))
        if lane is None:
            lane = lanes[topic, partition] = []
        lane.append((key, value, timestamp_ms))
    for (topic, partition), lane in lanes.items():
        begin = size = 0
        for k, entry in enumerate(lane):
            size += len(entry[1])
            if size >= MAX_BYTES or k + 1 - begin >= MAX_RECORDS or k + 1 == len(lane):
                cut = lane[begin : k + 1]
                yield Batch(topic, partition, cut, max(e[2] for e in cut))
                begin, size = k + 1, 0


def records(entries: Sequence[Entry], base: int) -> list[Record]:
    """The entries with their offsets, the first one at `base`."""
    return [Record(base + k, key, value, ts) for k, (key, value, ts) in enumerate(entries)]


def pack(entries: Sequence[Entry]) -> bytes:
    """The blob for `entries`."""
    return _encode(entries)


def checksum(blob: bytes, topic: str, partition: int, base: int, count: int) -> int:
    """crc32 of a blob and of the place it belongs to."""
    return zlib.crc32(blob, zlib.crc32(f"{topic}/{partition}/{base}/{count}".encode()))


def state_checksum(group: str, key: str, value: bytes) -> int:
    """crc32 of a state value and of the place it belongs to."""
    return zlib.crc32(value, zlib.crc32(f"{group}/{key}".encode()))


def unpack(blob: bytes, crc: int, where: str, topic: str, partition: int, base: int, count: int) -> list[Record]:
    """The records in `blob`, the first one at offset `base`. `where` names the file.

    Raises:
        LogCorrupt: the blob is not what was written.
    """
    if checksum(blob, topic, partition, base, count) == crc:
        return records(_decode(blob), base)
    raise LogCorrupt(
        f"{where}: topic {topic!r} partition {partition}: the batch at offset {base} ({count} records) does not match "
        f"its checksum; restore the file from a backup, or start a new one and replay the input"
    )
