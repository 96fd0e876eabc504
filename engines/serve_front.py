"""The sockets of an engine server: ROUTER for clients, another for commands, keys, and a bound on connections.

The server's door of `zmq`. Only `wake` may be called from another thread.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import resource
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from engines.errors import EngineError, MissingExtra
from engines.wire import MAX_FRAME, MAX_TENSORS

try:
    import zmq
    from zmq.auth import load_certificate, load_certificates
    from zmq.utils import z85
    from zmq.utils.monitor import recv_monitor_message
except ImportError as error:
    raise MissingExtra("the engine server needs pyzmq; install it with `pip install 'affectstream[remote]'`") from error

HANDSHAKE_MS: Final = 3_000
"""A connection that has not said who it is by then is cut off."""
HEARTBEAT_MS: Final = 10_000
"""A peer that does not answer libzmq's own pings for so long is cut off."""
HIGH_WATER: Final = 256
"""Messages held for one client in each direction; beyond, answers to it are dropped (it asks again)."""
MAX_COMMAND: Final = 4_096
AT_ONCE: Final = 256
"""Messages taken in before the queue is looked at again."""
LINGER_MS: Final = 1_000


class Unusable(EngineError):
    """The server cannot listen as it was told to: an address, a folder of keys."""

    exit_code = 2


class Heard(NamedTuple):
    """Something came: frames of a client, or a command. `user`: the key it came in with, "" = none was asked for."""

    what: Literal["client", "command"]
    who: bytes
    frames: Sequence[memoryview]
    user: str = ""


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a server listens.

    Attributes:
        bind: `tcp://HOST:PORT` (port * for any free one) or `ipc://PATH`. Anything but this machine needs `keys`.
        control: the same for commands, "" = none; this machine only.
        keys: folder with `server.key_secret` and `clients/*.key`; None = no keys are asked for.
        max_connections: beyond, nobody is let in until some have gone.
        largest: bytes of a message; who sends a larger one is cut off.
    """

    bind: str
    control: str = ""
    keys: Path | None = None
    max_connections: int = 1_000
    largest: int = MAX_FRAME


def is_here(address: str) -> bool:
    """Whether only this machine can reach `address`.

    >>> is_here("tcp://127.0.0.1:5555"), is_here("ipc:///run/affect.sock"), is_here("tcp://*:5555")
    (True, True, False)
    """
    scheme, _, rest = address.partition("://")
    if scheme in ("ipc", "inproc"):
        return True
    host = rest.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class Front:
    """Opens the sockets of `doors`.

    Raises:
        Unusable: an address that cannot be listened on, or is open to the network without keys.
    """

    def __init__(self, doors: Doors) -> None:
        for name, address in (("--bind", doors.bind), ("--control", doors.control)):
            if address and address.partition("://")[0] not in ("tcp", "ipc"):
                raise Unusable(f"{name}: expected tcp://HOST:PORT or ipc://PATH, got {address!r}")
        if not is_here(doors.bind) and doors.keys is None:
            raise Unusable(
                f"--bind {doors.bind}: other machines can reach it; give --curve-keys DIR (affect engine keys)"
            )
        if doors.control and not is_here(doors.control):
            raise Unusable(f"--control {doors.control}: commands are for this machine only; use ipc:// or 127.0.0.1")
        self._doors = doors
        self.counts: Counter[str] = Counter()
        self.connections = 0
        self._raise_file_limit()
        self._allowed = self._read_keys()
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 64)
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._poller = zmq.Poller()
        self._poller.register(self._woken, zmq.POLLIN)
        self._open: list[zmq.Socket[bytes]] = []
        self._monitor: zmq.Socket[bytes] | None = None
        try:
            self._zap = self._knock()
            self._router = self._socket(zmq.ROUTER)
            self._guard(self._router)
            self._monitor = self._router.get_monitor_socket(zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED)
            self._open.append(self._monitor)
            self._poller.register(self._monitor, zmq.POLLIN)
            self.address = self._bind(self._router, doors.bind, "--bind")
            self._commands = self._socket(zmq.ROUTER)
            self._commands.set(zmq.MAXMSGSIZE, MAX_COMMAND)
            self.control = self._bind(self._commands, doors.control, "--control") if doors.control else ""
        except BaseException:
            self.close()
            raise

    def hear(self, timeout_s: float) -> list[Heard]:
        """Wait for messages at most so long; [] where none came, or `wake` was called."""
        ready = dict(self._poller.poll(max(0, int(timeout_s * 1000 + 0.999))))
        if self._woken.fileno() in ready or self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                while self._woken.recv(4_096):
                    pass
        if self._monitor is not None and self._monitor in ready:
            self._count_connections(self._monitor)
        if self._zap in ready:
            self._answer_knocks(self._zap)
        heard = self._take(self._commands, "command") if self._commands in ready else []
        return heard + (self._take(self._router, "client") if self._router in ready else [])

    @property
    def accepting(self) -> bool:
        """Somebody new would be let in."""
        return self.connections <= self._doors.max_connections

    def send(self, client: bytes, frames: Sequence[bytes | memoryview]) -> Literal["sent", "gone", "full"]:
        """Hand a message to a client: `gone` = there is no such client any more, `full` = it takes nothing."""
        return self._send(self._router, client, frames)

    def reply(self, who: bytes, text: bytes) -> None:
        """Answer a command."""
        self._send(self._commands, who, [b"", text])

    def wake(self) -> None:
        """End a `hear` that waits. Safe from any thread and from a signal handler."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._waker.send(b".")

    def read_keys_again(self) -> None:
        """Take up client keys that were added to, or removed from, the folder; who is connected stays so.

        Raises:
            Unusable: the folder cannot be read.
        """
        self._allowed = self._read_keys()

    def close(self) -> None:
        """Send what is under way, for a second at most, and close everything."""
        if self._monitor is not None:
            self._router.disable_monitor()
        for opened in self._open:
            opened.close(LINGER_MS)
        self._context.term()
        self._woken.close()
        self._waker.close()

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        opened = self._context.socket(kind)
        self._open.append(opened)
        opened.set(zmq.LINGER, LINGER_MS)
        opened.set(zmq.SNDHWM, HIGH_WATER)
        opened.set(zmq.RCVHWM, HIGH_WATER)
        if kind == zmq.ROUTER:
            opened.set(zmq.ROUTER_MANDATORY, 1)
        self._poller.register(opened, zmq.POLLIN)
        return opened

    def _guard(self, router: zmq.Socket[bytes]) -> None:
        """Bounds on what a stranger can cost, and keys where there are some."""
        router.set(zmq.MAXMSGSIZE, self._doors.largest)
        router.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        router.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        router.set(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_MS)
        router.set(zmq.BACKLOG, 128)
        router.set(zmq.IPV6, "[" in self._doors.bind)
        router.set_string(zmq.ZAP_DOMAIN, "affect")  # who comes in is asked of us, with keys or without
        if self._doors.keys is not None:
            _, secret = _certificate(self._doors.keys / "server.key_secret")
            router.set(zmq.CURVE_SERVER, 1)
            router.set(zmq.CURVE_SECRETKEY, secret)

    def _bind(self, bound: zmq.Socket[bytes], address: str, option: str) -> str:
        try:
            bound.bind(address)
        except zmq.ZMQError as error:
            raise Unusable(f"{option} {address}: cannot listen there: {error.strerror}") from error
        if address.startswith("ipc://"):
            os.chmod(address[len("ipc://") :], 0o600)
        return bound.get_string(zmq.LAST_ENDPOINT)

    def _take(self, source: zmq.Socket[bytes], what: Literal["client", "command"]) -> list[Heard]:
        heard: list[Heard] = []
        for _ in range(AT_ONCE):
            try:
                frames = source.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            if len(frames) > MAX_TENSORS + 2:
                self.counts["garbage"] += 1
                continue
            who = bytes(frames[0].buffer)
            asked = what == "client" and self._doors.keys is not None
            user = str(frames[-1].get("User-Id")) if asked else ""
            heard.append(Heard(what, who, [frame.buffer for frame in frames[1:]], user))
        return heard

    def _send(
        self, via: zmq.Socket[bytes], who: bytes, frames: Sequence[bytes | memoryview]
    ) -> Literal["sent", "gone", "full"]:
        try:
            via.send_multipart([who, *frames], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self.counts["dropped"] += 1
            return "full"
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return "gone"
        return "sent"

    def _knock(self) -> zmq.Socket[bytes]:
        """The socket at which libzmq asks whether somebody may come in."""
        zap = self._socket(zmq.REP)
        zap.bind("inproc://zeromq.zap.01")
        return zap

    def _answer_knocks(self, zap: zmq.Socket[bytes]) -> None:
        while True:
            try:
                asked = zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            known = self._doors.keys is None or (asked[5] == b"CURVE" and asked[6] in self._allowed)
            if not known:
                self.counts["strangers"] += 1
            elif not self.accepting:
                self.counts["turned_away"] += 1
            code, text = (b"200", b"OK") if known and self.accepting else (b"400", b"not let in")
            user = z85.encode(asked[6]) if asked[5] == b"CURVE" else b""
            zap.send_multipart([b"1.0", asked[1], code, text, user, b""])

    def _read_keys(self) -> frozenset[bytes]:
        """Public keys that may come in."""
        folder = self._doors.keys
        if folder is None:
            return frozenset()
        if not (folder / "clients").is_dir():
            raise Unusable(
                f"--curve-keys {folder}: has no folder `clients`; make one with `affect engine keys {folder}`"
            )
        return frozenset(z85.decode(key) for key in load_certificates(folder / "clients"))

    def _count_connections(self, monitor: zmq.Socket[bytes]) -> None:
        """Keep count of connections."""
        while True:
            try:
                event = recv_monitor_message(monitor, zmq.NOBLOCK)
            except zmq.Again:
                break
            if event["event"] == zmq.Event.ACCEPTED:
                self.connections += 1
                self.counts["accepted"] += 1
            else:
                self.connections = max(0, self.connections - 1)

    def _raise_file_limit(self) -> None:
        """Room for a file a connection, and for as many that do not shake hands and are soon cut off.

        A crowd beyond that waits outside: the system lets no more in.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * self._doors.max_connections + 512
        if soft != resource.RLIM_INFINITY and soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            if most < wanted:
                raise Unusable(
                    f"--max-connections {self._doors.max_connections}: this process may open {most} files only"
                )


def _certificate(path: Path) -> tuple[bytes, bytes]:
    """(public, secret) of a key file.

    Raises:
        Unusable: no such file, or one without a secret.
    """
    try:
        public, secret = load_certificate(path)
    except (OSError, ValueError) as error:
        raise Unusable(f"{path}: no key file: {error}; make one with `affect engine keys`") from error
    if secret is None:
        raise Unusable(f"{path}: holds no secret key")
    return public, secret
