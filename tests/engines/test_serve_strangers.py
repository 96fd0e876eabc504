"""Who is let in to the engine server: keys, strangers, noise, and a full house."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from engines.desk import Terms
from engines.errors import EngineAway, ManifestInvalid
from engines.load import load_remote, load_text_model
from engines.remote import new_keys
from engines.serve import Server
from engines.serve_front import Doors, Unusable, is_here
from engines.shelf import Shelf
from engines.wire import MAGIC, Ask, Refusal, Tensor, pack
from tests.engines.peers import TEXTS, Peer, status
from tests.engines.serving import ANYWHERE, connected, serving, until


def test_keys_let_in_who_is_known_and_nobody_else(tmp_path: Path) -> None:
    new_keys(tmp_path, "ann")
    with pytest.raises(ManifestInvalid, match="already"):
        new_keys(tmp_path, "ann")
    new_keys(tmp_path, "bob")
    new_keys(tmp_path / "elsewhere", "eve")
    assert (tmp_path / "server.key_secret").stat().st_mode & 0o077 == 0
    with serving(doors=Doors(ANYWHERE, ANYWHERE, tmp_path)) as server:
        model = connected(server.address, tmp_path / "for-ann")
        assert model.logits(["a"]).logits["sentiment3"].shape == (1, 3)
        eve = tmp_path / "elsewhere" / "for-eve"
        (eve / "server.key").write_bytes((tmp_path / "server.key").read_bytes())
        for keys in (None, eve):
            with pytest.raises(EngineAway, match="nobody answers"):
                load_remote(server.address, keys)
        until(lambda: status(server).counts.get("strangers", 0) > 0)
        (tmp_path / "clients" / "bob.key").unlink()
        server.reload()
        until(lambda: status(server).counts.get("swaps") == 1)
        with pytest.raises(EngineAway, match="nobody answers"):
            load_remote(server.address, tmp_path / "for-bob")
        assert model.logits(["b"]).logits["sentiment3"].shape == (1, 3)
        model.engine.close()
    with pytest.raises(ManifestInvalid, match="engine keys"):
        load_remote("tcp://127.0.0.1:1", tmp_path)


def test_other_machines_need_keys_and_commands_stay_here(tmp_path: Path) -> None:
    assert [is_here(a) for a in ("ipc://x", "tcp://[::1]:5", "tcp://localhost:5", "tcp://0.0.0.0:5", "tcp://*:5")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    new_keys(tmp_path, "ann")
    for doors, word in (
        (Doors("tcp://0.0.0.0:*"), "curve-keys"),
        (Doors("tcp://0.0.0.0:*", "tcp://0.0.0.0:*", tmp_path), "this machine only"),
        (Doors("udp://127.0.0.1:1"), "expected tcp"),
        (Doors(ANYWHERE, "", tmp_path / "clients"), "no folder `clients`"),
        (Doors("ipc:///nowhere/at/all"), "cannot listen"),
    ):
        with pytest.raises(Unusable, match=word):
            Server(doors, Terms(), Shelf(load_text_model, "stub"))


def test_hostile_messages_are_refused_or_dropped_and_counted_while_others_are_served(tmp_path: Path) -> None:
    """Noise, torn and huge messages from several peers at once; a client beside them gets every answer right."""
    rng = random.Random(7)
    huge = Ask(3, 1, "f", (Tensor("x", "<f8", (2**31, 2**31)),), 9)
    with serving() as server, ExitStack() as stack:
        model = connected(server.address)
        want = load_text_model("stub").logits(TEXTS).logits["sentiment3"].tobytes()
        peers = [stack.enter_context(Peer(server.address)) for _ in range(5)]
        for _ in range(40):
            for peer in peers:
                noise = [rng.randbytes(rng.randrange(200)) for _ in range(rng.randrange(1, 5))]
                torn = [MAGIC + b"\x01" + rng.randbytes(50)]
                peer.socket.send_multipart(rng.choice([noise, torn, [b"x"] * 200, [b""], [MAGIC + b"\x07abc"]]))
            assert model.logits(TEXTS).logits["sentiment3"].tobytes() == want
        peers[0].socket.send_multipart([*pack(huge)[:1], b"12345678"])
        refusals = [peers[0].hear(Refusal)]
        while refusals[-1].number != 3:  # type: ignore[union-attr]
            refusals.append(peers[0].hear(Refusal))
        assert "2147483648" in refusals[-1].text  # type: ignore[union-attr]
        assert status(server).counts["garbage"] == 201
        assert model.logits(TEXTS).logits["sentiment3"].tobytes() == want
        model.engine.close()


def test_a_thousand_connections_are_bounded_and_those_served_stay() -> None:
    """Room for 200. A crowd of 1000 that says nothing is cut off; one of 300 that shakes hands is let in in part.
    Meanwhile who is in is served, and when they have gone there is room again."""
    with serving(doors=Doors(ANYWHERE, ANYWHERE, max_connections=200)) as server, ExitStack() as stack:
        model = connected(server.address)
        want = load_text_model("stub").logits(TEXTS).logits["sentiment3"].tobytes()
        host, port = server.address.removeprefix("tcp://").split(":")
        for _ in range(1000):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex((host, int(port)))
        until(lambda: not status(server).accepting)
        for _ in range(20):
            assert model.logits(TEXTS).logits["sentiment3"].tobytes() == want
        until(lambda: status(server).connections <= 1)  # nobody has closed a thing on this side
        crowd = stack.enter_context(Peer(server.address))
        for _ in range(300):
            more = stack.enter_context(crowd.beside(server.address))
            more.send(b"hello")
        until(lambda: status(server).counts.get("turned_away", 0) > 0)
        assert model.logits(TEXTS).logits["sentiment3"].tobytes() == want
        assert status(server).clients == 1
    model.engine.close()


def test_a_full_house_lets_nobody_in_until_somebody_goes() -> None:
    with serving(doors=Doors(ANYWHERE, ANYWHERE, max_connections=3)) as server:
        inside = []
        for k in range(1, 4):
            inside.append(connected(server.address))
            until(lambda k=k: status(server).connections == k)  # type: ignore[misc]
        with pytest.raises(EngineAway, match="nobody answers"):
            load_remote(server.address)
        assert status(server).counts["turned_away"] > 0
        inside.pop().engine.close()
        inside.append(connected(server.address))
        for model in inside:
            assert model.logits(TEXTS).logits["sentiment3"].shape == (len(TEXTS), 3)
            model.engine.close()
