"""Those who talk to an engine server: a command from here, and a client that says what it likes."""

from __future__ import annotations

import time

import msgspec
import numpy as np
import zmq

from engines.load import load_text_model
from engines.orders import Command, Outcome, Status
from engines.remote import command
from engines.serve import Server
from engines.wire import Answer, Ask, Beat, Ready, Refusal, described, pack, read_answer

TEXTS = ["we need water", "so happy", "", "stocks fall", "not good " * 30, "a"]


def ordered(server: Server, op: str, name: str = "") -> Outcome:
    answer = command(server.control, msgspec.json.encode(Command(op, name)), 60.0)
    return msgspec.json.decode(answer, type=Outcome)


def status(server: Server) -> Status:
    found = ordered(server, "status").status
    assert found is not None
    return found


class Peer:
    """A client that says what it likes."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.connect(address)

    def beside(self, address: str) -> zmq.Socket[bytes]:
        """Another connection."""
        other = self._context.socket(zmq.DEALER)
        other.set(zmq.LINGER, 0)
        other.set(zmq.RECONNECT_IVL, -1)
        other.connect(address)
        return other

    def ask(self, number: int, rows: int = 1, deadline_ms: int = 60_000, model: str = "") -> None:
        tensors = {"thousandths": np.arange(rows, dtype=np.int64)}
        features = load_text_model("stub").recipe
        assert features is not None
        ask = Ask(number, rows, features.digest, described(tensors), deadline_ms, model)
        self.socket.send_multipart(pack(ask, list(tensors.values())))

    def hear(self, kind: type = object) -> Ready | Beat | Answer | Refusal:
        """The next message that is of `kind`; signs of life pass by."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.socket.poll(1000):
                message, _ = read_answer(self.socket.recv_multipart())
                if isinstance(message, kind) and not (isinstance(message, Beat | Ready) and kind is object):
                    return message
        raise AssertionError(f"no {kind.__name__} came")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close(0)
        self._context.term()
