"""A small Grafana for tests: the calls of `/api` that Grafana 13 still has, checked by method, path, token and body.

Health, folders and data sources by uid, dashboards by uid and `/dashboards/db` with its 412. Data sources by number are
answered as Grafana 13 does by default: not at all.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

TOKEN = "glsa_canary-token-17"
Answer = tuple[int, Any]


class Got(NamedTuple):
    """One request."""

    method: str
    path: str
    body: Any


class Grafana:
    """What it holds. `troubles`: answers given instead, one a request: a status, or raw bytes of a whole reply."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.got: list[Got] = []
        self.folders: dict[str, dict[str, Any]] = {}
        self.sources: dict[str, dict[str, Any]] = {}
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.troubles: list[int | bytes] = []
        self.editor = False
        self.url = ""

    def answer(self, method: str, path: str, token: str | None, body: Any) -> Answer:
        if (method, path) == ("GET", "/api/health"):
            return 200, {"database": "ok", "version": "13.0.1", "commit": "abc"}
        if token != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key"}
        for asked, pattern, act in ROUTES:
            found = re.fullmatch(pattern, path)
            if asked == method and found is not None:
                return act(self, body, **found.groupdict())
        return 404, {"message": "Not found"}

    def get_folder(self, body: Any, uid: str) -> Answer:
        return (200, self.folders[uid]) if uid in self.folders else (404, {"message": "folder not found"})

    def make_folder(self, body: Any) -> Answer:
        if set(body) - {"uid", "title"} or not body.get("title"):
            return 400, {"message": "bad folder"}
        if body["uid"] in self.folders or any(f["title"] == body["title"] for f in self.folders.values()):
            return 412, {"message": "a folder with the same name already exists"}
        self.folders[body["uid"]] = {**body, "id": len(self.folders) + 1}
        return 200, self.folders[body["uid"]]

    def _admin(self) -> Answer | None:
        return (403, {"message": "You'll need additional permissions"}) if self.editor else None

    def get_source(self, body: Any, uid: str) -> Answer:
        if (refused := self._admin()) is not None:
            return refused
        if uid not in self.sources:
            return 404, {"message": "Data source not found"}
        shown = {k: v for k, v in self.sources[uid].items() if k != "secureJsonData"}
        return 200, shown | {"secureJsonFields": dict.fromkeys(self.sources[uid].get("secureJsonData", {}), True)}

    def make_source(self, body: Any) -> Answer:
        if any(s["name"] == body["name"] or s["uid"] == body["uid"] for s in self.sources.values()):
            return 409, {"message": "data source with the same name already exists"}
        return self.put_source(body, body["uid"])

    def put_source(self, body: Any, uid: str) -> Answer:
        if not all(isinstance(body.get(k), str) and body[k] for k in ("name", "type", "url", "access")):
            return 400, {"message": "bad request data"}
        self.sources[uid] = copy.deepcopy(body)
        return 200, {"id": 1, "message": "Datasource added", "name": body["name"]}

    def get_dashboard(self, body: Any, uid: str) -> Answer:
        if uid not in self.dashboards:
            return 404, {"message": "Dashboard not found"}
        return 200, {"dashboard": self.dashboards[uid], "meta": {"folderUid": self.dashboards[uid]["folderUid"]}}

    def put_dashboard(self, body: Any) -> Answer:
        dashboard, folder = body.get("dashboard"), body.get("folderUid")
        if not isinstance(dashboard, dict) or not dashboard.get("title") or dashboard.get("id", 0) is not None:
            return 400, {"message": "bad request data"}
        if folder not in self.folders:
            return 400, {"message": "folder not found"}
        held = self.dashboards.get(dashboard["uid"])
        if held is not None and not body["overwrite"] and dashboard.get("version") != held["version"]:
            return 412, {"status": "version-mismatch", "message": "The dashboard has been changed by someone else"}
        version = 1 if held is None else held["version"] + 1
        self.dashboards[dashboard["uid"]] = {**dashboard, "id": 7, "version": version, "folderUid": folder}
        return 200, {"uid": dashboard["uid"], "version": version, "status": "success"}


ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", "/api/folders/(?P<uid>[\\w-]+)", Grafana.get_folder),
    ("POST", "/api/folders", Grafana.make_folder),
    ("GET", "/api/datasources/uid/(?P<uid>[\\w-]+)", Grafana.get_source),
    ("POST", "/api/datasources", Grafana.make_source),
    ("PUT", "/api/datasources/uid/(?P<uid>[\\w-]+)", Grafana.put_source),
    ("GET", "/api/dashboards/uid/(?P<uid>[\\w-]+)", Grafana.get_dashboard),
    ("POST", "/api/dashboards/db", Grafana.put_dashboard),
]


@contextmanager
def grafana_server() -> Iterator[Grafana]:
    """A Grafana on a free port of loopback."""
    held = Grafana()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(raw) if raw else None
            with held.lock:
                held.got.append(Got(self.command, self.path, body))
                trouble = held.troubles.pop(0) if held.troubles else None
                if isinstance(trouble, bytes):
                    self.wfile.write(trouble)
                    self.close_connection = True
                    return
                status, told = (
                    held.answer(self.command, self.path, self.headers.get("Authorization"), body)
                    if trouble is None
                    else (trouble, {"message": "trouble"})
                )
            out = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the library's names

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        held.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield held
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
