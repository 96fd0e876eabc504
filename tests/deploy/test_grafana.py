"""`affect dashboards push` against a small Grafana that checks method, path, token and body."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from grafana_server import TOKEN, Grafana, grafana_server

from stream.cli import main
from stream.dashboard_target import DashboardTarget, postgres_source
from stream.dashboards import all_dashboards, operations
from stream.errors import StreamError, UsageError
from stream.grafana import WAITS_S, GrafanaApi
from stream.panels import FOLDER_TITLE, FOLDER_UID

DSN = "postgresql://grafana:canary%2Dpassword@db:5433/affect?sslmode=require"
AT_ONCE = tuple(0.0 for _ in WAITS_S)
HTML = b"HTTP/1.1 %d X\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<p>message of a proxy</p>"


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    with grafana_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_GRAFANA_TOKEN", TOKEN)
    monkeypatch.setenv("PG", DSN)


def push(grafana: Grafana, *words: str) -> int:
    return main(["dashboards", "push", "--url", grafana.url, *words])


BOTH = ("--prometheus", "http://prometheus:9090", "--postgres", "PG")


def test_all_of_it_arrives_and_a_second_push_changes_nothing(
    grafana: Grafana, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(grafana, *BOTH) == 0
    told = capsys.readouterr().err
    assert told.startswith(f"Grafana 13.0.1 at {grafana.url}\n")
    assert told.count("made") == 6
    assert [f["title"] for f in grafana.folders.values()] == [FOLDER_TITLE]
    assert {uid: d["folderUid"] for uid, d in grafana.dashboards.items()} == {
        d.uid: FOLDER_UID for d in all_dashboards()
    }
    postgres = grafana.sources["affect-postgres"]
    assert (postgres["url"], postgres["user"]) == ("db:5433", "grafana")
    assert postgres["jsonData"] == {"database": "affect", "sslmode": "require"}
    assert postgres["secureJsonData"] == {"password": "canary-password"}
    assert grafana.sources["affect-prometheus"]["url"] == "http://prometheus:9090"
    named = {panel["datasource"]["uid"] for dashboard in grafana.dashboards.values() for panel in dashboard["panels"]}
    assert named == set(grafana.sources)

    grafana.got.clear()
    assert push(grafana) == 0
    assert "unchanged" in (told := capsys.readouterr().err)
    assert "made" not in told
    assert {g.method for g in grafana.got} == {"GET"}
    assert (
        push(grafana, *BOTH) == 0
    )  # data sources are written each time: a new password cannot be told from an old one
    assert capsys.readouterr().err.count("replaced") == 2


def test_somebody_elses_version_is_kept_unless_told(grafana: Grafana, capsys: pytest.CaptureFixture[str]) -> None:
    assert push(grafana) == 0
    edited = grafana.dashboards[operations().uid]
    edited["tags"], edited["title"] = ["mine"], "mine"
    capsys.readouterr()
    assert push(grafana) == 1
    assert "is there already and is another one" in capsys.readouterr().err
    assert grafana.dashboards[operations().uid]["title"] == "mine"
    assert push(grafana, "--overwrite") == 0
    assert grafana.dashboards[operations().uid]["title"] == operations().title
    assert grafana.dashboards[operations().uid]["version"] == 2


def target(grafana: Grafana, token: str = TOKEN) -> GrafanaApi:
    return GrafanaApi(grafana.url, token, waits_s=AT_ONCE)


async def everything(to: DashboardTarget) -> None:
    await to.health()
    await to.folder(FOLDER_UID, FOLDER_TITLE)
    await to.data_source(postgres_source(DSN))
    await to.dashboard(operations().json(), FOLDER_UID, False)
    await to.close()


@pytest.mark.parametrize("trouble", [500, 502, 503, 429, b"", HTML % 502], ids=str)
@pytest.mark.parametrize("call", range(6))
def test_passing_trouble_at_any_call_is_ridden_out(grafana: Grafana, trouble: int | bytes, call: int) -> None:
    """Whether the server did what it was asked before it failed, or not."""
    plain = grafana.answer

    def answer(*asked: object) -> tuple[int, object]:
        told = plain(*asked)  # type: ignore[arg-type]
        if len(grafana.got) == call + 1:
            grafana.troubles += [trouble]  # it did it, said so, and is away for the next one
        return told

    grafana.answer = answer  # type: ignore[method-assign]
    asyncio.run(everything(target(grafana)))
    assert list(grafana.dashboards) == [operations().uid]
    assert list(grafana.sources) == ["affect-postgres"]


def test_an_answer_that_is_lost_after_the_work_was_done_is_no_conflict(grafana: Grafana) -> None:
    plain, lost = grafana.answer, set()

    def answer(method: str, path: str, token: str | None, body: object) -> tuple[int, object]:
        told = plain(method, path, token, body)
        if method == "POST" and path not in lost and not path.endswith("/db"):
            lost.add(path)
            return 503, {"message": "gateway"}
        return told

    grafana.answer = answer  # type: ignore[method-assign]
    asyncio.run(everything(target(grafana)))
    assert lost == {"/api/folders", "/api/datasources"}
    assert list(grafana.dashboards) == [operations().uid]


FINAL = {
    "wrong token": (401, "the token is wrong"),
    "may not": (403, "may not do this"),
    "no route": (404, "no such route"),
    "always 500": (500, "trouble"),
    "html": (HTML % 200, "no answer as a Grafana gives it"),
    "redirect": (b"HTTP/1.1 301 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "redirects else"),
    "empty": (b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n", "no answer as a Grafana gives it"),
    "no grafana": (b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{}", "is not that of a Grafana"),
    "null": (b"HTTP/1.1 400 X\r\nContent-Length: 4\r\n\r\nnull", "no answer as a Grafana gives it"),
}  # fmt: skip


@pytest.mark.parametrize("name", FINAL)
def test_lasting_trouble_is_one_clear_line_after_bounded_tries(
    grafana: Grafana, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    trouble, said = FINAL[name]
    grafana.troubles = [trouble] * 50
    with pytest.raises(StreamError) as raised:
        asyncio.run(everything(target(grafana)))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert grafana.url in str(raised.value)
    assert len(grafana.got) <= 1 + len(WAITS_S)
    assert TOKEN not in str(raised.value) + caplog.text


def test_a_wrong_token_and_one_that_may_not(
    grafana: Grafana, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grafana.editor = True
    assert push(grafana, *BOTH) == 1
    assert "403, the token's service account may not do this" in capsys.readouterr().err
    monkeypatch.setenv("AFFECT_GRAFANA_TOKEN", "glsa_another")
    assert push(grafana) == 1
    told = capsys.readouterr()
    assert "401" in told.err
    assert "glsa_another" not in told.err + told.out


def test_nobody_there_is_one_line() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: refused
        to = GrafanaApi(f"http://127.0.0.1:{held.getsockname()[1]}/grafana/", TOKEN, waits_s=AT_ONCE)
        with pytest.raises(StreamError, match=r"^http://127\.0\.0\.1:\d+/grafana: nobody answers; check --url$"):
            asyncio.run(to.health())


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("https://grafana.example", "https://grafana.example/api"),
        ("https://example/grafana/", "https://example/grafana/api"),
        ("http://[::1]:3000", "http://[::1]:3000/api"),
    ],
)
def test_addresses_are_taken_apart_and_put_together(url: str, api: str) -> None:
    to = GrafanaApi(url, TOKEN)
    assert to._face.api.url == api
    assert f"{to.where}/api" == api


def test_a_folder_or_source_of_that_name_under_another_uid_is_said(grafana: Grafana) -> None:
    grafana.folders["other"] = {"uid": "other", "title": FOLDER_TITLE}
    with pytest.raises(StreamError, match="another uid is in the way"):
        asyncio.run(target(grafana).folder(FOLDER_UID, FOLDER_TITLE))
    source = postgres_source(DSN)
    grafana.sources["other"] = {**source.json(), "uid": "other"}
    with pytest.raises(StreamError, match="another uid is in the way"):
        asyncio.run(target(grafana).data_source(source))


WRONG = {
    "token in argv": ("--token-env", "glsa_x.y"),
    "no token": ("--token-env", "NOT_SET_ANYWHERE"),
    "dsn in argv": ("--postgres", DSN),
    "no dsn": ("--postgres", "AFFECT_GRAFANA_TOKEN"),
    "prometheus": ("--prometheus", "prometheus:9090"),
    "prometheus with a password": ("--prometheus", "http://a:b@prometheus:9090"),
    "user in url": ("--url", "http://admin:admin@127.0.0.1:3000"),
    "no url": ("--url", "localhost"),
    "plain http": ("--url", "http://grafana.example:3000"),
    "bad port": ("--url", "http://127.0.0.1:x"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_one_line_and_shows_no_secret(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--url", "http://127.0.0.1:9", *WRONG[name])
    assert main(["dashboards", "push", *words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert WRONG[name][0] in told
    assert not any(secret in told for secret in (TOKEN, "canary", "admin:admin", "a:b@"))


def test_export_needs_a_folder_and_writes_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "export", "--out", str(tmp_path / "none")]) == 2
    assert "expected a folder" in capsys.readouterr().err
    assert main(["dashboards", "export", "--out", str(tmp_path)]) == 0
    for dashboard in all_dashboards():
        made = json.loads((tmp_path / f"{dashboard.name}.json").read_text())
        assert made == json.loads(json.dumps(dashboard.json()))
        spots = [panel["gridPos"] for panel in made["panels"]]
        taken = [(x, y) for s in spots for x in range(s["x"], s["x"] + s["w"]) for y in range(s["y"], s["y"] + s["h"])]
        assert len(taken) == len(set(taken))
        assert max(x for x, _ in taken) < 24
        assert len({panel["id"] for panel in made["panels"]}) == len(spots)


def test_the_shipped_client_is_the_real_urllib3() -> None:
    """`grafana-client`, the other library there is, would put another `urllib3` in its place for everyone."""
    import urllib3

    assert urllib3.__name__ == "urllib3"
    assert int(urllib3.__version__.split(".")[0]) == 2
    assert urllib3.__version__ < "2.9"


def test_a_usage_error_is_raised_before_anything_is_sent(grafana: Grafana) -> None:
    with pytest.raises(UsageError):
        GrafanaApi(grafana.url, "two words")
    assert grafana.got == []
