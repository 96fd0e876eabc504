"""Posts of a batch, read at once: the quick ways for what is usual, the careful one for what is left.

Quick is msgspec behind the gate's look at the whole batch, and `avro_columns` for posts under our own schema. Neither
refuses anything: what they are not sure of goes to `careful`, message by message, which alone says why one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Final

import msgspec

from operators.avro_columns import AvroPosts
from operators.errors import Rejected
from operators.gate import HEADER, Gate
from operators.sent import Sent, WirePost, columns_of, in_order

FEW: Final = 16
"""So few messages of a kind are read one by one: a numpy call costs as much for one as for a hundred."""

MOST: Final = 2048
"""Messages read at once; keeps the buffers in the processor's cache."""

USUAL_BYTES: Final = 8192
"""Longer messages are rare and read one by one, so that a batch of them is never copied as a whole."""

Found = tuple[list[int], Sent]
Refused = list[tuple[int, Rejected]]


class PostReader:
    """Reads raw messages into columns.

    Args:
        gate: what JSON must pass.
        own_frame: frame of posts under the schema that `avro_columns` reads; None = there is none.
        careful: gate and decoder for one message; raises Rejected.
    """

    def __init__(self, gate: Gate, own_frame: bytes | None, careful: Callable[[bytes], WirePost]) -> None:
        self._gate = gate
        self._own_frame = own_frame
        self._careful = careful
        self._read_avro = AvroPosts(HEADER).read
        self._json = msgspec.json.Decoder(WirePost).decode

    def read(self, messages: Sequence[bytes]) -> tuple[list[int], Sent, Refused]:
        """Read `messages`; each ends among the posts or is refused, exactly once.

        Returns:
            Rows of the posts in `messages`, rising; the posts; rows and reasons of the others, rising.
        """
        parts: list[Found] = []
        left: list[int] = []
        for begin in range(0, len(messages), MOST):
            left += self._quick(messages, range(begin, min(begin + MOST, len(messages))), parts)
        refused: Refused = []
        if left:
            rows: list[int] = []
            posts: list[WirePost] = []
            for row in left:
                try:
                    posts.append(self._careful(messages[row]))
                    rows.append(row)
                except Rejected as why:
                    refused.append((row, why))
            parts.append((rows, columns_of(posts)))
        if not parts:
            parts.append(([], columns_of([])))
        return (*in_order(parts), refused)

    def _quick(self, messages: Sequence[bytes], rows: range, parts: list[Found]) -> list[int]:
        """Add what can be read at once to `parts`; returns the rows left, rising."""
        some = messages[rows.start : rows.stop]
        usual, left = list(rows), []
        if max(map(len, some)) > USUAL_BYTES:
            usual = [row for row in rows if len(messages[row]) <= USUAL_BYTES]
            left = [row for row in rows if len(messages[row]) > USUAL_BYTES]
        own = [messages[row][:HEADER] == self._own_frame for row in usual]
        avro = list(compress(usual, own))
        json = usual if not avro else [row for row, mine in zip(usual, own, strict=True) if not mine]
        for chosen, read in ((json, self._read_json), (avro, self._read_avro)):
            if len(chosen) < FEW:
                left += chosen
                continue
            found, sent = read([messages[row] for row in chosen])
            if len(found) < len(chosen):
                there = set(found)
                left += [row for k, row in enumerate(chosen) if k not in there]
                chosen = [chosen[k] for k in found]
            parts.append((chosen, sent))
        return sorted(left)

    def _read_json(self, messages: Sequence[bytes]) -> Found:
        decode = self._json
        found: list[int] = []
        posts: list[WirePost] = []
        for k, plain in enumerate(self._gate.plain_json(messages).tolist()):
            if plain:
                try:
                    posts.append(decode(messages[k]))
                    found.append(k)
                except (msgspec.DecodeError, UnicodeError, RecursionError):
                    continue
        return found, columns_of(posts)
