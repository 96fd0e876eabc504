"""Training: a run that is killed and goes on ends with the bytes of one that was not. Needs torch (extra `train`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="torch is not installed: `make encoder` makes the environment that has it")

from engines.tasks import TaskSpec  # noqa: E402
from engines.training import fine_tune  # noqa: E402
from engines.training.data import Rows, TaskData  # noqa: E402
from engines.training.encoder import Encoder, Shape  # noqa: E402
from engines.training.fine_tune import HeadLoss, Plan, Run, head_loss  # noqa: E402
from engines.training.mixture import Mixture, Part  # noqa: E402
from engines.training.on_dev import OnDev, averaged  # noqa: E402
from engines.wordpieces import WordPieces  # noqa: E402
from tests.engines import tiny  # noqa: E402

SHAPE = Shape(len(tiny.VOCABULARY), tiny.POSITIONS, tiny.WIDTH, tiny.LAYERS, tiny.ATTENTION, tiny.INNER)
ONES = np.ones(3, np.float32)
LOSSES = [HeadLoss("mood", "single", 0, 3, ONES, 1.0), HeadLoss("needs", "multi", 3, 5, ONES[:2], 0.5)]


def mixture() -> Mixture:
    random = np.random.default_rng(0)
    ids = random.integers(0, len(tiny.VOCABULARY), 4000).astype(np.int32)
    offsets = np.arange(0, 4001, 10)
    mood = np.eye(3, dtype=np.float32)[ids[::10] % 3]
    return Mixture([Part(ids, offsets, mood, 0, 0.5), Part(ids, offsets, mood[:, :2], 3, 0.5)], 5, 1)


def encoder() -> Encoder:
    torch.manual_seed(3)
    return Encoder(SHAPE, 5)


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fine_tune, "CHECKPOINT_S", 0.0)
    plan = Plan(seed=5, samples=2000, rate=1e-2)
    straight = Run(tmp_path / "straight", encoder(), LOSSES, plan, "cpu")
    straight.train(mixture(), lambda rows, progress: None)
    broken = Run(tmp_path / "broken", encoder(), LOSSES, plan, "cpu")

    def die(rows: int, progress: float) -> None:
        if broken.samples > 1000:
            raise Killed

    with pytest.raises(Killed):
        broken.train(mixture(), die)
    resumed = Run(tmp_path / "broken", encoder(), LOSSES, plan, "cpu")
    assert 0 < resumed.samples <= 1000
    resumed.train(mixture(), lambda rows, progress: None)
    assert (resumed.samples, resumed.steps) == (straight.samples, straight.steps)
    for name, value in straight.encoder.state_dict().items():
        assert torch.equal(value, resumed.encoder.state_dict()[name]), name
    with pytest.raises(ValueError, match="another plan"):
        Run(tmp_path / "broken", encoder(), LOSSES, Plan(seed=6, samples=2000), "cpu")


def test_it_learns(tmp_path: Path) -> None:
    run = Run(tmp_path, encoder(), LOSSES[:1], Plan(seed=5, samples=20_000, rate=3e-3), "cpu")
    run.train(mixture(), lambda rows, progress: None)
    lines = (tmp_path / "curve.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"]["mood"] for line in lines]
    assert losses[-1] < 0.6 * losses[0]


def test_the_mean_of_the_weights_counts(tmp_path: Path) -> None:
    plan = Plan(seed=5, samples=2000, rate=1e-2, average=0.9)
    run = Run(tmp_path, encoder(), LOSSES, plan, "cpu")
    run.train(mixture(), lambda rows, progress: None)
    last, kept = run.encoder.state_dict(), run.weights()
    assert not np.array_equal(kept["blocks.0.up.weight"], last["blocks.0.up.weight"].numpy())
    again = Run(tmp_path, encoder(), LOSSES, plan, "cpu")
    assert again.done()
    for name, value in again.weights().items():
        assert np.array_equal(value, kept[name]), name


def test_the_budget_paces_the_rate() -> None:
    timed, counted = Plan(minutes=1.0), Plan(samples=100)
    assert [timed.progress(9, s) for s in (0.0, 30.0, 99.0)] == [0.0, 0.5, 1.0]
    assert [counted.progress(n, 1e9) for n in (0, 50, 200)] == [0.0, 0.5, 1.0]
    assert [round(timed.pace(p), 3) for p in (0.0, 0.02, 0.04, 0.52, 1.0)] == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_losses_leave_out_what_is_not_known() -> None:
    outputs = torch.tensor([[2.0, 0.0, 0.0, 1.0, -1.0], [0.0, 3.0, 0.0, 0.0, 0.0]])
    nan = float("nan")
    truth = torch.tensor([[1.0, 0.0, 0.0, nan, nan], [nan, nan, nan, 1.0, nan]])
    loss, rows = head_loss(LOSSES[0], outputs, truth)
    assert rows == 1
    assert float(loss) == pytest.approx(float(np.log(np.exp([2.0, 0, 0]).sum()) - 2.0))
    loss, rows = head_loss(LOSSES[1], outputs, truth)
    assert rows == 1
    assert float(loss) == pytest.approx(float(np.log(2)))
    loss, rows = head_loss(HeadLoss("vad", "regression", 3, 5, ONES[:2], 1.0), outputs, truth)
    assert float(loss) == pytest.approx(1.0)


def test_the_torch_net_is_the_net_of_the_graph() -> None:
    net = Encoder(SHAPE, tiny.OUTPUTS).eval()
    weights = tiny.weights()
    net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    ids = np.array([[2, 5, 6, 3, 0, 0], [2, 4, 5, 6, 7, 3]])
    mask = (np.arange(6) < np.array([[4], [6]])).astype(np.float32)
    with torch.no_grad():
        got = net(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    np.testing.assert_allclose(got[0], tiny.by_hand(weights, ids[0, :4]), atol=2e-5)
    np.testing.assert_allclose(got[1], tiny.by_hand(weights, ids[1]), atol=2e-5)


def test_the_best_weights_on_dev_count_and_a_run_that_gets_no_better_stops(tmp_path: Path) -> None:
    """The third of ten checks is the best; three later ones are not: the run ends at the sixth with the third's."""
    plan = Plan(seed=5, samples=6400, rate=1e-2, checks=10, patience=3)
    seen: list[dict[str, np.ndarray]] = []

    def judge(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
        seen.append(dict(weights))
        return {"mood": 1.0 if len(seen) == 3 else 0.1 * len(seen), "needs": 0.5}

    run = Run(tmp_path, encoder(), LOSSES, plan, "cpu", judge)
    run.train(mixture(), lambda rows, progress: None)
    assert (run.checked, run.best_check, len(seen)) == (6, 3, 6)
    assert run.done()
    assert run.samples < plan.samples
    again = Run(tmp_path, encoder(), LOSSES, plan, "cpu", judge)
    assert again.done()
    for kept in (run.weights(), again.weights()):
        assert all(np.array_equal(kept[name], value) for name, value in seen[2].items())
    assert not np.array_equal(seen[2]["head.weight"], seen[5]["head.weight"])
    told = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [line["dev"]["mood"] for line in told if "dev" in line][2] == 1.0


def test_weights_of_several_seeds_are_averaged() -> None:
    many = [{"head.weight": np.full((2, 3), value, np.float32)} for value in (1.0, 2.0, 6.0)]
    assert np.array_equal(averaged(many)["head.weight"], np.full((2, 3), 3.0, np.float32))


def test_dev_figures_are_those_of_the_rows(tmp_path: Path) -> None:
    """A head that is shown which of its words stands there is right on every row; turned round it never is."""
    texts = [f"{word} {word} {word}" for word in ("happy", "sad")] * 20
    truth = np.eye(2, dtype=np.float32)[[0, 1] * 20]
    spec = TaskSpec("mood", "single", ("up", "down"), "none", "mood", ("accuracy",), "nobody")
    rows = Rows(texts, truth)
    pieces = WordPieces(list(tiny.VOCABULARY), 16)
    judge = OnDev([TaskData(spec, rows, rows, rows, 0)], pieces, SHAPE, "cpu", False)
    torch.manual_seed(3)
    net = Encoder(SHAPE, 2).eval()
    with torch.no_grad():
        batch = pieces.featurize(["happy happy happy", "sad sad sad"])
        ids = torch.from_numpy(batch.tensors["ids"].astype(np.int64).reshape(2, -1))
        kept: list[torch.Tensor] = []
        net.drop.register_forward_hook(lambda _module, _given, out: kept.append(out))
        net(ids, torch.ones(ids.shape))
        way = kept[-1][0] - kept[-1][1]
        net.head.weight.copy_(torch.stack([way, -way]))
        middle = way @ (kept[-1][0] + kept[-1][1]) / 2
        net.head.bias.copy_(torch.stack([-middle, middle]))
    weights = {name: value.numpy() for name, value in net.state_dict().items()}
    assert judge.figures(weights) == {"mood": 1.0}
