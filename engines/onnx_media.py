"""Face and voice networks in ONNX on the CPU, one face or sound a run: digits never depend on the neighbours.

Convolutions of a batch are split otherwise than those of one row, which may move last digits. A batch of 32 is 1.3
times as fast as one face a run, and finding the face costs ten times as much as either.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from engines.base import AnyArray, EngineSpec, ScoreBatch, TensorBatch
from engines.errors import EngineLost, ManifestInvalid, ShapeMismatch
from engines.media import FACE_SIDE, SOUND_MIN
from engines.onnx_session import Session, open_session


class _MediaEngine:
    """Implements `Engine`; a subclass says how a batch falls apart into rows."""

    port = ("", "")
    """Name and type of the model's input."""

    def __init__(self, spec: EngineSpec, model: bytes, threads: int = 1) -> None:
        self.spec = spec
        self._session: Session | None = open_session(spec.name, model, threads, "av")
        self._labels = sum(len(h.labels) for h in spec.heads)
        inputs = [(i.name, i.type) for i in self._session.get_inputs()]
        outputs = [(o.name, o.type, o.shape[-1:]) for o in self._session.get_outputs()]
        if inputs != [self.port] or outputs != [("logits", "tensor(float)", [self._labels])]:
            raise ManifestInvalid(
                f"model {spec.name!r}: expected input {self.port} and output logits float [rows, {self._labels}], got"
                f" {inputs} and {outputs}"
            )

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Logits of every row.

        Raises:
            ShapeMismatch, EngineLost (closed, or onnxruntime failed).
        """
        if self._session is None:
            raise EngineLost(f"engine {self.spec.model_id!r} is closed; load it again")
        start = time.perf_counter()
        logits = np.empty((batch.rows, self._labels))
        rows = self._rows(batch)
        try:
            for k, row in enumerate(rows):
                logits[k] = self._session.run(["logits"], {self.port[0]: row})[0][0]
        except ShapeMismatch:
            raise
        except Exception as error:
            raise EngineLost(f"engine {self.spec.model_id!r}: onnxruntime failed: {error}; load it again") from error
        ends = np.cumsum([len(h.labels) for h in self.spec.heads]).tolist()
        found = {h.task: logits[:, end - len(h.labels) : end] for h, end in zip(self.spec.heads, ends, strict=True)}
        return ScoreBatch(found, time.perf_counter() - start)

    def close(self) -> None:
        """Free the session. Idempotent."""
        self._session = None

    def _rows(self, batch: TensorBatch) -> Iterator[AnyArray]:
        raise NotImplementedError

    def _tensor(self, batch: TensorBatch, name: str, dtype: str) -> AnyArray:
        found = batch.tensors.get(name)
        if found is None or found.dtype != dtype:
            got = "none" if found is None else f"{found.dtype}"
            raise ShapeMismatch(f"engine {self.spec.name!r}: tensor {name!r} expected {dtype}, got {got}")
        return found


class FaceEngine(_MediaEngine):
    """Reads `x`, uint8 [rows, 48, 48]."""

    port = ("x", "tensor(uint8)")

    def _rows(self, batch: TensorBatch) -> Iterator[AnyArray]:
        x = self._tensor(batch, "x", "uint8")
        if x.shape != (batch.rows, FACE_SIDE, FACE_SIDE):
            raise ShapeMismatch(
                f"engine {self.spec.name!r}: faces expected uint8 [{batch.rows}, {FACE_SIDE}, {FACE_SIDE}], got"
                f" {list(x.shape)}"
            )
        return (x[k : k + 1] for k in range(batch.rows))


class VoiceEngine(_MediaEngine):
    """Reads `samples`, float32 [n] at 16 kHz, and `offsets`, int64 [rows + 1]: where each sound begins and ends."""

    port = ("samples", "tensor(float)")

    def _rows(self, batch: TensorBatch) -> Iterator[AnyArray]:
        samples, offsets = self._tensor(batch, "samples", "float32"), self._tensor(batch, "offsets", "int64")
        places = offsets.astype(np.int64, copy=False)
        if places.shape != (batch.rows + 1,) or places[0] != 0 or places[-1] != len(samples):
            raise ShapeMismatch(
                f"engine {self.spec.name!r}: offsets expected {batch.rows + 1} places from 0 to {len(samples)}"
            )
        if samples.ndim != 1 or bool((np.diff(places) < SOUND_MIN).any()):
            raise ShapeMismatch(f"engine {self.spec.name!r}: a sound needs {SOUND_MIN} samples or more")
        if not bool(np.isfinite(samples.astype(np.float32, copy=False)).all()):
            raise ShapeMismatch(f"engine {self.spec.name!r}: samples must be finite")
        return (samples[None, a:b] for a, b in zip(places[:-1].tolist(), places[1:].tolist(), strict=True))
