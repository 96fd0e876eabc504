"""Avro schemas as a small typed tree, and the registry that hands them out.

Everything else here (the gate's walker, the compatibility check, the decoder behind the codec) works on this tree or
on the normal form regenerated from it, never on the text that came from outside.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import msgspec

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

NODES_PER_BYTE: Final = 2
"""An array or map item may build at most this many values per byte it takes on the wire (bounds amplification)."""

INT_RANGE: Final = {"int": 2**31, "long": 2**63}
PRIMITIVES: Final = {
    "null": 0,
    "boolean": 1,
    "int": 1,
    "long": 1,
    "float": 4,
    "double": 8,
    "bytes": 1,
    "string": 1,
}
"""Primitive kind -> fewest bytes on the wire."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record. `default` means something only where `has_default`."""

    name: str
    type: Type
    has_default: bool = False
    default: Json = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Type:
    """One node of a schema.

    Attributes:
        kind: a primitive's name, or `fixed`, `enum`, `array`, `map`, `record`, `union`.
        name: full name of a `fixed`, `enum` or `record`, else "".
        size: bytes of a `fixed`.
        symbols, default: of an `enum`.
        items: item type of an `array`, value type of a `map`, as a tuple of one; the branches of a `union`.
        fields: of a `record`.
        min_bytes: fewest bytes a value takes.
        nodes, depth: size and height of the expanded tree.
        excess: most values built minus `NODES_PER_BYTE` times the bytes read for them.
    """

    kind: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    size: int = 0
    symbols: tuple[str, ...] = ()
    default: str | None = None
    items: tuple[Type, ...] = ()
    fields: tuple[Field, ...] = ()
    min_bytes: int = 0
    nodes: int = 1
    depth: int = 1
    excess: int = 0

    @property
    def short_name(self) -> str:
        """The name without its namespace."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Schema:
    """An admitted schema under its id. `text` is the normal form, `fingerprint` its sha256 in hex."""

    id: int
    type: Type
    text: str
    fingerprint: str


class SchemaRegistry(Protocol):
    """Ids to schemas. Ids never change their meaning; what it hands out was admitted by `operators.admission`."""

    def by_id(self, schema_id: int) -> Schema:
        """The schema under an id.

        Raises:
            SchemaUnknown: no such id.
        """
        ...

    def register(self, subject: str, schema: str) -> int:
        """The id of a schema under a subject (`<topic>-value`); the same schema again gives the same id.

        Raises:
            ConfigInvalid: not admitted, or incompatible with the versions before it.
        """
        ...

    def latest(self, subject: str) -> Schema:
        """The newest version of a subject.

        Raises:
            SchemaUnknown: no such subject.
        """
        ...


def normal_form(admitted: Type) -> str:
    """The schema as compact JSON with sorted keys: full names, no documentation, no logical types."""
    return msgspec.json.encode(definition_of(admitted, set()), order="sorted").decode()


def fingerprint_of(text: str) -> str:
    """sha256 of a normal form, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def definition_of(node: Type, defined: set[str]) -> Json:
    """The tree as Avro JSON; a name already in `defined` is referred to, others are added to it."""
    if node.kind in PRIMITIVES:
        return node.kind
    if node.kind == "union":
        return [definition_of(b, defined) for b in node.items]
    if node.kind in ("array", "map"):
        return {"type": node.kind, "items" if node.kind == "array" else "values": definition_of(node.items[0], defined)}
    if node.name in defined:
        return node.name
    defined.add(node.name)
    out: dict[str, Json] = {"type": node.kind, "name": node.name}
    if node.aliases:
        out["aliases"] = list(node.aliases)
    if node.kind == "fixed":
        out["size"] = node.size
    elif node.kind == "enum":
        out["symbols"] = list(node.symbols)
        if node.default is not None:
            out["default"] = node.default
    else:
        out["fields"] = [_field_definition(f, defined) for f in node.fields]
    return out


def _field_definition(one: Field, defined: set[str]) -> Json:
    out: dict[str, Json] = {"name": one.name, "type": definition_of(one.type, defined)}
    if one.has_default:
        out["default"] = one.default
    if one.aliases:
        out["aliases"] = list(one.aliases)
    return out
