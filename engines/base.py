"""The words of the engine floor: heads, specs, tensors in, logits out. Knows nothing of records, time or logs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
AnyArray = NDArray[np.generic]
HeadKind = Literal["single", "multi", "regression"]
Feels = Literal["", "writer", "reader"]


class HeadSpec(msgspec.Struct, frozen=True):
    """One task a model answers, with the calibration measured on its dev data.

    Probabilities are `softmax(logits / temperature + bias)` for `single`, `sigmoid(logits / temperature)` for `multi`;
    a `regression` head's logits are already values, clipped to [lo, hi].

    Attributes:
        task: name as in `ontology/label_map.csv`, e.g. `goemotions28`.
        kind: `single` (labels exclude each other), `multi` (independent) or `regression`.
        labels: label strings exactly as in the data set, in logit order.
        temperature: > 0, fitted on dev (Guo et al. 2017).
        bias: per label of a `single` head, fitted on dev with the temperature (Alexandari et al. 2020): undoes what
            weighted classes did to the probabilities; empty means 0.
        thresholds: per label, fitted on dev. `multi`: the label holds from there on; empty means 0.5. `single`: the
            label with the largest probability / threshold is decided; empty means 1.
        lo, hi: range of a regression head's values.
        probability: the logits are calibrated probabilities already; `temperature` is not applied (the stub).
        confusion: what the calibrated probabilities were on dev. `single`: row k = mean probabilities of the posts
            whose label is k. `multi`: row k = (mean probability of label k where it is absent, where it is present).
            Empty = not known. Shares are corrected with it.
        feels: whose feelings the labels are: the `writer`'s, or the `reader`'s; "" = the head does not say.
        languages: ISO 639-1 codes it was trained on; of texts in others its answer is a guess. Empty = reads any.
    """

    task: str
    kind: HeadKind
    labels: tuple[str, ...]
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    lo: float = 0.0
    hi: float = 1.0
    probability: bool = False
    confusion: tuple[tuple[float, ...], ...] = ()
    bias: tuple[float, ...] = ()
    feels: Feels = ""
    languages: tuple[str, ...] = ()


class EngineSpec(msgspec.Struct, frozen=True):
    """What an engine is and answers. `version` is the first 8 hex digits of the weights' sha256 (or a fixed word)."""

    name: str
    version: str
    backend: str
    heads: tuple[HeadSpec, ...]
    max_batch_size: int = 4096

    @property
    def model_id(self) -> str:
        """`name@version`: what signal rows carry in `model`."""
        return f"{self.name}@{self.version}"

    def head(self, task: str) -> HeadSpec | None:
        """The head that answers `task`, or None."""
        return next((h for h in self.heads if h.task == task), None)


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """`rows` feature rows, as named tensors; which names and shapes, the featuriser and its engine agree on."""

    rows: int
    tensors: Mapping[str, AnyArray]


@dataclass(frozen=True, slots=True)
class ScoreBatch:
    """`logits[task]`: float64 `[rows, len(labels)]`, row i belongs to row i of the input. `run_s`: backend seconds.

    `abstained`: rows without a score, and why; their logits are 0 and mean nothing (engine `endpoint` alone).
    `fast`: bool [rows], the rows that a cascade answered without its better model; None = no cascade was on.
    """

    logits: Mapping[str, F64]
    run_s: float
    abstained: Mapping[int, str] = field(default_factory=dict)
    fast: Bools | None = None


class Engine(Protocol):
    """Turns one batch of features into one batch of logits.

    Sync and not thread-safe: one engine belongs to one thread at a time. Never pads, splits or retries.
    Deterministic: a row's logits depend on that row alone, never on its neighbours or the batch size.
    """

    spec: EngineSpec

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Score every row of `batch`, in order.

        Raises:
            ShapeMismatch: a tensor does not fit. Not retriable.
            EngineLost: the backend is gone. Retriable after a new load.
        """
        ...

    def close(self) -> None:
        """Free what the backend holds. Idempotent."""
        ...


class Recipe(msgspec.Struct, frozen=True):
    """How texts become an engine's tensors, as data: what another process needs to make the same ones.

    Attributes:
        kind: `checksum` (the stub), `buckets` (the hashed bag), `pieces` (word pieces), `bytepairs` or `joined`
            (several models).
        bits: of a bucket's number. max_tokens: longest row of pieces. vocabulary: the pieces, in order.
        merges: of `bytepairs`, in order.
        parts: of `joined`, each model's own; the tensors of the k-th are named `k/NAME`.
    """

    kind: str
    bits: int = 0
    max_tokens: int = 0
    vocabulary: tuple[str, ...] = ()
    parts: tuple[Recipe, ...] = ()
    merges: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Equal for equal recipes: 16 hex digits."""
        return hashlib.sha256(msgspec.msgpack.encode(self)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class TextModel:
    """A loaded text model: the featuriser and the engine that belong together.

    `featurize(texts)` is pure: strings in, tensors out, any number of rows. `recipe` says the same as data; None = the
    model cannot be served to other processes. `elsewhere`: the engine is another process's, and `infer` may wait.
    """

    featurize: Callable[[Sequence[str]], TensorBatch]
    engine: Engine
    reason: str = ""
    recipe: Recipe | None = None
    elsewhere: bool = False

    @property
    def spec(self) -> EngineSpec:
        return self.engine.spec

    def logits(self, texts: Sequence[str]) -> ScoreBatch:
        """Featurise and infer in one go, at most `spec.max_batch_size` rows at a time.

        All rows are scored by one version of the model, which `spec` is afterwards: where a server has changed to
        another one in between, they are all scored again.
        """
        while True:
            step, versions, parts = self.spec.max_batch_size, set(), []
            for k in range(0, len(texts), step):
                parts.append(self.engine.infer(self.featurize(texts[k : k + step])))
                versions.add(self.spec.model_id)
            if len(versions) < 2:
                break
        if len(parts) == 1:
            return parts[0]
        tasks = [h.task for h in self.spec.heads]
        joined = {
            t: np.concatenate([p.logits[t] for p in parts]) if parts else np.zeros((0, len(self.spec.heads[k].labels)))
            for k, t in enumerate(tasks)
        }
        # Every part but the last is `step` long.
        abstained = {k * step + row: why for k, part in enumerate(parts) for row, why in part.abstained.items()}
        masks = [p.fast for p in parts if p.fast is not None]
        fast = np.concatenate(masks) if parts and len(masks) == len(parts) else None
        return ScoreBatch(joined, sum(p.run_s for p in parts), abstained, fast)
