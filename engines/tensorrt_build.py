"""The build half of TensorRT 11: an ONNX file into a plan, in a process of its own. A door of `tensorrt`.

**Type-checked, never executed** (see `engines/tensorrt.py`). Precision is not chosen here: TensorRT 11 has no flag
for it. The types of the graph are the types of the plan (a file with float16 tensors, or with QuantizeLinear /
DequantizeLinear).

    python -m engines.tensorrt_build < REQUEST.json

reads a `Request`, prints a JSON object a line (`{"phase", "steps"}` when a phase starts, `{"phase", "step"}` when a
step is done) and last `{"built": SECONDS}`, `{"kept": "..."}` or `{"refused": "..."}`. If TensorRT crashes, this
process ends, not the one that serves. The plan is read back before it is kept.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, SupportsInt

import msgspec

from engines.buckets import Bucket
from engines.errors import EngineError, MissingExtra
from engines.plan_cache import PlanCache, PlanKey

try:
    import tensorrt as trt
except ImportError as error:
    raise MissingExtra("TensorRT is not installed; install it with `pip install 'affectstream[gpu]'`") from error

Progress = Callable[[str, int | None, int | None], None]
"""(phase, steps it has or None, step just done or None)."""

FLAGS: Final = {
    "editable_timing_cache": trt.BuilderFlag.EDITABLE_TIMING_CACHE,
    "strict_nans": trt.BuilderFlag.STRICT_NANS,
    "tf32": trt.BuilderFlag.TF32,
    "version_compatible": trt.BuilderFlag.VERSION_COMPATIBLE,
}
"""Flags a key may name. TF32 is on by default in TensorRT and off here unless named: a float32 plan is to be
float32.
"""


class Request(msgspec.Struct, frozen=True):
    """What the child is asked for."""

    model: str
    cache: str
    key: PlanKey


class BuildRefused(EngineError):
    """TensorRT built no plan; the message has its reason."""


class _Log(trt.ILogger):
    """Keeps the last messages that matter."""

    KEPT: Final = 5

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        if severity == trt.ILogger.ERROR or severity == trt.ILogger.INTERNAL_ERROR:
            self._errors = [*self._errors, msg][-self.KEPT :]

    def told(self) -> str:
        return "; ".join(self._errors) or "TensorRT gave no reason"


class _Monitor(trt.IProgressMonitor):
    """Hands TensorRT's progress on. Called from several threads of the builder."""

    def __init__(self, progress: Progress) -> None:
        trt.IProgressMonitor.__init__(self)
        self._progress = progress
        self._lock = threading.Lock()

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: SupportsInt) -> None:
        with self._lock:
            self._progress(phase_name, int(num_steps), None)

    def phase_finish(self, phase_name: str) -> None:
        """Nothing: a phase that ended early has shown as many steps as it did."""

    def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
        with self._lock:
            self._progress(phase_name, None, int(step))
        return True


def build(model: bytes, key: PlanKey, progress: Progress) -> bytes:
    """The plan of an ONNX file, with one optimisation profile of one shape for every bucket of the key.

    Raises:
        BuildRefused: the file cannot be parsed, or no plan came out.
    """
    log = _Log()
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # what the module raises where the library gives null
        raise BuildRefused(f"TensorRT {trt.__version__} makes no builder: {error}; {log.told()}") from error
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)  # said by itself in 11; 10 needs it said
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        told = "; ".join(str(parser.get_error(k)) for k in range(parser.num_errors)) or log.told()
        raise BuildRefused(f"TensorRT {trt.__version__} cannot read the ONNX file: {told}")
    config = builder.create_builder_config()
    config.builder_optimization_level = key.level
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, key.workspace)
    config.clear_flag(trt.BuilderFlag.TF32)
    for flag in key.flags:
        config.set_flag(FLAGS[flag])
    for bucket in map(parse_bucket, key.profiles):
        profile = builder.create_optimization_profile()
        shape = trt.Dims((bucket.rows, bucket.length))
        for name in ("ids", "mask"):
            profile.set_shape(name, shape, shape, shape)
        if config.add_optimization_profile(profile) < 0:
            raise BuildRefused(f"TensorRT refuses a profile of {bucket}: {log.told()}")
    monitor = _Monitor(progress)  # must outlive the build
    config.progress_monitor = monitor
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise BuildRefused(f"TensorRT {trt.__version__} built no plan: {log.told()}")
    return bytes(built)


def readable(plan: bytes) -> bool:
    """TensorRT can read the plan here and now, and make a context of it."""
    runtime = trt.Runtime(_Log())
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return False
    context = engine.create_execution_context()
    return context is not None


def parse_bucket(text: str) -> Bucket:
    """`32x64` as the shape it is."""
    rows, length = text.split("x")
    return Bucket(int(rows), int(length))


def answer(request: Request, progress: Progress) -> dict[str, object]:
    """What the child says last. Nothing is written unless the plan is whole and readable."""
    cache = PlanCache(Path(request.cache))
    if trt.__version__ != request.key.tensorrt:
        return {"refused": f"TensorRT {trt.__version__} is here, asked for was {request.key.tensorrt}"}
    with cache.building(request.key) as alone:
        if not alone:
            return {"kept": "another process is building it"}
        if cache.get(request.key)[0] is not None:
            return {"kept": "it is there already"}
        start = time.perf_counter()
        try:
            plan = build(Path(request.model).read_bytes(), request.key, progress)
            if not readable(plan):
                return {"refused": "TensorRT cannot read the plan it has just built"}
            took = time.perf_counter() - start
            cache.put(request.key, plan, took)
        except (EngineError, OSError) as error:
            return {"refused": str(error)}
    return {"built": took}


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    """The child: one request in, progress and one answer out."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)

    def told(phase: str, steps: int | None, step: int | None) -> None:
        _say({"phase": phase, "steps": steps} if step is None else {"phase": phase, "step": step})

    said = answer(request, told)
    _say(said)
    return 1 if "refused" in said else 0


if __name__ == "__main__":
    sys.exit(main())
