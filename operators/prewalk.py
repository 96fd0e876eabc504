"""Compiles a schema into a function that walks the bytes of one Avro value and builds nothing.

Every number, length, block count, union branch and enum symbol is checked against the schema and the bytes left, so
that a decoder let loose on the same bytes afterwards meets no surprise. Compiled once per schema, called per message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from operators.errors import Rejected
from operators.schema import Type

Walk = Callable[[bytes, int, int], int]
"""(bytes, position, end) -> position after the value.

`end` is `len(bytes)`. Raises Rejected, IndexError (the bytes ended early) or UnicodeDecodeError; the gate translates.
"""

_LONGEST: Final = {"int": (5, 0x0F), "long": (10, 0x01)}
"""Kind -> most bytes of its varint, and the largest last byte then."""


def compile_walk(node: Type) -> Walk:
    """The walker of one type."""
    kind = node.kind
    if kind in _LONGEST:
        return _number(kind)
    if kind in ("string", "bytes"):
        return _string if kind == "string" else _bytes
    if kind in ("float", "double", "fixed"):
        return _fixed({"float": 4, "double": 8, "fixed": node.size}[kind])
    if kind == "array":
        return _array(compile_walk(node.items[0]), node.items[0].min_bytes)
    if kind == "map":
        return _array(_record((_string, compile_walk(node.items[0]))), 1 + node.items[0].min_bytes)
    if kind == "record":
        return _record(tuple(compile_walk(f.type) for f in node.fields))
    if kind == "union":
        return _union(node.items)
    if kind == "enum":
        return _enum(len(node.symbols))
    return _boolean if kind == "boolean" else _null


def unsigned(buf: bytes, pos: int) -> tuple[int, int]:
    """An unsigned 64-bit varint at `pos`: its value, and the position after it."""
    value = shift = 0
    while True:
        byte = buf[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, pos
        shift += 7
        if shift > 63:
            break
    raise Rejected("bad_varint", f"a number longer than 64 bits at byte {pos}")


def signed(buf: bytes, pos: int) -> tuple[int, int]:
    """A zigzag 64-bit number at `pos`: its value, and the position after it."""
    raw, pos = unsigned(buf, pos)
    return (raw >> 1) ^ -(raw & 1), pos


def _past_text(buf: bytes, pos: int, end: int) -> tuple[int, int]:
    """Start and end of a length-prefixed value at `pos`."""
    size = buf[pos]
    if size < 0x80:
        pos += 1
    else:
        size, pos = unsigned(buf, pos)
    if size & 1:
        raise Rejected("bad_length", f"a negative length before byte {pos}")
    stop = pos + (size >> 1)
    if stop > end:
        raise Rejected("truncated", f"a length of {size >> 1} at byte {pos}, {end - pos} bytes left")
    return pos, stop


def _string(buf: bytes, pos: int, end: int) -> int:
    size = buf[pos]
    stop = pos + 1 + (size >> 1)
    if size < 0x80 and not size & 1 and stop <= end:
        buf[pos + 1 : stop].decode()
        return stop
    pos, stop = _past_text(buf, pos, end)
    buf[pos:stop].decode()
    return stop


def _bytes(buf: bytes, pos: int, end: int) -> int:
    return _past_text(buf, pos, end)[1]


def _null(_buf: bytes, pos: int, _end: int) -> int:
    return pos


def _boolean(buf: bytes, pos: int, _end: int) -> int:
    if buf[pos] > 1:
        raise Rejected("bad_value", f"a boolean of {buf[pos]} at byte {pos}")
    return pos + 1


def _number(kind: str) -> Walk:
    longest, top = _LONGEST[kind]

    def walk(buf: bytes, pos: int, _end: int) -> int:
        if buf[pos] < 0x80:
            return pos + 1
        last = pos + longest - 1
        for at in range(pos + 1, last):
            if buf[at] < 0x80:
                return at + 1
        if buf[last] > top:
            raise Rejected("bad_varint", f"a number too long for {kind} at byte {pos}")
        return last + 1

    return walk


def _fixed(size: int) -> Walk:
    def walk(_buf: bytes, pos: int, end: int) -> int:
        if pos + size > end:
            raise Rejected("truncated", f"{size} bytes wanted at byte {pos}, {end - pos} left")
        return pos + size

    return walk


def _enum(symbols: int) -> Walk:
    def walk(buf: bytes, pos: int, _end: int) -> int:
        index, after = signed(buf, pos)
        if not 0 <= index < symbols:
            raise Rejected("bad_index", f"enum symbol {index} of {symbols} at byte {pos}")
        return after

    return walk


def _record(walks: tuple[Walk, ...]) -> Walk:
    def walk(buf: bytes, pos: int, end: int) -> int:
        for one in walks:
            pos = one(buf, pos, end)
        return pos

    return walk


def _union(branches: tuple[Type, ...]) -> Walk:
    walks = tuple(compile_walk(b) for b in branches)
    if len(branches) == 2 and "null" in (branches[0].kind, branches[1].kind):
        null = 0 if branches[0].kind == "null" else 2
        other = branches[1 if null == 0 else 0]
        return _optional_string(null) if other.kind == "string" else _optional(null, walks[1 if null == 0 else 0])

    def walk(buf: bytes, pos: int, end: int) -> int:
        tag = buf[pos]
        if tag & 1 or tag >> 1 >= len(walks):
            raise _no_branch(tag, pos)
        return walks[tag >> 1](buf, pos + 1, end)

    return walk


def _optional(null: int, inner: Walk) -> Walk:
    def walk(buf: bytes, pos: int, end: int) -> int:
        tag = buf[pos]
        if tag == null:
            return pos + 1
        if tag != 2 - null:
            raise _no_branch(tag, pos)
        return inner(buf, pos + 1, end)

    return walk


def _optional_string(null: int) -> Walk:
    def walk(buf: bytes, pos: int, end: int) -> int:
        tag = buf[pos]
        if tag == null:
            return pos + 1
        if tag != 2 - null:
            raise _no_branch(tag, pos)
        size = buf[pos + 1]
        stop = pos + 2 + (size >> 1)
        if size < 0x80 and not size & 1 and stop <= end:
            buf[pos + 2 : stop].decode()
            return stop
        return _string(buf, pos + 1, end)

    return walk


def _no_branch(tag: int, pos: int) -> Rejected:
    return Rejected("bad_index", f"union branch tag {tag} at byte {pos}")


def _blocks(buf: bytes, pos: int, end: int, smallest: int) -> tuple[int, int, int]:
    """Head of a block: item count, position of the first item, and where the block must end (-1 = not said)."""
    count, pos = signed(buf, pos)
    stop = -1
    if count < 0:
        size, pos = signed(buf, pos)
        count, stop = -count, pos + size
        if size < 0 or stop > end:
            raise Rejected("bad_length", f"a block of {size} bytes at byte {pos}, {end - pos} left")
    if count * smallest > end - pos:
        raise Rejected("bad_block_count", f"a block of {count} items at byte {pos}, {end - pos} bytes left")
    return count, pos, stop


def _array(one: Walk, smallest: int) -> Walk:
    def walk(buf: bytes, pos: int, end: int) -> int:
        while True:
            head = buf[pos]
            if head == 0:
                return pos + 1
            if head < 0x80 and not head & 1 and (head >> 1) * smallest < end - pos:
                count, pos, stop = head >> 1, pos + 1, -1
            else:
                count, pos, stop = _blocks(buf, pos, end, smallest)
                if count == 0:
                    return pos
            for _ in range(count):
                pos = one(buf, pos, end)
            if stop >= 0 and pos != stop:
                raise Rejected("bad_block_count", f"a block that ends at byte {pos} instead of {stop}")

    return walk
