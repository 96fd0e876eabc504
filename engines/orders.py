"""What may be asked of an engine server at its control address, and what it answers: JSON both ways."""

from __future__ import annotations

import msgspec

from engines.shelf import Difference


class Status(msgspec.Struct):
    """How a server does, as `affect engine status` prints it.

    `counts`: requests `asked`, `answered`, `refused_NAME`; `rows`; messages that were `garbage`; messages `dropped`
    since a client took none; `strangers` without a known key; `batches`, `swaps`. `shadow`: differences by head.
    """

    model: str
    name: str
    backend: str
    shadow_model: str
    address: str
    clients: int
    connections: int
    accepting: bool
    waiting: int
    running: int
    counts: dict[str, int]
    shadow: dict[str, Difference]
    uptime_s: float


class Command(msgspec.Struct, forbid_unknown_fields=True):
    """What may be asked at the control address: `status`, `swap` (to `name`) or `stop`."""

    op: str
    name: str = ""


class Outcome(msgspec.Struct):
    """The answer to a command: `error` is empty where it was done."""

    error: str = ""
    model: str = ""
    status: Status | None = None
