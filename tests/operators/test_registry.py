"""Admission of schemas, and the file-backed registry: pinned ids, versions added beside a running reader."""

from __future__ import annotations

import json
from pathlib import Path

import fastavro
import pytest

from operators.admission import parse_schema
from operators.errors import ConfigInvalid, SchemaUnknown
from operators.evolution import covers, unreadable
from operators.registry import BUILT_IN, FIRST_USER_ID, FileRegistry
from operators.schema import Json, Type, normal_form

POSTS = "affect.posts.social.v1-value"


def post_schema(*more: Json, without: str = "") -> str:
    definition = json.loads((BUILT_IN / "post.avsc").read_text())
    definition["fields"] = [f for f in definition["fields"] if f["name"] != without] + list(more)
    return json.dumps(definition)


def parsed(definition: Json) -> Type:
    return parse_schema(json.dumps(definition))


def record(name: str, *fields: Json) -> dict[str, Json]:
    return {"type": "record", "name": name, "fields": list(fields)}


def nested(levels: int) -> Json:
    inner: Json = "long"
    for k in range(levels):
        inner = record(f"R{k}", {"name": "f", "type": inner})
    return inner


def doubling(levels: int) -> Json:
    inner: Json = record("R0", {"name": "f", "type": "long"})
    for k in range(1, levels):
        inner = record(f"R{k}", {"name": "a", "type": inner}, {"name": "b", "type": f"R{k - 1}"})
    return inner


@pytest.mark.parametrize(
    ("definition", "word"),
    [
        (record("R", {"name": "next", "type": ["null", "R"]}), "contains itself"),
        (record("R", {"name": "a", "type": record("S", {"name": "r", "type": "R"})}), "contains itself"),
        ({"type": "array", "items": "null"}, "at least one byte"),
        ({"type": "map", "values": "null"}, "at least one byte"),
        ({"type": "array", "items": {"type": "array", "items": "null"}}, "at least one byte"),
        ({"type": "array", "items": nested(5)}, "at least one byte"),
        (record("R", {"name": "a", "type": "null"}), "takes no bytes"),
        (record("R"), "1 to 256 fields"),
        ({"type": "fixed", "name": "F", "size": 0}, "size from 1"),
        ("null", "takes no bytes"),
        (record("R", *({"name": f"f{k}", "type": "int"} for k in range(257))), "1 to 256 fields"),
        (nested(40), "32 levels"),
        (doubling(20), "expanded types"),
        (["null", ["string"]], "not be unions"),
        (["string", "string"], "must differ"),
        (["null", *(record(f"R{k}", {"name": "f", "type": "int"}) for k in range(40))], "branches"),
        (record("R", {"name": "a", "type": "int", "default": "x"}), "does not fit"),
        (record("R", {"name": "a", "type": "Unknown"}), "unknown type"),
        (record("R", {"name": "a b", "type": "int"}), "name of letters"),
        (record("R", {"name": "a", "type": "int"}, {"name": "a", "type": "int"}), "twice"),
        ({"type": "enum", "name": "E", "symbols": ["A", "A"]}, "different symbols"),
        ({"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}, "not one of"),
        (7, "expected a type"),
        ({"items": "int"}, "no `type`"),
    ],
)
def test_schemas_that_are_not_admitted(definition: Json, word: str) -> None:
    with pytest.raises(ConfigInvalid, match=word):
        parsed(definition)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '"' + "x" * 300_000 + '"', "NaN"])
def test_texts_that_are_no_schema(text: str) -> None:
    with pytest.raises(ConfigInvalid):
        parse_schema(text)


def test_the_normal_form_reads_back_to_itself_and_suits_fastavro() -> None:
    for path in sorted(BUILT_IN.glob("*.avsc")):
        admitted = parse_schema(path.read_text())
        text = normal_form(admitted)
        assert parse_schema(text) == admitted
        fastavro.parse_schema(json.loads(text), {})


def test_a_logical_type_and_a_doc_leave_the_normal_form() -> None:
    plain = parsed(record("R", {"name": "t", "type": "long"}))
    dressed = parsed(
        record("R", {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}, "doc": "x"})
    )
    assert normal_form(plain) == normal_form(dressed)


def test_built_in_ids_are_pinned() -> None:
    registry = FileRegistry()
    wanted = {
        POSTS: 1,
        "affect.posts.finance.v1-value": 1,
        "affect.posts.crisis.v1-value": 1,
        "affect.scores.v1-value": 2,
        "affect.frames.video.v1-value": 10,
        "affect.frames.audio.v1-value": 10,
        "affect.panes.v1-value": 8,
        "affect.signals.v1-value": 9,
        "affect.alerts.v1-value": 5,
        "affect.dead-letter.v1-value": 6,
        "affect.late.v1-value": 7,
    }
    assert {s: registry.latest(s).id for s in wanted} == wanted
    assert registry.register(POSTS, post_schema()) == 1


def test_unknown_ids_and_subjects_say_what_there_is(tmp_path: Path) -> None:
    for registry in (FileRegistry(), FileRegistry(tmp_path)):
        with pytest.raises(SchemaUnknown, match="got 99"):
            registry.by_id(99)
        with pytest.raises(SchemaUnknown, match=r"affect\.signals"):
            registry.latest("nothing-value")


def test_a_version_registered_by_another_process_is_found_midstream(tmp_path: Path) -> None:
    reader, writer = FileRegistry(tmp_path / "s"), FileRegistry(tmp_path / "s")
    text = post_schema({"name": "reach", "type": "long", "default": 0})
    schema_id = writer.register(POSTS, text)
    assert schema_id == FIRST_USER_ID
    assert reader.by_id(schema_id).fingerprint == writer.latest(POSTS).fingerprint
    assert reader.latest(POSTS).id == schema_id
    assert reader.register(POSTS, text) == schema_id
    assert FileRegistry(tmp_path / "s").versions(POSTS) == [1, schema_id]
    assert not (tmp_path / "s" / "index.lock").exists()


def test_one_schema_under_two_subjects_has_one_id(tmp_path: Path) -> None:
    registry = FileRegistry(tmp_path)
    assert registry.register("mine-value", post_schema()) == 1
    first = registry.register("mine-value", post_schema({"name": "x", "type": "int", "default": 1}))
    assert registry.register("other-value", post_schema({"name": "x", "type": "int", "default": 1})) == first
    assert FileRegistry(tmp_path).versions("mine-value") == [1, first]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (post_schema({"name": "reach", "type": "long"}), "no default"),
        (post_schema(without="id"), "cannot read the new schema"),
        (post_schema({"name": "author", "type": "long", "default": 0}, without="author"), "no branch|cannot be read"),
        (post_schema().replace('"Post"', '"Message"'), "keep the name"),
    ],
)
def test_incompatible_versions_are_refused(tmp_path: Path, text: str, word: str) -> None:
    registry = FileRegistry(tmp_path)
    with pytest.raises(ConfigInvalid, match=word):
        registry.register(POSTS, text)
    assert registry.versions(POSTS) == [1]


def test_compatibility_is_transitive(tmp_path: Path) -> None:
    registry = FileRegistry(tmp_path)

    def version(*fields: Json) -> str:
        return json.dumps(record("T", {"name": "a", "type": "int"}, *fields))

    registry.register("t-value", version())
    registry.register("t-value", version({"name": "b", "type": "int", "default": 0}))
    with pytest.raises(ConfigInvalid, match="schema 1000"):
        registry.register("t-value", version({"name": "b", "type": "int"}))


def test_without_a_directory_nothing_new_is_registered() -> None:
    with pytest.raises(ConfigInvalid, match="directory"):
        FileRegistry().register(POSTS, post_schema({"name": "x", "type": "int", "default": 1}))


def test_a_schema_changed_under_its_id_is_refused(tmp_path: Path) -> None:
    schema_id = FileRegistry(tmp_path).register("t-value", json.dumps(record("T", {"name": "a", "type": "int"})))
    (tmp_path / f"{schema_id}.avsc").write_text(json.dumps(record("T", {"name": "a", "type": "long"})))
    with pytest.raises(ConfigInvalid, match="fingerprint"):
        FileRegistry(tmp_path)


def test_an_index_broken_midstream_leaves_known_ids_working(tmp_path: Path) -> None:
    registry = FileRegistry(tmp_path)
    schema_id = registry.register("t-value", json.dumps(record("T", {"name": "a", "type": "int"})))
    (tmp_path / "index.json").write_text("{")
    assert registry.by_id(schema_id).id == schema_id
    with pytest.raises(SchemaUnknown, match="index"):
        registry.by_id(4242)
    with pytest.raises(ConfigInvalid, match="index"):
        FileRegistry(tmp_path)


def test_an_index_that_reuses_a_built_in_id_is_refused(tmp_path: Path) -> None:
    index = json.loads((BUILT_IN / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({"schemas": {"1": index["schemas"]["2"]}}))
    with pytest.raises(ConfigInvalid, match="ids never change"):
        FileRegistry(tmp_path)


def test_a_held_lock_is_said(tmp_path: Path) -> None:
    (tmp_path / "index.lock").touch()
    with pytest.raises(ConfigInvalid, match=r"index\.lock"):
        FileRegistry(tmp_path).register("t-value", json.dumps(record("T", {"name": "a", "type": "int"})))


@pytest.mark.parametrize(
    ("reader", "writer", "readable"),
    [
        ("double", "int", True),
        ("int", "long", False),
        ("bytes", "string", True),
        (["null", "long"], "long", True),
        ("long", ["null", "long"], False),
        (["null", "string", "double"], ["null", "long"], True),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}, True),
        ({"type": "map", "values": "int"}, {"type": "map", "values": "long"}, False),
        (record("R", {"name": "b", "type": "int", "aliases": ["a"]}), record("R", {"name": "a", "type": "int"}), True),
        (record("S", {"name": "a", "type": "int"}), record("R", {"name": "a", "type": "int"}), False),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, {"type": "enum", "name": "E", "symbols": ["A", "B"]}, False),
        (
            {"type": "enum", "name": "E", "symbols": ["A"], "default": "A"},
            {"type": "enum", "name": "E", "symbols": ["A", "B"]},
            True,
        ),
        ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 3}, False),
    ],
)
def test_resolution_rules(reader: Json, writer: Json, readable: bool) -> None:
    assert (unreadable(parsed(reader), parsed(writer)) is None) is readable


def test_a_writer_with_one_more_field_covers_ours() -> None:
    ours = parse_schema(post_schema())
    assert covers(parse_schema(post_schema({"name": "x", "type": "int", "default": 1})), ours)
    assert not covers(parse_schema(post_schema(without="lang")), ours)
