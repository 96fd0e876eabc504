"""The engine server for real: many clients, another version in mid run, keys, strangers, a server that goes away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.base import ScoreBatch, TensorBatch, TextModel
from engines.desk import Terms
from engines.errors import EngineAway, EngineLost, ManifestInvalid, ShapeMismatch
from engines.load import load_remote, load_text_model
from engines.orders import Outcome, Status
from engines.remote import command
from engines.serve_front import Doors
from engines.shelf import Shelf
from engines.stub import StubEngine
from engines.wire import Answer, Refusal
from tests.engines.peers import TEXTS, Peer, ordered, status
from tests.engines.serving import connected, serving, until, zoo_of_two


def conserved(found: Status) -> bool:
    refused = sum(count for name, count in found.counts.items() if name.startswith("refused_"))
    return found.counts.get("asked", 0) == found.counts.get("answered", 0) + refused + found.waiting + found.running


class Gate(StubEngine):
    """The stub; while `shut`, it takes its time. Notes how many rows it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.calls: list[int] = []
        self.fail: Callable[[], None] = lambda: None

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        self.calls.append(batch.rows)
        self.fail()
        assert self.open.wait(60)
        return super().infer(batch)


def gated() -> tuple[Gate, Shelf]:
    gate = Gate()
    plain = load_text_model("stub")
    return gate, Shelf(lambda _: TextModel(plain.featurize, gate, recipe=plain.recipe), "stub")


def test_what_is_queued_goes_together_and_each_gets_its_own() -> None:
    """While one batch is scored five clients ask; theirs are one batch, and the answers are as if asked alone."""
    gate, shelf = gated()
    with serving(shelf) as server, ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.address)) for _ in range(6)]
        gate.open.clear()
        peers[0].ask(1, rows=1)
        until(lambda: gate.calls == [1])
        for k, peer in enumerate(peers[1:], 1):
            peer.ask(10 + k, rows=k)
        until(lambda: status(server).waiting == 5)
        gate.open.set()
        for k, peer in enumerate(peers):
            answer = peer.hear()
            assert isinstance(answer, Answer)
            assert answer.number == (10 + k if k else 1)
            assert answer.tensors[0].shape[0] == max(1, k)
        assert gate.calls == [1, 15]
        assert conserved(status(server))


def test_deadlines_credit_and_models_that_are_not_served_are_refused_by_name() -> None:
    gate, shelf = gated()
    with serving(shelf, Terms(credit=2)) as server, Peer(server.address) as peer:
        gate.open.clear()
        peer.ask(1)
        until(lambda: gate.calls == [1])
        peer.ask(2, deadline_ms=1)
        late = peer.hear()
        assert (late.number, late.error) == (2, "DeadlineExceeded")  # type: ignore[union-attr]
        peer.ask(3)
        peer.ask(4)
        peer.ask(5, model="other@1")
        refused = {r.number: r.error for r in (peer.hear(), peer.hear()) if isinstance(r, Refusal)}
        assert refused == {4: "NoCredit", 5: "WrongModel"}
        gate.open.set()
        assert {peer.hear(Answer).number, peer.hear(Answer).number} == {1, 3}  # type: ignore[union-attr]
        found = status(server)
        assert conserved(found)
        assert found.counts["answered"] == 2


def test_one_that_cannot_be_scored_does_the_others_of_its_batch_no_harm(tmp_path: Path) -> None:
    """Buckets beyond the table pass every check of shape; only the model finds out."""
    with serving(Shelf(load_text_model, "hashed")) as server:
        good, bad = connected(server.address), connected(server.address)
        want = load_text_model("hashed").logits(TEXTS).logits["sentiment3"]
        foul = TensorBatch(1, {"buckets": np.array([2**30], np.int32), "offsets": np.array([0, 1], np.int64)})

        def ask_well() -> bool:
            return good.logits(TEXTS).logits["sentiment3"].tobytes() == want.tobytes()

        def ask_ill() -> bool:
            with pytest.raises((ShapeMismatch, EngineLost)):
                bad.engine.infer(foul)
            return True

        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(act) for _ in range(30) for act in (ask_well, ask_ill)]
            # one engine belongs to one thread at a time; the engine itself takes turns
            assert all(one.result() for one in both)
        good.engine.close()
        bad.engine.close()


def test_another_version_under_load_loses_and_doubles_nothing_and_each_answer_names_its_own(tmp_path: Path) -> None:
    """Four clients ask without a break; the model is changed six times. Scores are those of the version named."""
    one, two = zoo_of_two(tmp_path)
    texts = [f"{text} {k}" for k, text in enumerate(TEXTS * 4)]
    want = {i: load_text_model(n, tmp_path).logits(texts).logits for i, n in ((one, "one"), (two, "two"))}
    assert want[one]["sentiment3"].tobytes() != want[two]["sentiment3"].tobytes()
    over = threading.Event()

    def client(address: str) -> list[str]:
        model, seen = connected(address), []
        while not over.is_set() or len(seen) < 20:
            scores = model.logits(texts)
            version = model.spec.model_id
            assert {t: s.tobytes() for t, s in scores.logits.items()} == {
                t: s.tobytes() for t, s in want[version].items()
            }
            seen.append(version)
        model.engine.close()
        return seen

    with serving(Shelf(partial(load_text_model, zoo=tmp_path), "one")) as server, ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client, server.address) for _ in range(4)]
        try:
            for turn in range(6):
                name = ("two", "one")[turn % 2]
                done = ordered(server, "swap", name)
                assert (done.error, done.model) == ("", (two, one)[turn % 2])
                answered = status(server).counts["answered"]
                until(lambda before=answered: status(server).counts["answered"] > before + 8)  # type: ignore[misc]
        finally:
            over.set()
        seen = [version for future in clients for version in future.result()]
        assert set(seen) == {one, two}
        found = status(server)
        assert found.counts["swaps"] == 6
        assert found.counts["asked"] == found.counts["answered"] == len(seen)
        assert found.counts["rows"] == len(seen) * len(texts)


def test_a_model_with_other_tensors_is_met_by_asking_anew(tmp_path: Path) -> None:
    """From the hashed bag to the encoder: the tensors made before are refused, those made after are scored."""
    with serving(Shelf(load_text_model, "hashed")) as server:
        model = connected(server.address)
        batch = model.featurize(TEXTS)
        assert ordered(server, "swap", "text-affect").error == ""
        with pytest.raises(EngineAway, match="WrongFeatures"):
            model.engine.infer(batch)
        want = load_text_model("text-affect").logits(TEXTS).logits
        assert {t: s.tobytes() for t, s in model.logits(TEXTS).logits.items()} == {
            t: s.tobytes() for t, s in want.items()
        }
        assert model.spec.model_id == load_text_model("text-affect").spec.model_id
        model.engine.close()


def test_what_cannot_take_over_leaves_the_old_one_in_place(tmp_path: Path) -> None:
    zoo_of_two(tmp_path)
    (tmp_path / "two" / "weights.npz").write_bytes(b"broken")
    with serving(Shelf(partial(load_text_model, zoo=tmp_path), "one")) as server:
        for name, word in (("two", "sha256"), ("nothing", "not known"), ("", "swap with a name")):
            assert word in ordered(server, "swap", name).error
        assert "no command" in msgspec.json.decode(command(server.control, b"\xff"), type=Outcome).error
        assert status(server).name == "one"
        server.reload()  # SIGHUP: the same name again
        until(lambda: status(server).counts.get("swaps") == 1)


def test_a_shadow_is_compared_and_never_answers(tmp_path: Path) -> None:
    one, two = zoo_of_two(tmp_path)
    shelf = Shelf(partial(load_text_model, zoo=tmp_path), "one", "two", 1.0)
    want = load_text_model("one", tmp_path).logits(TEXTS * 9).logits
    with serving(shelf) as server:
        model = connected(server.address)
        got = model.logits(TEXTS * 9).logits
        assert {t: s.tobytes() for t, s in got.items()} == {t: s.tobytes() for t, s in want.items()}
        assert model.spec.model_id == one
        until(lambda: len(status(server).shadow) == len(model.spec.heads))
        found = status(server)
        assert found.shadow_model == two
        assert {d.rows for d in found.shadow.values()} == {len(TEXTS) * 9}
        assert 0 < found.shadow["sentiment3"].mean < found.shadow["sentiment3"].most < 1
        model.engine.close()
    with pytest.raises(ManifestInvalid, match="other tensors"):
        Shelf(load_text_model, "hashed", "text-affect")


def test_a_server_that_goes_and_comes_back_is_found_again(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/engine.sock"
    with pytest.raises(EngineAway, match="nobody answers"):
        load_remote(address)
    doors = Doors(address)
    with serving(doors=doors):
        model = connected(address)
        want = model.logits(TEXTS).logits["sentiment3"].tobytes()
    with pytest.raises(EngineAway):
        model.logits(TEXTS)
    with pytest.raises(EngineAway, match="nobody answers"):
        model.logits(TEXTS)
    with serving(doors=doors):
        assert model.logits(TEXTS).logits["sentiment3"].tobytes() == want
    model.engine.close()
    with pytest.raises(ManifestInvalid, match="expected tcp"):
        load_remote("http://x")


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next() -> None:
    """Slow but alive: the deadline ends the call; asked again, the answer is that of the new texts."""
    gate, shelf = gated()
    want = load_text_model("stub").logits(["c", "d"]).logits["sentiment3"].tobytes()
    with serving(shelf) as server:
        model = connected(server.address, deadline_s=0.5)
        gate.open.clear()
        with pytest.raises(EngineAway, match="alive, but"):
            model.logits(["a", "b"])
        gate.open.set()

        def answered() -> bool:
            try:
                return model.logits(["c", "d"]).logits["sentiment3"].tobytes() == want
            except EngineAway:
                return False  # a busy machine

        until(answered)
        model.engine.close()


def test_rows_too_long_for_one_message_go_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame beyond the bound would be cut off with its connection, again and again."""
    monkeypatch.setattr("engines.remote.MAX_PART", 3_000)
    texts = [f"{text} {'long words ' * 40}" for text in TEXTS]
    with serving(Shelf(load_text_model, "hashed")) as server:
        model = connected(server.address)
        want = load_text_model("hashed").logits(texts).logits
        assert {t: s.tobytes() for t, s in model.logits(texts).logits.items()} == {
            t: s.tobytes() for t, s in want.items()
        }
        assert status(server).counts["asked"] > 2
        model.engine.close()


def test_a_model_that_is_lost_is_loaded_again() -> None:
    """The card falls out of the machine: the request is refused so that it is asked again, and a new model answers."""
    gate, loads = Gate(), []
    plain = load_text_model("stub")

    def load(name: str) -> TextModel:
        loads.append(name)
        return TextModel(plain.featurize, gate if len(loads) == 1 else StubEngine(), recipe=plain.recipe)

    def fall() -> None:
        raise EngineLost("CUDA error: device lost")

    with serving(Shelf(load, "stub")) as server:
        model = connected(server.address)
        gate.fail = fall
        with pytest.raises(EngineAway, match="device lost"):
            model.logits(TEXTS)
        until(lambda: len(loads) == 2 and status(server).counts.get("swaps") == 1)
        assert model.logits(TEXTS).logits["sentiment3"].shape == (len(TEXTS), 3)
        model.engine.close()


class Liar:
    """A server of another make, whose logits are not what its spec says."""

    def __init__(self, bend: Callable[[np.ndarray], np.ndarray]) -> None:
        self.bend = bend
        self.spec = StubEngine().spec

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        scored = StubEngine().infer(batch)
        return ScoreBatch({task: self.bend(logits) for task, logits in scored.logits.items()}, 0.0)

    def close(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("bend", "word"),
    [
        (lambda x: x * np.nan, "not finite"),
        (lambda x: x[:, :-1], "expected float64"),
        (lambda x: x[:0], "expected float64"),
    ],
    ids=["NaN", "a column short", "no rows"],
)
def test_answers_that_make_no_sense_are_not_believed(bend: Callable[[np.ndarray], np.ndarray], word: str) -> None:
    plain = load_text_model("stub")
    shelf = Shelf(lambda _: TextModel(plain.featurize, Liar(bend), recipe=plain.recipe), "stub")
    with serving(shelf) as server:
        model = connected(server.address)
        with pytest.raises(EngineAway, match=word):
            model.logits(TEXTS)
        model.engine.close()
