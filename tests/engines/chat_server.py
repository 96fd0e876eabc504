"""A conforming chat endpoint of ours on a free port of this machine, which can be told to misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Trick = Callable[[BaseHTTPRequestHandler, Body], bool]
"""Does something odd with a request; True = that was the answer."""
LABEL = {"emtract7": "anger", "bullbear3": "bearish", "goemotions28": "joy", "sentiment3": "negative"}


def answer(body: Body) -> Body:
    """What a well-behaved model says: bearish anger; happy and bullish where the text says so; joy."""
    schema = body["response_format"]["json_schema"]["schema"]
    tasks = schema["properties"]["posts"]["items"]["properties"]["emotion"]["required"]
    assert body["response_format"]["json_schema"]["strict"] is True
    out = []
    for post in json.loads(body["messages"][1]["content"]):
        happy = {"emtract7": "happy", "bullbear3": "bullish", "sentiment3": "positive"} if "up" in post["text"] else {}
        emotion = {task: [{"label": happy.get(task, LABEL[task]), "confidence": 0.75}] for task in tasks}
        cause = post["text"][:4]
        out.append({"post": post["post"], "emotion": emotion, "intensity": 0.5, "cause": cause, "stance": "none"})
    return {"posts": out}


def completion(content: str, **more: Any) -> Body:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}, **more}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": {"total_tokens": 100}}


def send(handler: BaseHTTPRequestHandler, status: int, body: object, **headers: str) -> bool:
    """Answer; bytes go as they are. True."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(raw)
    return True


def says(content: str | Callable[[Body], str], **more: Any) -> Trick:
    """A completion with this content, whatever was asked."""
    return lambda h, body: send(h, 200, completion(content if isinstance(content, str) else content(body), **more))


def fails(status: int, body: object = b"", **headers: str) -> Trick:
    return lambda h, _: send(h, status, body, **headers)


class ChatServer:
    """`asked`: (headers, body) of every request. `tricks`: done one after another, then it behaves; `always` beats both
    where it is not None. `gate`: released when the server ends, for tricks that hang until then."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], Body]] = []
        self.tricks: list[Trick] = []
        self.always: Trick | None = None
        self.gate = threading.Event()
        mine = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                mine.asked.append(({k.lower(): v for k, v in self.headers.items()}, body))
                trick = mine.always or (mine.tricks.pop(0) if mine.tricks else None)
                try:
                    if self.path != "/v1/chat/completions":
                        send(self, 404, {})
                    elif trick is None or not trick(self, body):
                        send(self, 200, completion(json.dumps(answer(body))))
                except (BrokenPipeError, ConnectionResetError):
                    return  # the client had enough

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    server = ChatServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
