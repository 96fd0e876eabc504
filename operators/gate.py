"""The gate before every decoder: raw bytes in, the writer's schema out, or `Rejected` with a fixed word.

Needs no decoder itself. What it lets pass is bounded: at most `max_bytes`, JSON at most `max_depth` levels, Avro only
under a schema the registry admitted, walked to the last byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from operators.errors import Rejected, SchemaUnknown
from operators.prewalk import Walk, compile_walk
from operators.records import Bools
from operators.schema import Schema, SchemaRegistry

MAX_BYTES: Final = 262_144
MAX_JSON_DEPTH: Final = 32
HEADER: Final = 5
"""Bytes of the Confluent frame: magic 0, then the schema id, big-endian."""

_STRINGS = re.compile(rb'"(?:[^"\\]+|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(c for c in range(256) if c not in b"{}[]")
_SPACE = b" \t\r\n"


def frame(schema_id: int) -> bytes:
    """The five bytes before an Avro body."""
    return b"\0" + schema_id.to_bytes(4, "big")


def json_depth(raw: bytes, limit: int) -> int:
    """Deepest nesting of objects and arrays outside strings; exact only where it may exceed `limit`, linear time."""
    most = raw.count(b"{") + raw.count(b"[")
    if most <= limit:
        return most
    depth = deepest = 0
    for byte in _STRINGS.sub(b"", raw).translate(None, _NOT_BRACKETS):
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


class Gate:
    """Checks one message; not bound to a topic or a record type.

    Args:
        registry: where schema ids are looked up, once per id.
        max_bytes: largest message; 256 KiB holds any post, panes need more.
        max_depth: deepest JSON nesting.

    Example:
        >>> from operators.registry import FileRegistry
        >>> gate = Gate(FileRegistry())
        >>> gate.check(b'{"id": "1", "text": "hello"}') is None
        True
        >>> gate.check(b"hello")
        Traceback (most recent call last):
        operators.errors.Rejected: bad_magic: expected byte 0 (Avro) or { (JSON) first, got 0x68
    """

    def __init__(self, registry: SchemaRegistry, max_bytes: int = MAX_BYTES, max_depth: int = MAX_JSON_DEPTH) -> None:
        self._registry = registry
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._known: dict[bytes, tuple[Schema, Walk]] = {}

    def check(self, raw: bytes | None) -> Schema | None:
        """Let a message pass or refuse it.

        Returns:
            The writer's schema of an Avro message (its body starts at byte `HEADER`), None for JSON.

        Raises:
            Rejected: nothing else, whatever the bytes.
        """
        if not raw:
            raise Rejected("empty", "expected a message, got no bytes")
        if len(raw) > self._max_bytes:
            raise Rejected("too_large", f"expected at most {self._max_bytes} bytes, got {len(raw)}")
        first = raw[0]
        if first == 0:
            return self._avro(raw)
        if first in _SPACE:
            first = raw.lstrip(_SPACE)[:1] == b"{" and 0x7B
        if first != 0x7B:
            raise Rejected("bad_magic", f"expected byte 0 (Avro) or {{ (JSON) first, got 0x{raw[0]:02x}")
        if raw.count(b"{") + raw.count(b"[") > self._max_depth or not raw.isascii():
            self._json(raw)
        return None

    def plain_json(self, messages: Sequence[bytes]) -> Bools:
        """bool [n]: which messages `check` lets pass as JSON; of the others nothing is said. For whole batches."""
        joined = b"\n".join((*messages, b""))
        sizes = np.fromiter(map(len, messages), np.int64, len(messages))
        starts = np.cumsum(sizes + 1) - (sizes + 1)
        symbols = np.frombuffer(joined, np.uint8)
        # Bit 5 is all that [ and { differ in.
        opening = np.flatnonzero((symbols | 0x20) == 0x7B)
        opened = np.diff(np.searchsorted(opening, np.append(starts, len(joined))))
        plain = (symbols[starts] == 0x7B) & (sizes <= self._max_bytes) & (opened <= self._max_depth)
        if not joined.isascii():
            try:
                joined.decode()
            except UnicodeDecodeError:
                plain &= np.fromiter(map(bytes.isascii, messages), np.bool_, len(messages))
        return np.asarray(plain)

    def _json(self, raw: bytes) -> None:
        if json_depth(raw, self._max_depth) > self._max_depth:
            raise Rejected("too_deep", f"expected JSON of at most {self._max_depth} levels")
        try:
            raw.decode()
        except UnicodeDecodeError as problem:
            raise Rejected("bad_utf8", f"JSON is not UTF-8 at byte {problem.start}") from None

    def _avro(self, raw: bytes) -> Schema:
        known = self._known.get(raw[:HEADER])
        if known is None:
            known = self._look_up(raw)
        schema, walk = known
        size = len(raw)
        try:
            after = walk(raw, HEADER, size)
        except IndexError:
            raise Rejected("truncated", f"{size} bytes end before the record of schema {schema.id} does") from None
        except UnicodeDecodeError as problem:
            raise Rejected("bad_utf8", f"a string of schema {schema.id} is not UTF-8: {problem.reason}") from None
        if after != size:
            raise Rejected("trailing_bytes", f"the record of schema {schema.id} ends at byte {after} of {size}")
        return schema

    def _look_up(self, raw: bytes) -> tuple[Schema, Walk]:
        if len(raw) <= HEADER:
            raise Rejected("truncated", f"expected more than the {HEADER} bytes of a frame, got {len(raw)}")
        schema_id = int.from_bytes(raw[1:HEADER], "big")
        try:
            schema = self._registry.by_id(schema_id)
        except SchemaUnknown as problem:
            raise Rejected("unknown_schema", str(problem)) from None
        known = self._known[raw[:HEADER]] = (schema, compile_walk(schema.type))
        return known
