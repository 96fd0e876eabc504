"""The direct writer of signal rows against fastavro, on any row."""

from __future__ import annotations

from io import BytesIO

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.codec import BUILT_IN, Codec
from operators.errors import OperatorError
from operators.gate import Gate
from operators.records import SignalRow
from operators.registry import FileRegistry
from operators.signal_wire import signal_body, varint

SCHEMA = fastavro.parse_schema(msgspec.json.decode((BUILT_IN / "signal.avsc").read_text("utf-8")))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
longs = st.integers(-(2**63), 2**63 - 1)
doubles = st.floats(allow_nan=False, allow_infinity=False)
rows = st.builds(
    SignalRow,
    signal=texts,
    domain=texts,
    entity=texts,
    window_start=longs,
    window_end=longs,
    value=st.none() | doubles,
    lo=st.none() | doubles,
    hi=st.none() | doubles,
    n=longs,
    n_eff=doubles,
    authors=longs,
    buzz=doubles,
    status=st.sampled_from(["provisional", "final", "revised"]),
    revision=longs,
    watermark=longs,
    model=texts,
    ontology=texts,
    reasons=st.lists(texts, max_size=4).map(tuple),
)


@given(rows)
def test_bodies_are_what_fastavro_writes(row: SignalRow) -> None:
    """Byte for byte."""
    out = BytesIO()
    fastavro.schemaless_writer(out, SCHEMA, msgspec.to_builtins(row))
    assert signal_body(row) == out.getvalue()


@given(rows)
def test_the_codec_reads_them_back(row: SignalRow) -> None:
    registry = FileRegistry()
    codec = Codec(registry, Gate(registry))
    assert codec.decode_signal(codec.encode(row)) == row


def test_what_the_schema_cannot_hold_is_refused() -> None:
    row = SignalRow(
        signal="s", domain="d", entity="e", window_start=0, window_end=1, value=None, lo=None, hi=None, n=1,
        n_eff=1.0, authors=1, buzz=1.0, status="final", revision=0, watermark=1, model="m", ontology="o",
    )  # fmt: skip
    with pytest.raises(OperatorError, match="64-bit"):
        varint(2**63)
    with pytest.raises(OperatorError, match="Unicode"):
        signal_body(msgspec.structs.replace(row, entity="\ud800"))
