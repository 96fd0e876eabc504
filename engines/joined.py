"""Several models as one: every head is answered by one of them, with the digits that model gives alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from engines.base import F64, AnyArray, EngineSpec, Recipe, ScoreBatch, TensorBatch, TextModel
from engines.errors import ShapeMismatch


class Joined:
    """Implements `Engine` over the engines of several models.

    Tensors carry the place of their model before their name (`0/ids`). The spec has the names and the versions of all,
    joined by `+`, in the same order.

    Args:
        models: each with the heads it answers; no head twice.
    """

    def __init__(self, models: Sequence[tuple[TextModel, Sequence[str]]]) -> None:
        self._models = [model for model, _ in models]
        self._tasks = [tuple(tasks) for _, tasks in models]
        self.spec = self._spec()

    def _spec(self) -> EngineSpec:
        specs = [model.spec for model in self._models]
        return EngineSpec(
            "+".join(s.name for s in specs),
            "+".join(s.version for s in specs),
            "+".join(dict.fromkeys(s.backend for s in specs)),
            tuple(h for s, tasks in zip(specs, self._tasks, strict=True) for h in s.heads if h.task in tasks),
            min(s.max_batch_size for s in specs),
        )

    def featurize(self, texts: Sequence[str]) -> TensorBatch:
        """The tensors of every model, side by side."""
        return side_by_side([model.featurize for model in self._models], texts)

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Logits of all heads.

        Raises:
            ShapeMismatch, EngineLost: as the engine it came from.
        """
        logits: dict[str, F64] = {}
        seconds = 0.0
        for place, (model, tasks) in enumerate(zip(self._models, self._tasks, strict=True)):
            scored = model.engine.infer(TensorBatch(batch.rows, self._own(batch.tensors, place)))
            logits |= {h.task: scored.logits[h.task] for h in model.spec.heads if h.task in tasks}
            seconds += scored.run_s
        self.spec = self._spec()  # a part may have changed to a better engine (`engines.plans.Meanwhile`)
        return ScoreBatch(logits, seconds)

    def _own(self, tensors: Mapping[str, AnyArray], place: int) -> dict[str, AnyArray]:
        mark = f"{place}/"
        own = {name.removeprefix(mark): tensor for name, tensor in tensors.items() if name.startswith(mark)}
        if not own:
            raise ShapeMismatch(
                f"engine {self.spec.name!r}: no tensors {mark}*, got {sorted(tensors)}; featurise with the model's own"
                f" featuriser"
            )
        return own

    def close(self) -> None:
        """Close all of them. Idempotent."""
        for model in self._models:
            model.engine.close()


def side_by_side(makers: Sequence[Callable[[Sequence[str]], TensorBatch]], texts: Sequence[str]) -> TensorBatch:
    """The tensors that each of several featurisers makes, the place of its model before their names."""
    tensors = {}
    for place, featurize in enumerate(makers):
        for name, tensor in featurize(texts).tensors.items():
            tensors[f"{place}/{name}"] = tensor
    return TensorBatch(len(texts), tensors)


def join(models: Sequence[tuple[TextModel, Sequence[str]]], reason: str = "") -> TextModel:
    """One model out of several, each with the heads it answers."""
    engine = Joined(models)
    recipes = tuple(model.recipe for model, _ in models if model.recipe is not None)
    recipe = Recipe("joined", parts=recipes) if len(recipes) == len(models) else None
    return TextModel(engine.featurize, engine, reason, recipe)
