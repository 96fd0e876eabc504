"""Records to bytes and back: the only door to fastavro, and the roof over gate, registry and arrivals.

On the wire: Avro with Confluent framing (magic 0, schema id, body); posts may also be plain JSON. Whatever the bytes,
decoding raises nothing but `Rejected`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from math import isfinite
from operator import itemgetter
from typing import Any, Final, Protocol, TypeVar, cast

import fastavro
import msgspec
import numpy as np

from operators.arrivals import Arrival
from operators.avro_columns import readable
from operators.cells_wire import PaneCells
from operators.errors import OperatorError, Rejected
from operators.evolution import covers, unreadable
from operators.frame_wire import AROUND, Frame
from operators.gate import HEADER, Gate, frame
from operators.post_reader import PostReader
from operators.records import Alert, DeadLetter, LatePost, Post, PostBatch, SignalRow
from operators.registry import BUILT_IN
from operators.schema import Json, Schema, SchemaRegistry
from operators.scores_wire import PostScores
from operators.sent import WirePost
from operators.signal_wire import signal_body

WIRE: Final[dict[type[msgspec.Struct], tuple[str, str]]] = {
    Post: ("post", "affect.posts.social.v1"),
    PostScores: ("score", "affect.scores.v1"),
    PaneCells: ("pane_cells", "affect.panes.v1"),
    SignalRow: ("signal", "affect.signals.v1"),
    Alert: ("alert", "affect.alerts.v1"),
    DeadLetter: ("dead_letter", "affect.dead-letter.v1"),
    LatePost: ("late_post", "affect.late.v1"),
    Frame: ("frame", "affect.frames.video.v1"),
}
"""Record type -> its schema file, and the topic whose subject it is registered under."""

MAX_OWN_BYTES: Final = 16 * 1024 * 1024
"""Largest message of our own topics: 1e5 entities of a pane in one bucket."""

MAX_DETAIL: Final = 240

T = TypeVar("T", bound=msgspec.Struct)
_Value = dict[str, Any]
_Parsed = dict[str, Json]


class Arrived(Protocol):
    """One record of a log as the stream floor hands it over. `timestamp_ms`: arrival time, epoch milliseconds."""

    @property
    def offset(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes: ...

    @property
    def timestamp_ms(self) -> int: ...


class Codec:
    """Encodes and decodes every record that travels. One per thread; all schemas are resolved before the first record.

    Args:
        registry: gives the ids our own schemas are written under, and the schemas of other writers.
        gate: what posts must pass.
        max_own_bytes: largest message accepted on our own topics.

    Raises:
        ConfigInvalid: the registry refuses one of our schemas.

    Example:
        >>> from operators.registry import FileRegistry
        >>> registry = FileRegistry()
        >>> codec = Codec(registry, Gate(registry))
        >>> late = LatePost(topic="t", partition=0, offset=7, post_id="a", event_time_ms=1, late_by_ms=2)
        >>> codec.decode_late(codec.encode(late)) == late
        True
    """

    def __init__(self, registry: SchemaRegistry, gate: Gate, max_own_bytes: int = MAX_OWN_BYTES) -> None:
        self._gate = gate
        self._own_gate = Gate(registry, max_own_bytes)
        self._own: dict[type[msgspec.Struct], tuple[bytes, Schema, _Parsed]] = {}
        for kind, (name, topic) in WIRE.items():
            text = (BUILT_IN / f"{name}.avsc").read_text("utf-8")
            schema = registry.by_id(registry.register(f"{topic}-value", text))
            self._own[kind] = (frame(schema.id), schema, _parsed(schema))
        self._readers: dict[tuple[type[msgspec.Struct], int], Callable[[bytes], _Value] | str] = {}
        self._json_post = msgspec.json.Decoder(WirePost).decode
        own_frame, schema, _ = self._own[Post]
        quick = readable(schema.type)
        self._posts = PostReader(gate, own_frame if quick else None, self._post)

    def encode(self, record: msgspec.Struct) -> bytes:
        """One record of a type in `WIRE` as framed Avro.

        Raises:
            OperatorError: not such a record, or a value its schema cannot hold.
        """
        own = self._own.get(type(record))
        if own is None:
            known = sorted(k.__name__ for k in self._own)
            raise OperatorError(f"encode: expected one of {known}, got {type(record).__name__}")
        if type(record) is SignalRow:
            return own[0] + signal_body(record)
        out = BytesIO()
        out.write(own[0])
        try:
            plain = msgspec.to_builtins(record, builtin_types=(bytes,))
            fastavro.schemaless_writer(out, own[2], plain, disable_tuple_notation=True)
        except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as problem:
            raise OperatorError(f"encode: {type(record).__name__} does not fit its schema: {problem}") from None
        return out.getvalue()

    def encode_posts(self, posts: Iterable[Post]) -> list[bytes]:
        """Each post as framed Avro, in order.

        Raises:
            OperatorError: a value the schema cannot hold.
        """
        return [self.encode(p) for p in posts]

    def decode_signal(self, raw: bytes) -> SignalRow:
        """One signal row, all its numbers finite. Raises Rejected."""
        row = self._decode(SignalRow, raw)
        for number in (row.value, row.lo, row.hi, row.n_eff, row.buzz):
            if number is not None and not isfinite(number):
                raise Rejected("not_finite", f"signal row: expected finite numbers, got {number}")
        return row

    def decode_dead_letter(self, raw: bytes) -> DeadLetter:
        """One dead letter. Raises Rejected."""
        return self._decode(DeadLetter, raw)

    def decode_late(self, raw: bytes) -> LatePost:
        """One late post. Raises Rejected."""
        return self._decode(LatePost, raw)

    def decode_alert(self, raw: bytes) -> Alert:
        """One alert. Raises Rejected."""
        return self._decode(Alert, raw)

    def decode_scores(self, raw: bytes) -> PostScores:
        """Scores of one post. Raises Rejected."""
        return self._decode(PostScores, raw)

    def decode_frame(self, raw: bytes, most: int) -> Frame:
        """One frame whose body has at most `most` bytes; longer messages are not looked into. Raises Rejected."""
        if len(raw) > most + AROUND:
            raise Rejected("too_large", f"a frame of {len(raw)} bytes, at most {most + AROUND} are read")
        return self._decode(Frame, raw)

    def decode_panes(self, raw: bytes) -> PaneCells:
        """Cells of one pane, their byte columns of fitting lengths. Raises Rejected."""
        cells = self._decode(PaneCells, raw)
        cells.check()
        return cells

    def decode_posts(
        self, topic: str, partition: int, records: Sequence[Arrived], arrival: Arrival
    ) -> tuple[PostBatch, list[DeadLetter]]:
        """Decode records of one partition, in order; each ends in the batch or among the dead letters, exactly once.

        Args:
            topic, partition: where they were read; written into dead letters.
            records: raw records, offsets rising.
            arrival: key and limits they are taken in by.

        Returns:
            The batch (`reposts` and `near` all false, no links, no scores), and why the others are not in it.
        """
        rows, sent, unread = self._posts.read([r.value for r in records])
        chosen = records if len(rows) == len(records) else [records[row] for row in rows]
        batch, unfit = arrival.take_in(
            partition,
            np.array([r.offset for r in chosen], np.int64),
            np.array([r.timestamp_ms for r in chosen], np.int64),
            sent,
        )
        refused = sorted([*unread, *((rows[k], why) for k, why in unfit)], key=itemgetter(0))
        return batch, [_dead_letter(topic, partition, records[row], why) for row, why in refused]

    def _post(self, raw: bytes) -> WirePost:
        """One post, through the gate and whatever it is written in."""
        schema = self._gate.check(raw)
        return self._from_json(raw) if schema is None else self._from_avro(raw, schema)

    def _from_json(self, raw: bytes) -> WirePost:
        try:
            return self._json_post(raw)
        except msgspec.ValidationError as problem:
            detail = str(problem)
            raise Rejected("missing_field" if "missing required" in detail else "wrong_type", detail) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError) as problem:
            raise Rejected("bad_json", str(problem)) from None

    def _from_avro(self, raw: bytes, schema: Schema) -> WirePost:
        value = self._value(Post, raw, schema)
        get = value.get
        return WirePost(
            value["id"],
            value["text"],
            get("created_at"),
            get("author"),
            get("lang"),
            None if (tickers := get("tickers")) is None else tuple(tickers),
            get("place"),
            get("event"),
            source=get("source"),
        )

    def _decode(self, kind: type[T], raw: bytes) -> T:
        schema = self._own_gate.check(raw)
        if schema is None:
            raise Rejected("bad_magic", f"expected framed Avro of a {kind.__name__}, got JSON")
        try:
            return msgspec.convert(self._value(kind, raw, schema), kind)
        except msgspec.ValidationError as problem:
            raise Rejected("wrong_type", f"{kind.__name__}: {problem}") from None

    def _value(self, kind: type[msgspec.Struct], raw: bytes, schema: Schema) -> _Value:
        """The body of a message the gate let pass, as our reader schema of `kind` sees it."""
        reader = self._readers.get((kind, schema.id))
        if reader is None:
            reader = self._readers[kind, schema.id] = self._reader(kind, schema)
        if isinstance(reader, str):
            raise Rejected("incompatible_schema", reader)
        try:
            return reader(raw)
        except (ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, RecursionError) as problem:
            raise Rejected("undecodable", f"{type(problem).__name__} under schema {schema.id}") from None

    def _reader(self, kind: type[msgspec.Struct], schema: Schema) -> Callable[[bytes], _Value] | str:
        """A function that decodes `schema` as `kind`, or why there is none."""
        _, own, parsed_own = self._own[kind]
        why = unreadable(own.type, schema.type)
        if why is not None:
            return f"schema {schema.id} cannot be read as {kind.__name__}: {why}"
        parsed = _parsed(schema)
        wanted = None if covers(schema.type, own.type) else parsed_own
        decode = fastavro.schemaless_reader

        def read(raw: bytes) -> _Value:
            body = BytesIO(raw)
            body.seek(HEADER)
            return cast(_Value, decode(body, parsed, wanted))

        return read


def _dead_letter(topic: str, partition: int, record: Arrived, why: Rejected) -> DeadLetter:
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=record.offset,
        reason=why.reason,
        detail=why.detail[:MAX_DETAIL],
        size_bytes=len(record.value or b""),
        time_ms=record.timestamp_ms,
    )


def _parsed(schema: Schema) -> _Parsed:
    """The normal form as fastavro wants it, with names local to this schema."""
    return cast(_Parsed, fastavro.parse_schema(msgspec.json.decode(schema.text), {}))
