"""The API as data: OpenAPI 3.1 of every route, AsyncAPI 3.0 of what the feed sends. Made from the routes themselves.

Schemas are those of the types the routes encode (`stream/answers.py`), so that they cannot say something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from stream.answers import EVENTS, Problem
from stream.web_ask import JSON, TOKEN, Param, Route

VERSION: Final = "1"
"""Of the API: rises when something that was there changes or goes; new fields and routes do not count."""

REFS: Final = "#/components/schemas/{name}"

Json = dict[str, object]

_WRONG: Final = {
    400: "a parameter that cannot be used; the text says what was expected",
    401: "a token is asked for, and this is none or another one",
    403: "the Host or the Origin is not one of this machine's",
}
_TYPES: Final[dict[str, Json]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "moment": {"type": "string", "description": "epoch milliseconds, or ISO 8601 (naive = UTC)"},
}
_ABOUT: Final = (
    "Signals of a running affectstream. Read-only. Times are epoch milliseconds UTC, windows half-open, unknown is "
    "null, never 0. Of two rows for one window the higher (revision, n) is newer."
)


def openapi(routes: Sequence[Route]) -> Json:
    """OpenAPI 3.1 of `routes`."""
    answers = [r.answer for r in routes if r.answer is not None]
    schemas, components = _schemas([*answers, Problem])
    answer_schemas = dict(zip(map(id, answers), schemas, strict=False))
    return {
        "openapi": "3.1.0",
        "info": {"title": "affectstream", "version": VERSION, "description": _ABOUT},
        "security": [{}, {"bearer": []}, {"query": []}],
        "paths": {r.path: {"get": _operation(r, answer_schemas.get(id(r.answer)))} for r in routes},
        "components": {"schemas": components, "securitySchemes": _security()},
    }


def asyncapi(routes: Sequence[Route]) -> Json:
    """AsyncAPI 3.0 of the feed: the channels /events and /ws, and each kind of event."""
    schemas, components = _schemas(list(EVENTS.values()))
    messages = {
        kind: {"name": kind, "summary": _first_line(EVENTS[kind]), "contentType": JSON, "payload": _event(kind, data)}
        for kind, data in zip(EVENTS, schemas, strict=True)
    }
    feeds = [r for r in routes if r.path in ("/events", "/ws")]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "affectstream feed", "version": VERSION, "description": _ABOUT},
        "channels": {
            r.path.strip("/"): {
                "address": r.path,
                "description": r.summary,
                "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in messages},
                "bindings": {"ws" if r.path == "/ws" else "http": _binding(r)},
            }
            for r in feeds
        },
        "operations": {
            f"send_{r.path.strip('/')}": {"action": "send", "channel": {"$ref": f"#/channels/{r.path.strip('/')}"}}
            for r in feeds
        },
        "components": {"messages": messages, "schemas": components},
    }


def _schemas(types: Iterable[object]) -> tuple[list[Json], Json]:
    schemas, components = msgspec.json.schema_components(list(types), ref_template=REFS)
    return list(schemas), dict(components)


def _operation(route: Route, schema: Json | None) -> Json:
    placed = [_placed(name) for name in re.findall(r"{(\w+)}", route.path)]
    responses: Json = {"200": _good(route, schema)} if route.media else {"101": {"description": "a WebSocket"}}
    wrong = {**_WRONG, **route.errors}
    if not route.params:
        del wrong[400]
    if route.open:
        del wrong[401]
    if placed:
        wrong[404] = "there is none of that name"
    for status, when in sorted(wrong.items()):
        media = "text/plain" if route.media == ("text/plain",) and status == 503 else JSON
        body: Json = {"schema": {"type": "string"} if media != JSON else {"$ref": REFS.format(name="Problem")}}
        responses[str(status)] = {"description": when, "content": {media: body}}
    operation: Json = {
        "summary": route.summary,
        "operationId": re.sub(r"\W+", "_", route.path).strip("_") or "page",
        "parameters": placed + [_parameter(p) for p in route.params],
        "responses": responses,
    }
    if route.open:
        operation["security"] = [{}]
    return operation


def _good(route: Route, schema: Json | None) -> Json:
    about: Json = {} if schema is None else {"schema": schema}
    return {"description": route.summary, "content": dict.fromkeys(route.media, about)}


def _placed(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _parameter(param: Param) -> Json:
    schema = dict(_TYPES[param.kind])
    if param.kind == "integer":
        schema |= {"minimum": param.low, "maximum": param.high}
    if param.choices:
        schema["enum"] = list(param.choices)
    if param.default is not None:
        schema["default"] = param.default
    found: Json = {"name": param.name, "in": "query", "description": param.about, "schema": schema}
    if param.required:
        found["required"] = True
    if param.many:
        found |= {"schema": {"type": "array", "items": schema}, "style": "form", "explode": False}
    return found


def _event(kind: str, data: Json) -> Json:
    """The schema of an event as /ws sends it; /events has the same three in its lines id, event and data."""
    return {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "event": {"const": kind}, "data": data},
        "required": ["id", "event", "data"],
    }


def _binding(route: Route) -> Json:
    properties = {p.name: {**_TYPES[p.kind], "description": p.about} for p in route.params}
    return {"method": "GET", "query": {"type": "object", "properties": properties}}


def _security() -> Json:
    return {
        "bearer": {"type": "http", "scheme": "bearer"},
        "query": {"type": "apiKey", "in": "query", "name": TOKEN.name, "description": TOKEN.about},
    }


def _first_line(kind: object) -> str:
    return (kind.__doc__ or "").partition("\n")[0]
