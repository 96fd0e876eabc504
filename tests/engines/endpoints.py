"""An endpoint's tests: a clock that only waiting moves, and a key that no log may hold."""

from __future__ import annotations

from chat_server import ChatServer

from engines.endpoint import EndpointEngine
from engines.endpoint_prompt import EndpointOptions
from engines.tasks import task_spec

CANARY = "sk-canary-7f3e9b1d"
MARKET = tuple(task_spec(task) for task in ("emtract7", "bullbear3"))
FREE = EndpointOptions(model="toy", per_minute=100_000)


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return False

    def engine(self, server: ChatServer, options: EndpointOptions = FREE, **more: object) -> EndpointEngine:
        settings: dict[str, object] = {"key": CANARY, **more}
        return EndpointEngine(
            server.address, options, MARKET, wait=self.wait, clock=lambda: self.now, luck=lambda: 1.0, **settings
        )  # type: ignore[arg-type]
