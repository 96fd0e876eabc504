"""What the routes are made of: a described route, its parameters and how they are read, answers and errors as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from aiohttp import web

from stream.assets import Asset
from stream.moments import moment

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COMPRESS_FROM = 2_048
JSON: Final = "application/json"
WHOLE_MAX = 2**53


@dataclass(frozen=True, slots=True)
class Param:
    """One query parameter, as the API description tells it and as `Asked` reads it.

    `kind`: `string`, `integer` or `moment` (epoch milliseconds or ISO 8601; naive = UTC). `choices`: a string that is
    one of these. `many`: may be given several times, or several with commas between.
    """

    name: str
    about: str
    kind: str = "string"
    required: bool = False
    default: int | str | None = None
    low: int = 0
    high: int = WHOLE_MAX
    choices: tuple[str, ...] = ()
    many: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A GET route that cannot be added without its description.

    `answer`: type whose JSON schema the answer has; None where `media` is not JSON. `media`: content types of the
    answer. `errors`: status -> when, beyond 400, 401, 403 and 404. `open`: answers without a token.
    """

    path: str
    handler: Handler
    summary: str
    params: tuple[Param, ...] = ()
    answer: object = None
    media: tuple[str, ...] = (JSON,)
    errors: Mapping[int, str] = field(default_factory=dict)
    open: bool = False


ENTITY = Param("entity", "Only this entity, such as `ticker:AAPL`.")
WINDOW = Param("window", "Only windows of this size, milliseconds.", "integer", low=1)
DOMAIN = Param("domain", "Only this domain: `market`, `crisis` or `social`.")
SIGNAL = Param("signal", "Only these signals, such as `market.valence`.", many=True)
LAST_ID = Param("last_id", "Resume after this event; the header `Last-Event-ID` says the same.")
TOKEN = Param("token", "The access token, for clients that cannot send a header.")


class Wrong(web.HTTPBadRequest):
    """A request that cannot be answered; the text says what was expected."""

    def __init__(self, text: str, there: object = None) -> None:
        super().__init__(reason=text if there is None else f"{text}; there is {there}")


def text_of(request: web.Request, param: Param) -> str | None:
    """The text given for `param`; None where none is. Raises Wrong: it is needed, or none of its choices."""
    value = request.query.get(param.name) or param.default
    if value is None:
        if param.required:
            raise Wrong(f"{param.name}: expected a value, got none")
        return None
    if param.choices and value not in param.choices:
        raise Wrong(f"{param.name}: expected one of {', '.join(param.choices)}")
    return str(value)


def whole_of(request: web.Request, param: Param) -> int | None:
    """The whole number given for `param`. Raises Wrong: it is none, out of bounds, or needed and not given."""
    text = text_of(request, param)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and param.low <= int(text) <= param.high):
        raise Wrong(f"{param.name}: expected a whole number from {param.low} to {param.high}")
    return int(text)


def number_of(request: web.Request, param: Param) -> int:
    """As `whole_of` for a parameter with a default, or one that is needed."""
    value = whole_of(request, param)
    assert value is not None, param.name
    return value


def moment_of(request: web.Request, param: Param) -> int | None:
    """The moment given for `param`, epoch milliseconds. Raises Wrong: none that can be read."""
    text = text_of(request, param)
    if text is None:
        return None
    try:
        return moment(text)
    except ValueError as problem:
        raise Wrong(f"{param.name}: {problem}") from None


def names_of(request: web.Request, param: Param) -> frozenset[str]:
    """The names given for `param`, one at a time or with commas between."""
    return frozenset(s for text in request.query.getall(param.name, []) for s in text.split(",") if s)


def json_answer(body: object) -> web.Response:
    """`body` (or JSON bytes as they are) as a response, compressed where that is worth it."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    response = web.Response(body=data, content_type=JSON, headers={"Cache-Control": "no-store"})
    if len(data) >= COMPRESS_FROM:
        response.enable_compression()
    return response


async def asset_answer(asset: Asset, request: web.Request) -> web.StreamResponse:
    """A file of a page, compressed; 304 where the browser has this very one."""
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache"}
    if asset.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    response = web.Response(body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers)
    response.enable_compression()
    return response


def error_answer(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """`{"error": text}`; 503 says when to come again."""
    given = dict(headers or {})
    if status == 503:
        given.setdefault("Retry-After", "5")
    return web.Response(status=status, body=msgspec.json.encode({"error": text}), content_type=JSON, headers=given)
