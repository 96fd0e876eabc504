"""A float encoder in ONNX on an NVIDIA card, through onnxruntime's CUDA provider, in buckets. A door of `onnxruntime`.

The provider is no part of the package `onnxruntime`, only of `onnxruntime-gpu`; the two must not be installed
together. Rows run in the padded shapes of `engines.buckets`, by default always the same number of rows. **Not yet run
on a card**; the tests run it with the CPU provider in its place.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from engines.base import EngineSpec, ScoreBatch, TensorBatch
from engines.buckets import Buckets, fill
from engines.errors import EngineLost, ManifestInvalid
from engines.onnx_session import Session, open_session
from engines.token_rows import by_task, outputs, token_rows

PROVIDER: Final = "CUDAExecutionProvider"
OPTIONS: Final = {PROVIDER: {"device_id": "0", "use_tf32": "0"}}
"""TF32 off: a float32 file is to be float32."""
_KINDS: Final[dict[str, type[np.floating]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def refusal() -> str:
    """Why onnxruntime cannot use a card here, as far as that shows without trying; empty where it may."""
    try:
        import onnxruntime as ort
    except ImportError:
        return "onnxruntime-gpu is not installed (pip install 'affectstream[gpu]')"
    if PROVIDER not in ort.get_available_providers():
        return (
            f"onnxruntime {ort.__version__} has no CUDA provider: install onnxruntime-gpu in the place of onnxruntime"
        )
    return ""


class OnnxCudaEngine:
    """Implements `Engine` for `ids` / `offsets`, as `engines.onnx.OnnxEngine` does.

    Args:
        model: a float32 or float16 file; the int8 one has no fast kernels there.
        pieces: size of the vocabulary.
        provider: another one, for the tests.

    Raises:
        MissingExtra: onnxruntime is not installed.
        EngineLost: the provider did not start; onnxruntime would go on on the CPU without a word.
        ManifestInvalid: not a model that onnxruntime can load.
    """

    def __init__(self, spec: EngineSpec, model: bytes, buckets: Buckets, pieces: int, provider: str = PROVIDER) -> None:
        session = open_session(spec.name, model, 1, "gpu", provider, OPTIONS.get(provider))
        kinds = {port.name: port.type for port in session.get_inputs()}
        if set(kinds) != {"ids", "mask"} or kinds["mask"] not in _KINDS:
            raise ManifestInvalid(f"model {spec.name!r}: inputs expected ids and mask, got {kinds}")
        self.spec = spec
        self._session: Session | None = session
        self._mask = _KINDS[kinds["mask"]]
        self._buckets, self._pieces = buckets, pieces

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Logits of every row.

        Raises:
            ShapeMismatch, EngineLost (closed, or onnxruntime failed).
        """
        if self._session is None:
            raise EngineLost(f"engine {self.spec.model_id!r} is closed; load it again")
        start = time.perf_counter()
        ids, offsets = token_rows(self.spec, batch, self._pieces)
        logits = np.empty((batch.rows, outputs(self.spec)))
        for bucket, chosen in self._buckets.split(np.diff(offsets)):
            padded, mask = np.empty(bucket, np.int64), np.empty(bucket, self._mask)
            fill(ids, offsets, chosen, padded, mask)
            try:
                found = self._session.run(["logits"], {"ids": padded, "mask": mask})[0]
            except Exception as error:
                raise EngineLost(
                    f"engine {self.spec.model_id!r}: onnxruntime failed: {error}; load it again"
                ) from error
            logits[chosen] = found[: len(chosen)]
        return ScoreBatch(by_task(self.spec, logits), time.perf_counter() - start)

    def close(self) -> None:
        """Free the session. Idempotent."""
        self._session = None
