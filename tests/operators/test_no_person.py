"""No output has a place for a person: schemas, rows, metric labels, the feed and the audit log are looked through."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from operators.classroom import SIGNALS
from operators.records import Alert, SignalRow
from stream.api_description import asyncapi
from stream.audit import KINDS
from stream.feed import Feed
from stream.metrics import Metrics
from stream.ops_status import OpsStatus
from stream.web import LiveServer

SCHEMAS = Path(__file__).parents[2] / "operators" / "schemas"
OUTPUTS = ("signal", "alert", "late_post", "dead_letter", "score")
PERSON = re.compile(
    r"(^|_)(person|people|seat|face|user|student|pupil|learner|teacher|name|email|author|author_id|track|embedding|voice)(_|$)"
)
ALLOWED = {("fields", "authors"), ("audit", "seats")}
"""Counts: how many there were."""


def fields(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for field in schema.get("fields", ()):
            yield field["name"]
            yield from fields(field["type"])
        if "items" in schema:
            yield from fields(schema["items"])
    elif isinstance(schema, list):
        for part in schema:
            yield from fields(part)


def test_the_pattern_finds_what_it_is_for() -> None:
    for bad in ("seat", "face_id", "user", "author", "track", "seat_value", "voice"):
        assert PERSON.search(bad), bad
    for good in ("authors", "signal", "n_eff", "window_end", "capped"):
        assert not PERSON.search(good), good


def test_no_schema_of_an_output_has_a_field_for_a_person() -> None:
    found = {path.stem: list(fields(json.loads(path.read_text()))) for path in SCHEMAS.glob("*.avsc")}
    assert set(OUTPUTS) <= {name.split("_1")[0] for name in found}
    wrong = [(n, f) for n, held in found.items() if n.startswith(OUTPUTS) for f in held if PERSON.search(f)]
    assert wrong == []
    rows = [f.name for struct in (SignalRow, Alert, OpsStatus) for f in msgspec.structs.fields(struct)]
    assert [name for name in rows if PERSON.search(name)] == []
    assert [name for name in SIGNALS if PERSON.search(name.split(".", 1)[1].replace(".", "_"))] == []


def test_no_metric_has_a_label_for_a_person() -> None:
    metrics = Metrics(process=False)
    metrics.status(OpsStatus(consumed=3, applied=2, rejected=1, watermark_delay_s=1.0))
    metrics.dead_letter("bad_json")
    labels = set(re.findall(r"[{,](\w+)=", metrics.exposition().decode()))
    assert {"reason", "domain"} <= labels
    assert [label for label in labels if PERSON.search(label)] == []


def test_no_message_of_the_feed_and_no_audit_entry_has_one() -> None:
    told = json.dumps(asyncapi(LiveServer(Feed(), Metrics(process=False)).routes))
    named = set(re.findall(r'"(\w+)": \{"(?:type|anyOf|\$ref)"', told))
    assert {"signal", "value", "entity"} <= named
    assert [name for name in named if PERSON.search(name)] == []
    assert [f for kind in KINDS.values() for f in kind if PERSON.search(f) and ("audit", f) not in ALLOWED] == []
