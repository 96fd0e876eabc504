"""What `auto` takes, with and without the packages of the better model; that the choice follows what was measured."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from engines import choice
from engines.artefacts import ZOO, read_manifest
from engines.choice import BETTER, FAST, FAST_IS_BETTER, choose
from engines.errors import UnknownModel
from engines.joined import join
from engines.load import load_text_model
from engines.tasks import TEXT_TASKS
from operators import crisis, market

TEXTS = ["no water here, please help", "so happy I own the shares"]


def test_every_head_comes_from_the_model_that_is_better_at_it() -> None:
    figures = {name: {m.task: m.value for m in reversed(read_manifest(name).metrics)} for name in (BETTER, FAST)}
    ahead = {t.task for t in TEXT_TASKS if figures[FAST][t.task] >= figures[BETTER][t.task] + 0.01}
    assert ahead == FAST_IS_BETTER
    chosen = choose((), ZOO).models
    assert {task: name for name, tasks in chosen.items() for task in tasks} == {
        t.task: FAST if t.task in ahead else BETTER for t in TEXT_TASKS
    }


def test_without_the_packages_the_hashed_bag_answers_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "onnxruntime" else find(name, package)

    monkeypatch.setattr(choice.importlib.util, "find_spec", without)
    model = load_text_model("auto", tasks=market.TASKS)
    assert model.spec.name == FAST
    assert "text-affect refused: onnxruntime not installed (pip install 'affectstream[onnx]')" in model.reason
    assert choose(("vad",), ZOO).models == {FAST: ("vad",)}


def test_the_names_and_digits_of_joined_models_are_those_of_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "FAST_IS_BETTER", frozenset({"crisis_info6"}))  # of today's models it is at nothing
    model = load_text_model("auto", tasks=crisis.TASKS)
    again = load_text_model(model.spec.name, tasks=crisis.TASKS)
    turned = load_text_model("+".join(reversed(model.spec.name.split("+"))), tasks=crisis.TASKS)
    assert model.spec.model_id == again.spec.model_id == turned.spec.model_id
    parts = {name: load_text_model(name) for name in model.spec.name.split("+")}
    versions = "+".join(part.spec.version for part in parts.values())
    assert model.spec.model_id == f"{model.spec.name}@{versions}"
    whole = model.logits(TEXTS).logits
    assert set(whole) == set(crisis.TASKS)
    for name, tasks in choose(crisis.TASKS, ZOO).models.items():
        alone = parts[name].logits(TEXTS).logits
        for task in tasks:
            assert np.array_equal(whole[task], alone[task]), task
            assert model.spec.head(task) == parts[name].spec.head(task)
    model.engine.close()


def test_a_closed_or_empty_choice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="neither text-affect nor hashed-bag"):
        choose(("emtract7",), tmp_path)
    one = join([(load_text_model("stub"), ("emtract7",))])
    assert [h.task for h in one.spec.heads] == ["emtract7"]
