"""The columns of published rows as tables have them: name and kind, read off the row's own fields."""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeGuard

import msgspec
from msgspec import inspect

from stream.archive_base import PublishedRow


class Kind(Enum):
    """What a column holds. Anything a table has no place for is `JSON` text."""

    TEXT = "text"
    WHOLE = "whole"
    NUMBER = "number"
    FLAG = "flag"
    MOMENT = "moment"
    TEXTS = "texts"
    JSON = "json"


MOMENTS: Final = ("window_start", "window_end", "watermark", "recorded_ms")
"""Whole numbers that are epoch milliseconds UTC."""


def _kind(name: str, given: inspect.Type) -> Kind:
    kinds = [t for t in given.types if not isinstance(t, inspect.NoneType)] if _is_union(given) else [given]
    only = kinds[0] if len(kinds) == 1 else None
    if isinstance(only, inspect.StrType) or (isinstance(only, inspect.LiteralType) and isinstance(only.values[0], str)):
        return Kind.TEXT
    if isinstance(only, inspect.IntType):
        return Kind.MOMENT if name in MOMENTS else Kind.WHOLE
    if isinstance(only, inspect.FloatType):
        return Kind.NUMBER
    if isinstance(only, inspect.BoolType):
        return Kind.FLAG
    if isinstance(only, inspect.VarTupleType | inspect.ListType) and isinstance(only.item_type, inspect.StrType):
        return Kind.TEXTS
    return Kind.JSON


def _is_union(given: inspect.Type) -> TypeGuard[inspect.UnionType]:
    return isinstance(given, inspect.UnionType)


COLUMNS: Final[dict[str, Kind]] = {
    f.name: _kind(f.name, inspect.type_info(f.type)) for f in msgspec.structs.fields(PublishedRow)
}
"""Every field of a published row, in order."""
