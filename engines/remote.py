"""The engine `remote`: a model that another process serves. The clients' door of `zmq`."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from engines.base import F64, AnyArray, EngineSpec, Recipe, ScoreBatch, TensorBatch
from engines.batching import part
from engines.errors import EngineAway, EngineError, ManifestInvalid, MissingExtra, ShapeMismatch
from engines.wire import (
    MAX_FRAME,
    REFUSALS,
    Answer,
    Ask,
    FromServer,
    Hello,
    Ready,
    Refusal,
    described,
    pack,
    read_answer,
)

GREETING_S: Final = 1.0
"""A server that says nothing within it is away; whoever waits asks again."""
SILENT_BEATS: Final = 4
"""Signs of life missed before a server counts as gone: two seconds at its usual pace."""
MAX_PART: Final = MAX_FRAME // 4
"""Bytes of a tensor above which a batch goes in two."""
KNOWN: Final = 8
"""Versions whose specs are remembered; a server sends the spec before its first answer."""
Featurize = Callable[[Sequence[str]], TensorBatch]


class RemoteEngine:
    """Implements `Engine` over a connection to an engine server. One request is open at a time.

    Everything that may pass by itself is `EngineAway`: nobody there, killed, stopped, hung, too slow, overloaded, or
    answering what makes no sense. The call may then be made again; it connects anew. Late answers are dropped.

    `spec` is that of the version which scored last; `featurize` makes tensors for the model that is served now.

    Args:
        address: `tcp://HOST:PORT` or `ipc://PATH`.
        make: from a recipe to its featuriser.
        keys: folder with `client.key_secret` and `server.key`, where the server asks for keys.
        deadline_s: longest wait for an answer while the server shows signs of life.

    Raises:
        EngineAway: nobody answers at `address`. MissingExtra: pyzmq is not installed.
        ManifestInvalid: the address or the keys cannot be used.
    """

    def __init__(
        self, address: str, make: Callable[[Recipe], Featurize], keys: Path | None = None, deadline_s: float = 30.0
    ) -> None:
        try:
            import zmq
        except ImportError as error:
            raise MissingExtra(
                "engine 'remote' needs pyzmq; install it with `pip install 'affectstream[remote]'`"
            ) from error
        if address.partition("://")[0] not in ("tcp", "ipc") or len(address) < 8:
            raise ManifestInvalid(f"engine 'remote': address expected tcp://HOST:PORT or ipc://PATH, got {address!r}")
        self._zmq = zmq
        self._address = address
        self._make = make
        self._keys = None if keys is None else read_keys(keys)
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._number = int.from_bytes(os.urandom(4), "little")
        self._specs: dict[str, EngineSpec] = {}
        self._ready: Ready | None = None
        self._features = ""
        self._stale = False
        self._heard = 0.0
        self._closed = False
        try:
            with self._lock:
                self._greet()
        except BaseException:
            self.close()
            raise

    spec: EngineSpec
    _featurize: Featurize

    def featurize(self, texts: Sequence[str]) -> TensorBatch:
        """Tensors of `texts` for the model that the server has now (as far as it is known here)."""
        return self._featurize(texts)

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Have every row scored. Waits, so not in an event loop.

        Raises:
            ShapeMismatch: the server says the tensors do not fit. EngineAway: see the class.
        """
        if batch.rows > 1 and max((t.nbytes for t in batch.tensors.values()), default=0) > MAX_PART:
            return self._in_halves(batch)
        with self._lock:
            if self._closed:
                raise EngineAway(f"engine at {self._address}: closed; load it again")
            made_for = self._features
            if self._socket is None or self._stale:
                self._greet()
            if self._features != made_for:
                raise EngineAway(f"engine at {self._address}: serves another model now; featurise anew")
            self._number += 1
            ask = Ask(self._number, batch.rows, made_for, described(batch.tensors), self._deadline_ms())
            try:
                return self._scored(self._asked(ask, list(batch.tensors.values())), batch.rows)
            except EngineAway:
                self._disconnect()
                if self._stale:  # so that whoever asks again makes the tensors for what is served now
                    with contextlib.suppress(EngineAway):
                        self._greet()
                raise

    def close(self) -> None:
        """Let go of the connection; a call that waits in another thread ends soon. Idempotent."""
        self._closed = True
        with self._lock:
            self._disconnect()
            self._context.term()

    def _in_halves(self, batch: TensorBatch) -> ScoreBatch:
        """Rows too long for one message, such as a thousand posts of four thousand characters."""
        middle = batch.rows // 2
        first = self.infer(part(batch, 0, middle))
        spec = self.spec
        second = self.infer(part(batch, middle, batch.rows))
        if self.spec.model_id != spec.model_id:
            raise EngineAway(f"engine at {self._address}: another version answers in the middle of a batch")
        both = {task: np.concatenate([logits, second.logits[task]]) for task, logits in first.logits.items()}
        return ScoreBatch(both, first.run_s + second.run_s)

    def _deadline_ms(self) -> int:
        return max(1, int(self._deadline_s * 1000))

    def _connect(self) -> None:
        zmq = self._zmq
        opened = self._context.socket(zmq.DEALER)
        opened.set(zmq.LINGER, 0)
        opened.set(zmq.SNDHWM, 16)
        opened.set(zmq.RCVHWM, 256)
        opened.set(zmq.MAXMSGSIZE, MAX_FRAME)
        opened.set(zmq.RECONNECT_IVL, 100)
        opened.set(zmq.RECONNECT_IVL_MAX, 1_000)
        opened.set(zmq.IPV6, "[" in self._address)
        if self._keys is not None:
            opened.set(zmq.CURVE_SERVERKEY, self._keys[0])
            opened.set(zmq.CURVE_PUBLICKEY, self._keys[1])
            opened.set(zmq.CURVE_SECRETKEY, self._keys[2])
        try:
            opened.connect(self._address)
        except zmq.ZMQError as error:
            opened.close(0)
            raise ManifestInvalid(f"engine 'remote': {self._address!r} is no address: {error.strerror}") from error
        self._socket = opened

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None

    def _greet(self) -> None:
        """Learn what is served. Old connections are let go: a new one has nothing under way."""
        self._disconnect()
        self._connect()
        self._send(pack(Hello()))
        until = time.monotonic() + GREETING_S
        while (left := until - time.monotonic()) > 0:
            message, _ = self._receive(left)
            if isinstance(message, Ready) and message.recipe is not None:
                self._featurize = self._make(message.recipe)
                self._features, self._stale = message.features, False
                self.spec = self._specs[message.spec.model_id]
                return
            if isinstance(message, Refusal):
                self._refused(message)
        self._disconnect()
        raise EngineAway(f"engine at {self._address}: nobody answers; start `affect engine serve` there")

    def _asked(self, ask: Ask, tensors: Sequence[AnyArray]) -> tuple[Answer, dict[str, AnyArray]]:
        """Send a request and wait for its answer."""
        self._send(pack(ask, tensors))
        started = self._heard = time.monotonic()
        silence = SILENT_BEATS * (self._ready.beat_ms if self._ready is not None else 500) / 1000
        while True:
            now = time.monotonic()
            if self._closed:
                raise EngineAway(f"engine at {self._address}: closed while it was waited for")
            if now - self._heard > silence:
                raise EngineAway(f"engine at {self._address}: no sign of life for {silence:.1f} s")
            if now - started > self._deadline_s:
                raise EngineAway(
                    f"engine at {self._address}: alive, but gave no answer within {self._deadline_s:g} s; make"
                    " engine.deadline longer or run.batch_size smaller if it stays so"
                )
            message, found = self._receive(min(0.25, silence))
            if isinstance(message, Answer) and message.number == ask.number:
                return message, found
            if isinstance(message, Refusal) and message.number in (0, ask.number):
                self._refused(message)

    def _scored(self, answer: tuple[Answer, dict[str, AnyArray]], rows: int) -> ScoreBatch:
        """The answer's logits, which must be what the spec of its version says."""
        message, found = answer
        spec = self._specs.get(message.model)
        if spec is None:
            raise EngineAway(f"engine at {self._address}: {message.model} scored, which it has not introduced")
        logits: dict[str, F64] = {}
        for head in spec.heads:
            values = found.get(head.task)
            if values is None or values.dtype != np.float64 or values.shape != (rows, len(head.labels)):
                got = "nothing" if values is None else f"{values.dtype}{list(values.shape)}"
                raise EngineAway(
                    f"engine at {self._address}: head {head.task!r} expected float64[{rows}, {len(head.labels)}],"
                    f" got {got}"
                )
            if not bool(np.isfinite(values).all()):
                raise EngineAway(f"engine at {self._address}: head {head.task!r} of {message.model} is not finite")
            logits[head.task] = values.astype(np.float64)
        self.spec = spec
        return ScoreBatch(logits, message.run_s)

    def _refused(self, refusal: Refusal) -> None:
        self._stale = self._stale or refusal.error == "WrongFeatures"
        if REFUSALS.get(refusal.error, True):
            raise EngineAway(f"engine at {self._address}: {refusal.error}: {refusal.text}")
        raise ShapeMismatch(f"engine at {self._address}: {refusal.error}: {refusal.text}")

    def _send(self, frames: Sequence[bytes | memoryview]) -> None:
        assert self._socket is not None
        try:
            self._socket.send_multipart(frames, self._zmq.NOBLOCK, copy=False)
        except self._zmq.Again as error:
            raise EngineAway(f"engine at {self._address}: takes nothing") from error

    def _receive(self, wait_s: float) -> tuple[FromServer | None, dict[str, AnyArray]]:
        """The next message; (None, {}) where none came. Whatever comes is a sign of life."""
        assert self._socket is not None
        if not self._socket.poll(max(1, int(wait_s * 1000))):
            return None, {}
        frames = [frame.buffer for frame in self._socket.recv_multipart(self._zmq.NOBLOCK, copy=False)]
        try:
            message, found = read_answer(frames)
        except EngineError as error:
            raise EngineAway(f"engine at {self._address}: {error}") from error
        self._heard = time.monotonic()
        if isinstance(message, Ready):
            self._learn(message)
        return message, found

    def _learn(self, ready: Ready) -> None:
        """Take up what the server says of itself; a version stays known for answers that are under way."""
        spec = msgspec.structs.replace(ready.spec, backend=f"remote {ready.spec.backend}")
        self._ready = ready
        self._specs.pop(spec.model_id, None)
        self._specs[spec.model_id] = spec
        while len(self._specs) > KNOWN:
            del self._specs[next(iter(self._specs))]


def command(address: str, words: bytes, timeout_s: float = 10.0) -> bytes:
    """Send a command to the control address of an engine server on this machine; what it answers.

    Raises:
        EngineAway: nobody answers in time. ManifestInvalid: no address. MissingExtra: pyzmq is not installed.
    """
    try:
        import zmq
    except ImportError as error:
        raise MissingExtra("this needs pyzmq; install it with `pip install 'affectstream[remote]'`") from error
    with zmq.Context() as context, context.socket(zmq.REQ) as asking:
        asking.set(zmq.LINGER, 0)
        try:
            asking.connect(address)
        except zmq.ZMQError as error:
            raise ManifestInvalid(f"--control {address!r} is no address: {error.strerror}") from error
        asking.send(words)
        if not asking.poll(int(timeout_s * 1000)):
            raise EngineAway(
                f"nobody answers at {address}; `affect engine serve --control {address}` takes commands there"
            )
        return asking.recv()


def new_keys(folder: Path, client: str) -> list[Path]:
    """Make what is missing in the key folder of a server: its own pair, and one of a client; the new files.

    `folder/server.key_secret` stays there; `folder/clients/CLIENT.key` lets the client in; `folder/for-CLIENT` is what
    the client's machine gets.

    Raises:
        ManifestInvalid: there is a client of that name already, or the folder cannot be written.
        MissingExtra: pyzmq is not installed.
    """
    try:
        from zmq.auth import create_certificates
    except ImportError as error:
        raise MissingExtra("this needs pyzmq; install it with `pip install 'affectstream[remote]'`") from error
    bundle, allowed = folder / f"for-{client}", folder / "clients" / f"{client}.key"
    if allowed.exists() or bundle.exists():
        raise ManifestInvalid(f"{folder}: there is a client {client!r} already; take another name, or remove its files")
    mask = os.umask(0o077)
    try:
        for made in (folder, bundle, allowed.parent):
            made.mkdir(parents=True, exist_ok=True)
        new = []
        if not (folder / "server.key_secret").exists():
            create_certificates(folder, "server")
            new += [folder / "server.key_secret", folder / "server.key"]
        create_certificates(bundle, "client")
        allowed.write_bytes((bundle / "client.key").read_bytes())
        (bundle / "server.key").write_bytes((folder / "server.key").read_bytes())
        return [*new, allowed, bundle / "client.key_secret", bundle / "server.key"]
    except OSError as error:
        raise ManifestInvalid(f"{folder}: keys cannot be written: {error.strerror or error}") from error
    finally:
        os.umask(mask)


def read_keys(folder: Path, name: str = "engine.keys") -> tuple[bytes, bytes, bytes]:
    """(server's public, own public, own secret) key of a client's folder, which the setting `name` gave.

    Raises:
        ManifestInvalid: they are not there.
    """
    from zmq.auth import load_certificate

    with contextlib.suppress(OSError, ValueError):
        server, _ = load_certificate(folder / "server.key")
        public, secret = load_certificate(folder / "client.key_secret")
        if secret is not None:
            return server, public, secret
    raise ManifestInvalid(
        f"{name} {folder}: expected the files server.key and client.key_secret, as `affect engine keys` makes them"
    )
