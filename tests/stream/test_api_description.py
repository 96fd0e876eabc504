"""The description is the API: every route is in it and no other, and what a running server answers fits its schemas."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from aiohttp import web
from published_rows import CODEC, MINUTE, filled, row

from operators.records import Alert
from stream.alert_cards import AlertPost, card_of
from stream.answers import EVENTS
from stream.api_description import asyncapi, openapi
from stream.contribution import By, ContributingPost, Contribution, GroupPart, Parts, RisingWord
from stream.feed import EventKind, Feed, OpsStatus, SpotPost
from stream.log_archive import LogArchive
from stream.metrics import Metrics
from stream.urgency import UrgentPost
from stream.web import LiveServer

ROOT = Path(__file__).parent.parent.parent
ROW_ID = row().row_id
TOKEN = "a-token-of-some-length"

ALERT = Alert(
    rule="joy", kind="threshold", severity="warning", row_id=ROW_ID, signal="market.joy", domain="market",
    entity="ticker:AAPL", window_start=0, window_end=MINUTE, value=0.25, lo=0.2, hi=0.3, n=40, measure=0.25,
    reference=0.2, status="final", revision=0, message="0.25 is above 0.2",
)  # fmt: skip
CARD = card_of(ALERT, "/", [AlertPost("p", "up", "happy", 0.01)])


async def explain(row_id: str, top: int, by: By) -> Contribution:
    group = GroupPart("x", 40, 30, 1.0, 1.0, 0.25, None)
    post = ContributingPost("p", 0, 7, 1, 0.01, "happy", "up")
    return Contribution(
        row_id, 0.25, 0.2, 0.3, 40, 0.2, 30, 0.05, Parts(0.05, 0.0, 0.0, 0.0), by, (group,), (post,) * top,
        (RisingWord("up", 9, 2, 2.5),), False, ("only the newest 9 records of a partition were read",),
    )  # fmt: skip


ASKED = {
    "/api/series": {"entity": "ticker:AAPL", "window": str(MINUTE)},
    "/api/posts": {"entity": "ticker:AAPL"},
    "/api/asof": {"at": "100000"},
    "/api/revisions": {"row_id": ROW_ID},
    "/api/explain": {"id": ROW_ID},
}


def made() -> LiveServer:
    return LiveServer(Feed(), Metrics(process=False))


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Feed, aiohttp.ClientSession]]:
    feed = Feed(first_id=0)
    rows = [row(), row(2 * MINUTE, value=None, lo=None, hi=None, reasons=("n_eff 2 below the minimum 20",))]
    feed.publish(rows)
    feed.spotlight("ticker:AAPL", [SpotPost(time_ms=1, text_masked="up", label="joy", score=0.5)])
    feed.status(OpsStatus(consumed=5, applied=5, ready=True, problem=None))
    feed.alert([CARD])
    archive = LogArchive(await filled([(r, 1_000 * k) for k, r in enumerate(rows)]), CODEC)
    server = LiveServer(feed, Metrics(), port=0, archive=archive, token=TOKEN, explainers={"market": explain})
    await server.start()
    try:
        async with aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
            yield feed, http
    finally:
        await server.stop()


def checker(described: dict[str, Any], schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """A validator of `schema` with the components it refers to; a field that is not described is wrong, too."""
    whole = {**schema, "components": described["components"]}
    return jsonschema.Draft202012Validator(closed(whole))


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    found = {k: closed(v) for k, v in schema.items()}
    if found.get("type") == "object" and "properties" in found:
        found.setdefault("additionalProperties", False)
    return found


def test_every_route_is_described_and_every_described_route_exists() -> None:
    async def run() -> None:
        server = made()
        server.port = 0
        await server.start()
        try:
            assert server._runner is not None
            app = server._runner.app
            assert isinstance(app, web.Application)
            there = {r.resource.canonical for r in app.router.routes() if r.resource is not None and r.method == "GET"}
            assert {r.method for r in app.router.routes()} == {"GET", "HEAD"}
            async with aiohttp.ClientSession(server.url) as http, http.get("/api/openapi.json") as answer:
                described = await answer.json()
        finally:
            await server.stop()
        assert set(described["paths"]) == there
        assert len(there) > 15

    asyncio.run(run())


def test_the_files_in_docs_are_those_the_server_gives() -> None:
    spec = importlib.util.spec_from_file_location("api_files", ROOT / "docs" / "api_files.py")
    assert spec is not None
    assert spec.loader is not None
    api_files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(api_files)
    for name, content in api_files.rendered().items():
        held = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert held == content, f"docs/{name} is old; run: python docs/api_files.py"


def test_the_description_is_sound() -> None:
    described = openapi(made().routes)
    paths: Any = described["paths"]
    text = json.dumps(described)
    components: Any = described["components"]
    for name in set(re.findall(r"#/components/schemas/([\w.]+)", text)):
        jsonschema.Draft202012Validator.check_schema(components["schemas"][name])
    operations = [path["get"] for path in paths.values()]
    names = [o["operationId"] for o in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert operation["summary"].endswith(".")
        assert all(p["schema"] and p["name"] for p in operation["parameters"])
        assert {"200", "101"} & set(operation["responses"])
        assert "403" in operation["responses"]


@pytest.mark.parametrize("path", [r.path for r in made().routes if r.answer is not None])
def test_answers_of_a_running_server_fit_their_schemas(path: str) -> None:
    async def run() -> None:
        async with served() as (_, http):
            async with http.get("/api/openapi.json") as answer:
                described = await answer.json()
            async with http.get(path, params=ASKED.get(path, {})) as answer:
                assert answer.status == 200
                body = await answer.json()
            media = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            checker(described, media["schema"]).validate(body)
            assert body
            if path not in ("/api/openapi.json", "/api/asyncapi.json"):
                assert not checker(described, media["schema"]).is_valid({**body, "not_described": 1})

    asyncio.run(run())


@pytest.mark.parametrize("path", [r.path for r in made().routes])
def test_statuses_and_media_types_are_those_described(path: str) -> None:
    """Right, wrong, and without the token: each status is in the description, each error is a Problem."""

    async def run() -> None:
        async with served() as (_, http):
            described = openapi(made().routes)
            paths: Any = described["paths"]
            responses = paths[path]["get"]["responses"]
            problem = checker(described, {"$ref": "#/components/schemas/Problem"})
            place = path.replace("{name}", "app.js")
            async with http.get(place, params=ASKED.get(path, {})) as answer:
                assert str(answer.status) in responses
                if answer.status == 200:
                    assert answer.content_type in responses["200"]["content"]
            wrong: list[tuple[dict[str, str], dict[str, str]]] = [
                ({"limit": "x", "window": "x", "at": "x", "row_id": "x"}, {}),
                ({}, {"Authorization": "Bearer no"}),
                ({}, {"Host": "evil.example"}),
            ]
            for params, headers in wrong:
                async with http.get(place, params=params, headers=headers) as answer:
                    assert str(answer.status) in responses, (path, params, headers)
                    if answer.status >= 400:
                        assert answer.content_type == "application/json"
                        problem.validate(await answer.json())

    asyncio.run(run())


def test_parameters_are_bounded_as_described() -> None:
    async def run() -> None:
        tried = 0
        async with served() as (_, http):
            paths: Any = openapi(made().routes)["paths"]
            for path, item in paths.items():
                for parameter in item["get"]["parameters"]:
                    schema = parameter["schema"]
                    beyond = {"maximum": 1, "minimum": -1}
                    bad = [str(schema[k] + by) for k, by in beyond.items() if k in schema]
                    bad += ["neither"] if "enum" in schema else []
                    for value in bad:
                        params = {**ASKED.get(path, {}), parameter["name"]: value}
                        if path == "/ws":  # its handshake is looked at first
                            continue
                        async with http.get(path, params=params) as answer:
                            assert answer.status == 400, (path, params)
                            tried += 1
        assert tried > 15

    asyncio.run(run())


def test_every_kind_of_event_is_described_and_fits() -> None:
    async def run() -> None:
        seen = set()
        async with served() as (feed, http), http.ws_connect("/ws?last_id=0") as live:
            async with http.get("/api/asyncapi.json") as answer:
                described = await answer.json()
            feed.status(OpsStatus(ready=True))
            feed.spotlight("ticker:AAPL", [SpotPost(time_ms=1, text_masked="up", label="joy", score=0.5)])
            urgent = UrgentPost(id="p", time_ms=1, urgency=0.5, request=1.0, fear=0.0, sadness=0.0, need="water",
                                places=("place:Houma",), text_masked="no water")  # fmt: skip
            feed.urge([urgent], [], 1)
            feed.alert([CARD])
            events = [json.loads(await live.receive_str()) for _ in range(6)]
            async with http.ws_connect("/ws?last_id=9") as gone:
                events.append(json.loads(await gone.receive_str()))
            for reader in tuple(feed._readers):
                reader._limit = 0
            feed.publish([row(3 * MINUTE)])
            events.append(json.loads(await live.receive_str()))
            for event in events:
                seen.add(event["event"])
                payload = described["components"]["messages"][event["event"]]["payload"]
                checker(described, payload).validate(event)
        assert seen == set(EVENTS) == set(described["components"]["messages"])

    asyncio.run(run())


def test_the_feeds_description_has_both_channels_with_their_filters() -> None:
    described: Any = asyncapi(made().routes)
    assert set(described["channels"]) == {"events", "ws"}
    for channel in described["channels"].values():
        (binding,) = channel["bindings"].values()
        assert set(binding["query"]["properties"]) == {"entity", "window", "domain", "last_id"}
        assert set(channel["messages"]) == set(EVENTS)
    assert set(EVENTS) == set(EventKind.__args__)  # type: ignore[attr-defined]
