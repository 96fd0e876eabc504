"""Reads an Avro schema and admits it only if no message under it can crash or fill a decoder."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from operators.errors import ConfigInvalid
from operators.schema import INT_RANGE, NODES_PER_BYTE, PRIMITIVES, Field, Json, Type

MAX_FIELDS: Final = 256
MAX_DEPTH: Final = 32
MAX_NODES: Final = 4096
MAX_BRANCHES: Final = 32
MAX_SCHEMA_BYTES: Final = 262_144
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_FULL_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")


def parse_schema(text: str) -> Type:
    """Read an Avro schema and admit it.

    Raises:
        ConfigInvalid: not a schema; a type that contains itself; a type of zero size outside a union; an array or map
            whose items build more than `NODES_PER_BYTE` values a byte; more than 256 fields in a record, 32 levels,
            32 union branches or 4096 nodes; a default that does not fit its field.
    """
    if len(text) > MAX_SCHEMA_BYTES:
        raise ConfigInvalid(f"schema: expected at most {MAX_SCHEMA_BYTES} characters, got {len(text)}")
    try:
        definition: Json = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as problem:
        raise ConfigInvalid(f"schema: expected a JSON document, got one that does not parse: {problem}") from None
    admitted = _Parser().type(definition, "", 1)
    if admitted.min_bytes == 0:
        raise ConfigInvalid("schema: a message of this type takes no bytes; give it a field")
    return admitted


def default_fits(node: Type, value: Json) -> bool:
    """Whether a JSON default is a value of `node` (any branch of a union)."""
    kind = node.kind
    if kind == "union":
        return any(default_fits(b, value) for b in node.items)
    if kind in INT_RANGE:
        return type(value) is int and -INT_RANGE[kind] <= value < INT_RANGE[kind]
    if kind == "array":
        return isinstance(value, list) and all(default_fits(node.items[0], v) for v in value)
    if kind == "map":
        return isinstance(value, dict) and all(default_fits(node.items[0], v) for v in value.values())
    if kind == "record":
        if not isinstance(value, dict):
            return False
        return all(default_fits(f.type, value[f.name]) if f.name in value else f.has_default for f in node.fields)
    if kind in ("bytes", "fixed"):
        fits = isinstance(value, str) and all(ord(c) < 256 for c in value)
        return fits and (kind == "bytes" or len(str(value)) == node.size)
    if kind == "enum":
        return value in node.symbols
    if kind in ("float", "double"):
        return type(value) in (int, float)
    return {"null": value is None, "boolean": type(value) is bool, "string": isinstance(value, str)}[kind]


def _leaf(kind: str, min_bytes: int) -> Type:
    return Type(kind, min_bytes=min_bytes, excess=1 - NODES_PER_BYTE * min_bytes)


class _Parser:
    """Reads one schema; names are local to it."""

    def __init__(self) -> None:
        self._named: dict[str, Type] = {}
        self._open: set[str] = set()

    def type(self, given: Json, namespace: str, depth: int) -> Type:
        if depth > MAX_DEPTH:
            raise ConfigInvalid(f"schema: expected at most {MAX_DEPTH} levels, got more; flatten it")
        if isinstance(given, str):
            found = self._by_name(given, namespace)
        elif isinstance(given, list):
            found = self._union(given, namespace, depth)
        elif isinstance(given, dict):
            found = self._complex(given, namespace, depth)
        else:
            raise ConfigInvalid(f"schema: expected a type (string, object or array), got {type(given).__name__}")
        if found.depth + depth - 1 > MAX_DEPTH:
            raise ConfigInvalid(f"schema: expected at most {MAX_DEPTH} levels, got more below {found.name!r}")
        if found.nodes > MAX_NODES:
            raise ConfigInvalid(f"schema: expected at most {MAX_NODES} expanded types, got {found.nodes}")
        return found

    def _by_name(self, name: str, namespace: str) -> Type:
        if name in PRIMITIVES:
            return _leaf(name, PRIMITIVES[name])
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full in self._open:
            raise ConfigInvalid(
                f"schema: type {full!r} contains itself; recursive types can end the process, unroll it"
            )
        found = self._named.get(full, self._named.get(name))
        if found is None:
            raise ConfigInvalid(f"schema: unknown type {name[:80]!r}; define it before its first use")
        return found

    def _complex(self, given: dict[str, Json], namespace: str, depth: int) -> Type:
        kind = given.get("type")
        if isinstance(kind, (dict, list)):
            return self.type(kind, namespace, depth + 1)
        if kind in ("array", "map"):
            return self._container(str(kind), given, namespace, depth)
        if kind in ("record", "enum", "fixed"):
            return self._declared(str(kind), given, namespace, depth)
        if not isinstance(kind, str):
            raise ConfigInvalid("schema: a type object has no `type`")
        return self._by_name(kind, namespace)

    def _container(self, kind: str, given: dict[str, Json], namespace: str, depth: int) -> Type:
        item = self.type(given.get("items" if kind == "array" else "values"), namespace, depth + 1)
        if item.min_bytes == 0 or item.excess > 0:
            raise ConfigInvalid(
                f"schema: items of a {kind} must take at least one byte per {NODES_PER_BYTE} values they build, "
                f"got an item of {item.min_bytes} bytes; a few bytes could fill memory"
            )
        leaf = _leaf(kind, 1)
        return Type(kind, items=(item,), min_bytes=1, nodes=1 + item.nodes, depth=1 + item.depth, excess=leaf.excess)

    def _union(self, given: list[Json], namespace: str, depth: int) -> Type:
        branches = tuple(self.type(b, namespace, depth + 1) for b in given[: MAX_BRANCHES + 1])
        if not 1 <= len(branches) <= MAX_BRANCHES:
            raise ConfigInvalid(f"schema: expected a union of 1 to {MAX_BRANCHES} branches, got {len(given)}")
        tags = [b.name or b.kind for b in branches]
        if len(set(tags)) != len(tags) or "union" in tags:
            raise ConfigInvalid(f"schema: union branches must differ and not be unions, got {tags}")
        return Type(
            "union",
            items=branches,
            min_bytes=1 + min(b.min_bytes for b in branches),
            nodes=1 + sum(b.nodes for b in branches),
            depth=1 + max(b.depth for b in branches),
            excess=max(b.excess for b in branches) - NODES_PER_BYTE,
        )

    def _declared(self, kind: str, given: dict[str, Json], namespace: str, depth: int) -> Type:
        full = _full_name(given, namespace)
        if full in self._named or full in self._open:
            raise ConfigInvalid(f"schema: type {full!r} is defined twice")
        aliases = _names(given.get("aliases"), _FULL_NAME)
        self._open.add(full)
        if kind == "record":
            found = self._record(full, aliases, given, depth)
        elif kind == "enum":
            found = _enum(full, aliases, given)
        else:
            size = given.get("size")
            if type(size) is not int or not 1 <= size <= 65_536:
                raise ConfigInvalid(f"schema: fixed {full!r}: expected a size from 1 to 65536, got {size!r}")
            found = Type(kind, full, aliases, size, min_bytes=size, excess=1 - NODES_PER_BYTE * size)
        self._open.discard(full)
        self._named[full] = found
        return found

    def _record(self, full: str, aliases: tuple[str, ...], given: dict[str, Json], depth: int) -> Type:
        listed = given.get("fields")
        if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_FIELDS:
            count = len(listed) if isinstance(listed, list) else "none"
            raise ConfigInvalid(f"schema: record {full!r}: expected 1 to {MAX_FIELDS} fields, got {count}")
        namespace = full.rpartition(".")[0]
        fields = tuple(self._field(full, one, namespace, depth) for one in listed)
        names = [f.name for f in fields]
        if len(set(names)) != len(names):
            raise ConfigInvalid(f"schema: record {full!r} names a field twice")
        types = [f.type for f in fields]
        return Type(
            "record",
            full,
            aliases,
            fields=fields,
            min_bytes=sum(t.min_bytes for t in types),
            nodes=1 + sum(t.nodes for t in types),
            depth=1 + max(t.depth for t in types),
            excess=1 + sum(t.excess for t in types),
        )

    def _field(self, record: str, given: Json, namespace: str, depth: int) -> Field:
        if not isinstance(given, dict):
            raise ConfigInvalid(f"schema: record {record!r}: expected a field object, got {type(given).__name__}")
        name = given.get("name")
        if not isinstance(name, str) or not _NAME.match(name):
            raise ConfigInvalid(f"schema: record {record!r}: a field needs a name of letters, digits and _")
        kind = self.type(given.get("type"), namespace, depth + 1)
        if kind.min_bytes == 0:
            raise ConfigInvalid(f"schema: field {record}.{name} takes no bytes; drop it or make it a union")
        default = given.get("default")
        if "default" in given and not default_fits(kind, default):
            raise ConfigInvalid(f"schema: field {record}.{name}: the default does not fit the type")
        return Field(name, kind, "default" in given, default, _names(given.get("aliases"), _NAME))


def _full_name(given: dict[str, Json], namespace: str) -> str:
    name, space = given.get("name"), given.get("namespace", namespace)
    if not isinstance(name, str) or not isinstance(space, str):
        raise ConfigInvalid("schema: a record, enum or fixed needs a `name`")
    full = name if "." in name or not space else f"{space}.{name}"
    if not _FULL_NAME.match(full) or name in PRIMITIVES or len(full) > 256:
        raise ConfigInvalid(f"schema: expected a dotted name of letters, digits and _, got {full[:80]!r}")
    return full


def _names(given: Json, form: re.Pattern[str]) -> tuple[str, ...]:
    listed = given if isinstance(given, list) else []
    names = tuple(n for n in listed if isinstance(n, str) and form.match(n))
    if given is not None and (not isinstance(given, list) or len(names) != len(given)):
        raise ConfigInvalid("schema: expected a list of names of letters, digits and _")
    return names


def _enum(full: str, aliases: tuple[str, ...], given: dict[str, Json]) -> Type:
    symbols = _names(given.get("symbols"), _NAME)
    default = given.get("default")
    if not symbols or len(set(symbols)) != len(symbols) or len(symbols) > MAX_NODES:
        raise ConfigInvalid(f"schema: enum {full!r}: expected 1 to {MAX_NODES} different symbols, got {len(symbols)}")
    if default is not None and (not isinstance(default, str) or default not in symbols):
        raise ConfigInvalid(f"schema: enum {full!r}: the default is not one of its symbols")
    return Type("enum", full, aliases, symbols=symbols, default=default, min_bytes=1, excess=1 - NODES_PER_BYTE)
