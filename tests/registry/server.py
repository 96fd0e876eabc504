"""A small schema registry of the Confluent REST subset, for tests: subjects, versions, ids, compatibility, config.

Kept honest by `test_server.py`, where the genuine client and its Avro serialisers work against it.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from operators.admission import parse_schema
from operators.errors import ConfigInvalid
from operators.evolution import unreadable
from operators.schema import Type, normal_form

CONTENT = "application/vnd.schemaregistry.v1+json"
LEVELS = tuple(a + b for a in ("BACKWARD", "FORWARD", "FULL") for b in ("", "_TRANSITIVE"))
Answer = tuple[int, Any]


class Fault(Exception):
    """An error answer: status is the first three digits of the code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Registry:
    """What the registry knows; one lock around every request."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.level = "BACKWARD_TRANSITIVE"
        self.levels: dict[str, str] = {}
        self.texts: dict[int, str] = {}
        self.types: dict[int, Type] = {}
        self.subjects: dict[str, dict[int, int]] = {}
        self.requests: list[tuple[str, str]] = []

    def admitted(self, body: Any) -> tuple[str, Type]:
        text = body.get("schema") if isinstance(body, dict) else None
        if not isinstance(text, str) or body.get("schemaType", "AVRO") != "AVRO" or body.get("references"):
            raise Fault(42201, "expected an Avro schema without references")
        try:
            return text, parse_schema(text)
        except ConfigInvalid as problem:
            raise Fault(42201, str(problem)) from None

    def versions(self, subject: str) -> dict[int, int]:
        if not self.subjects.get(subject):
            raise Fault(40401, f"Subject '{subject}' not found.")
        return self.subjects[subject]

    def version(self, subject: str, asked: str) -> tuple[int, int]:
        held = self.versions(subject)
        if asked != "latest" and not asked.isdigit():
            raise Fault(42202, f"The specified version '{asked}' is not a valid version id.")
        number = max(held) if asked == "latest" else int(asked)
        if number not in held:
            raise Fault(40402, f"Version {asked} not found.")
        return number, held[number]

    def described(self, subject: str, number: int) -> dict[str, Any]:
        schema_id = self.subjects[subject][number]
        return {"subject": subject, "version": number, "id": schema_id, "schema": self.texts[schema_id]}

    def trouble(self, subject: str, fresh: Type, only: int | None = None) -> list[str]:
        level = self.levels.get(subject, self.level)
        held = self.subjects.get(subject, {})
        numbers = [only] if only is not None else sorted(held) if "TRANSITIVE" in level else sorted(held)[-1:]
        found: list[str] = []
        for old in (self.types[held[n]] for n in numbers):
            backward = unreadable(fresh, old) if level.startswith(("BACKWARD", "FULL")) else None
            forward = unreadable(old, fresh) if level.startswith(("FORWARD", "FULL")) else None
            found += [why for why in (backward, forward) if why is not None]
        return found

    def register(self, subject: str, body: Any) -> dict[str, Any]:
        text, fresh = self.admitted(body)
        plain = normal_form(fresh)
        schema_id = next((i for i, t in self.types.items() if normal_form(t) == plain), None)
        held = self.subjects.get(subject, {})
        if schema_id is None or schema_id not in held.values():
            if why := self.trouble(subject, fresh):
                raise Fault(40901, f"Schema being registered is incompatible with an earlier schema: {why[0]}")
            if schema_id is None:
                schema_id = max(self.texts, default=0) + 1
                self.texts[schema_id], self.types[schema_id] = text, fresh
            self.subjects.setdefault(subject, {})[max(held, default=0) + 1] = schema_id
        number = next(n for n, i in self.subjects[subject].items() if i == schema_id)
        return self.described(subject, number)

    def lookup(self, subject: str, body: Any) -> dict[str, Any]:
        plain = normal_form(self.admitted(body)[1])
        for number, schema_id in self.versions(subject).items():
            if normal_form(self.types[schema_id]) == plain:
                return self.described(subject, number)
        raise Fault(40403, "Schema not found")

    def by_id(self, asked: str) -> int:
        if not asked.isdigit() or int(asked) not in self.texts:
            raise Fault(40403, f"Schema {asked} not found")
        return int(asked)

    def compatible(self, subject: str, asked: str | None, body: Any) -> dict[str, Any]:
        number = None if asked is None else self.version(subject, asked)[0]
        why = self.trouble(subject, self.admitted(body)[1], number)
        return {"is_compatible": not why, "messages": why}

    def set_level(self, subject: str | None, body: Any) -> dict[str, Any]:
        level = body.get("compatibility") if isinstance(body, dict) else None
        if level not in (*LEVELS, "NONE"):
            raise Fault(42203, f"Invalid compatibility level {level!r}")
        if subject is None:
            self.level = level
        else:
            self.levels[subject] = level
        return {"compatibility": level}

    def drop(self, subject: str) -> list[int]:
        dropped = sorted(self.versions(subject))
        del self.subjects[subject]
        return dropped


def _places() -> dict[str, Callable[..., Any]]:
    def uses(r: Registry, i: int) -> list[dict[str, Any]]:
        return [{"subject": s, "version": n} for s, held in r.subjects.items() for n, x in held.items() if x == i]

    name, number = "([^/]+)", "([^/]+)"
    subjects = f"/subjects/{name}"
    return {
        "GET /": lambda r, b: {},
        "GET /subjects": lambda r, b: sorted(r.subjects),
        "GET /schemas/types": lambda r, b: ["AVRO"],
        f"GET /schemas/ids/{number}": lambda r, b, i: {"schema": r.texts[r.by_id(i)]},
        f"GET /schemas/ids/{number}/schema": lambda r, b, i: json.loads(r.texts[r.by_id(i)]),
        f"GET /schemas/ids/{number}/versions": lambda r, b, i: uses(r, r.by_id(i)),
        f"GET /schemas/ids/{number}/subjects": lambda r, b, i: [u["subject"] for u in uses(r, r.by_id(i))],
        f"POST {subjects}": lambda r, b, s: r.lookup(s, b),
        f"DELETE {subjects}": lambda r, b, s: r.drop(s),
        f"GET {subjects}/versions": lambda r, b, s: sorted(r.versions(s)),
        f"POST {subjects}/versions": lambda r, b, s: r.register(s, b),
        f"GET {subjects}/versions/{number}": lambda r, b, s, n: r.described(s, r.version(s, n)[0]),
        f"GET {subjects}/versions/{number}/schema": lambda r, b, s, n: json.loads(r.texts[r.version(s, n)[1]]),
        f"POST /compatibility{subjects}/versions": lambda r, b, s: r.compatible(s, None, b),
        f"POST /compatibility{subjects}/versions/{number}": lambda r, b, s, n: r.compatible(s, n, b),
        "GET /config": lambda r, b: {"compatibilityLevel": r.level},
        "PUT /config": lambda r, b: r.set_level(None, b),
        f"GET /config/{name}": lambda r, b, s: {"compatibilityLevel": r.levels.get(s, r.level)},
        f"PUT /config/{name}": lambda r, b, s: r.set_level(s, b),
        "GET /mode": lambda r, b: {"mode": "READWRITE"},
    }


PLACES = [(re.compile(pattern), act) for pattern, act in _places().items()]


class Handler(BaseHTTPRequestHandler):
    """One connection. `registry` and `authorization` (None = anybody) are set on a subclass by `serving`."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    registry: Registry
    authorization: str | None = None

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path)
        self.registry.requests.append((self.command, self.path))
        try:
            status, answer = 200, self._answer(f"{self.command} {path.path.rstrip('/') or '/'}", raw)
            parse_qs(path.query, strict_parsing=bool(path.query))
        except Fault as fault:
            status, answer = int(str(fault.code)[:3]), {"error_code": fault.code, "message": str(fault)}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", CONTENT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, request: str, raw: bytes) -> Any:
        if self.authorization is not None and self.headers.get("Authorization") != self.authorization:
            raise Fault(40101, "Unauthorized")
        for pattern, act in PLACES:
            found = pattern.fullmatch(request)
            if found is not None:
                try:
                    body = json.loads(raw) if raw else None
                except ValueError:
                    raise Fault(42201, "not JSON") from None
                with self.registry.lock:
                    return act(self.registry, body, *(unquote(part) for part in found.groups()))
        raise Fault(404, "HTTP 404 Not Found")

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def serving(
    registry: Registry | None = None, port: int = 0, authorization: str | None = None, handler: type = Handler
) -> Iterator[tuple[str, Registry]]:
    """A registry on loopback while the block runs: its url and what it knows."""
    held = registry or Registry()
    kind = type("Bound", (handler,), {"registry": held, "authorization": authorization})
    server = ThreadingHTTPServer(("127.0.0.1", port), kind)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
