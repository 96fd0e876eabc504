"""Whether a reader schema can read what a writer schema wrote: Avro's resolution rules, as a check before any data.

Covers records (fields by name or reader alias, defaults), number and string promotions, enums, fixed, arrays, maps and
unions. Stricter than Avro in one place: every branch of a writer's union must be readable, not just those that occur.
"""

from __future__ import annotations

from typing import Final

from operators.schema import Field, Type

PROMOTIONS: Final = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}
"""Writer kind -> other kinds it may be read as."""


def unreadable(reader: Type, writer: Type, path: str = "$") -> str | None:
    """Why `reader` cannot read data of `writer`, with the path of the first trouble; None when it can."""
    if writer.kind == "union":
        found = (unreadable(reader, branch, path) for branch in writer.items)
        return next((why for why in found if why is not None), None)
    if reader.kind == "union":
        if any(unreadable(branch, writer, path) is None for branch in reader.items):
            return None
        return f"{path}: no branch of the reader's union takes a {writer.kind}"
    if reader.kind != writer.kind:
        if reader.kind in PROMOTIONS.get(writer.kind, ()):
            return None
        return f"{path}: a {writer.kind} cannot be read as a {reader.kind}"
    if reader.kind in ("array", "map"):
        return unreadable(reader.items[0], writer.items[0], f"{path}[]")
    if not reader.name:
        return None
    if reader.short_name != writer.short_name and writer.name not in reader.aliases:
        return f"{path}: {reader.kind} {reader.name!r} is not {writer.name!r}; keep the name"
    if reader.kind == "fixed":
        return None if reader.size == writer.size else f"{path}: fixed of {writer.size} bytes read as {reader.size}"
    if reader.kind == "enum":
        unknown = [s for s in writer.symbols if s not in reader.symbols]
        if unknown and reader.default is None:
            return f"{path}: the reader's enum {reader.name!r} lacks {unknown[:3]} and has no default"
        return None
    return _record(reader, writer, path)


def _record(reader: Type, writer: Type, path: str) -> str | None:
    written = {f.name: f for f in writer.fields}
    for field in reader.fields:
        source = _source(field, written)
        if source is None:
            if not field.has_default:
                return f"{path}.{field.name}: the writer does not send it and the reader has no default; add one"
            continue
        why = unreadable(field.type, source.type, f"{path}.{field.name}")
        if why is not None:
            return why
    return None


def _source(field: Field, written: dict[str, Field]) -> Field | None:
    names = (field.name, *field.aliases)
    return next((written[n] for n in names if n in written), None)


def covers(writer: Type, reader: Type) -> bool:
    """Whether a record of `writer` holds every field of `reader` under the same name and type.

    Then it needs no resolution: the reader's fields are simply picked out of it.
    """
    if writer.kind != "record" or reader.kind != "record":
        return writer == reader
    written = {f.name: f.type for f in writer.fields}
    return all(written.get(f.name) == f.type for f in reader.fields)
