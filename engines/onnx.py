"""An encoder in ONNX on the CPU, one row a run: a row's digits never depend on its neighbours.

int8 activations are cut by the range of the tensor that a run sees, and padding changes the order of sums. So every
text runs by itself, at its own length: there is neither padding nor a neighbour. Measured, that costs 7 to 27 %
against batches of eight sorted by length and is 1.5 times as fast as 32 in order of arrival (decision 13).
Every run has one thread; `threads` of them go on at the same time, each with a row of its own. So the same text gives
the same bytes on one machine and package version, however many threads there are.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from engines.base import EngineSpec, ScoreBatch, TensorBatch
from engines.errors import EngineLost, ManifestInvalid
from engines.onnx_session import Session, open_session
from engines.token_rows import by_task, outputs, token_rows


class OnnxEngine:
    """Implements `Engine` for `ids` / `offsets` as `engines.wordpieces` makes them.

    The model takes `ids` int64 [rows, length] and `mask` float32 [rows, length] and gives `logits` float32
    [rows, outputs], the heads' labels one head after another. A regression's values are clipped to its [lo, hi].

    Args:
        spec: heads in the order of the outputs.
        model: bytes of the ONNX file.
        threads: rows that are worked on at the same time, each in one thread (onnxruntime gives up the interpreter's
            lock meanwhile); 1 = in the caller's.

    Raises:
        MissingExtra: onnxruntime is not installed.
        ManifestInvalid: not a model that onnxruntime can load, other inputs or outputs, or no vocabulary kept inside.
    """

    def __init__(self, spec: EngineSpec, model: bytes, threads: int = 1) -> None:
        self._session: Session | None = open_session(spec.name, model, 1, "onnx")
        self.spec = spec
        self._pool = ThreadPoolExecutor(threads, "onnx") if threads > 1 else None
        self._check()
        self._pieces = len(self.vocabulary)

    @property
    def vocabulary(self) -> list[str]:
        """The word pieces kept in the file, a piece's place is its id.

        Raises:
            ManifestInvalid: the file keeps none.
        """
        kept = self._open().get_modelmeta().custom_metadata_map.get("vocabulary")
        if not kept:
            raise ManifestInvalid(f"model {self.spec.name!r}: its file has no metadata `vocabulary`; export it anew")
        return str(kept).split("\n")

    @property
    def merges(self) -> list[str]:
        """The merges of byte pairs kept in the file; none where it reads word pieces."""
        kept = self._open().get_modelmeta().custom_metadata_map.get("merges")
        return str(kept).split("\n") if kept else []

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """Logits of every row, bit for bit the same whatever else is in the batch.

        Raises:
            ShapeMismatch, EngineLost (closed, or onnxruntime failed).
        """
        session = self._open()
        start = time.perf_counter()
        ids, offsets = token_rows(self.spec, batch, self._pieces)
        logits = np.empty((batch.rows, outputs(self.spec)))
        mask = np.ones((1, int(np.diff(offsets).max(initial=0))), np.float32)

        def run(row: int) -> None:
            begin, end = offsets[row : row + 2].tolist()
            inputs: dict[str, NDArray[np.generic]] = {"ids": ids[None, begin:end], "mask": mask[:, : end - begin]}
            logits[row] = session.run(["logits"], inputs)[0][0]

        try:
            for _ in (map if self._pool is None else self._pool.map)(run, range(batch.rows)):
                pass
        except Exception as error:
            raise EngineLost(f"engine {self.spec.model_id!r}: onnxruntime failed: {error}; load it again") from error
        return ScoreBatch(by_task(self.spec, logits), time.perf_counter() - start)

    def close(self) -> None:
        """Free the session and its threads. Idempotent."""
        self._session = None
        if self._pool is not None:
            self._pool.shutdown()

    def _open(self) -> Session:
        if self._session is None:
            raise EngineLost(f"engine {self.spec.model_id!r} is closed; load it again")
        return self._session

    def _check(self) -> None:
        """The session's inputs and outputs are what `infer` gives and takes."""
        session = self._open()
        inputs = {(i.name, i.type) for i in session.get_inputs()}
        if inputs != {("ids", "tensor(int64)"), ("mask", "tensor(float)")}:
            raise ManifestInvalid(
                f"model {self.spec.name!r}: inputs expected ids int64 and mask float, got {sorted(inputs)}"
            )
        found = [(o.name, o.type, o.shape[-1:]) for o in session.get_outputs()]
        wanted = outputs(self.spec)
        if found != [("logits", "tensor(float)", [wanted])]:
            raise ManifestInvalid(
                f"model {self.spec.name!r}: outputs expected logits float [rows, {wanted}], got {found}"
            )
