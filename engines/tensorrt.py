"""The run-time half of TensorRT 11: plans, contexts, runs, behind `engines.device.PlanRuntime`. A door of `tensorrt`.

**Type-checked, never executed**: no machine of ours has TensorRT. mypy reads this file against stubs made from NVIDIA's
own module (`deploy/tensorrt/check.py`), and `engines/plan_engine.py`, which decides everything, is tested on a
runtime of the same protocol. What TensorRT itself does has not been seen.

Ask `engines.driver.probe` first: without a driver `Runtime` wraps a null pointer and the next call ends the process.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import numpy as np

from engines.buckets import Bucket
from engines.device import Stream
from engines.errors import EngineLost, MissingExtra

try:
    import tensorrt as trt
except ImportError as error:
    raise MissingExtra("TensorRT is not installed; install it with `pip install 'affectstream[gpu]'`") from error

_log = logging.getLogger(__name__)

MAJOR: Final = 11
"""Graphs carry their precision here (strongly typed); 10 wants builder flags for it, which 11 no longer has."""


class Log(trt.ILogger):
    """TensorRT's messages in our log; the worst of the last ones are kept for error messages."""

    KEPT: Final = 5

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT, from any of its threads."""
        if severity == trt.ILogger.ERROR or severity == trt.ILogger.INTERNAL_ERROR:
            self._errors = [*self._errors, msg][-self.KEPT :]
            _log.error("tensorrt: %s", msg)
        elif severity == trt.ILogger.WARNING:
            _log.warning("tensorrt: %s", msg)
        else:
            _log.debug("tensorrt: %s", msg)

    def told(self) -> str:
        """The last errors, for a message."""
        return "; ".join(self._errors) or "TensorRT gave no reason"


class TensorRtRuntime:
    """Implements `PlanRuntime`.

    Raises:
        EngineLost: another major version than the one this file was checked against, or TensorRT cannot start.
    """

    def __init__(self) -> None:
        if int(trt.__version__.split(".")[0]) != MAJOR:
            raise EngineLost(f"TensorRT {trt.__version__} is installed; this engine needs {MAJOR}.x")
        self._log = Log()
        try:
            self._runtime = trt.Runtime(self._log)
        except TypeError as error:  # what the module raises where the library gives null
            raise EngineLost(f"TensorRT makes no runtime: {error}; {self._log.told()}") from error

    def open(self, plan: bytes) -> TensorRtPlan | None:
        """The plan, or None: another version, card or damage; TensorRT says no more than null."""
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            _log.warning("tensorrt: a plan cannot be read: %s", self._log.told())
            return None
        return TensorRtPlan(engine, self._log)


class TensorRtPlan:
    """Implements `Plan`. Must outlive its contexts."""

    def __init__(self, engine: trt.ICudaEngine, log: Log) -> None:
        self._engine: trt.ICudaEngine | None = engine
        self._log = log
        kinds: dict[trt.DataType, type[np.generic]] = {
            trt.DataType.FLOAT: np.float32,
            trt.DataType.HALF: np.float16,
            trt.DataType.INT32: np.int32,
            trt.DataType.INT64: np.int64,
        }
        self._ports: dict[str, np.dtype[np.generic]] = {}
        for k in range(engine.num_io_tensors):
            name = engine.get_tensor_name(k)
            kind = kinds.get(engine.get_tensor_dtype(name))
            if kind is None:
                raise EngineLost(f"tensor {name!r} of the plan has a type that is not used here; build it anew")
            self._ports[name] = np.dtype(kind)
        self._buckets = tuple(self._bucket(engine, k) for k in range(engine.num_optimization_profiles))

    @property
    def ports(self) -> Mapping[str, np.dtype[np.generic]]:
        return self._ports

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        return self._buckets

    def context(self, profile: int, stream: Stream) -> TensorRtContext:
        """A context fixed to one profile: its shape is set once, so what is captured stays good."""
        if self._engine is None:
            raise EngineLost("the plan is closed; load it again")
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineLost(f"TensorRT makes no context for profile {profile}: {self._log.told()}")
        if not context.set_optimization_profile_async(profile, stream.handle):
            raise EngineLost(f"TensorRT refuses profile {profile}: {self._log.told()}")
        stream.sync()
        bucket = self._buckets[profile]
        for name in ("ids", "mask"):
            if not context.set_input_shape(name, (bucket.rows, bucket.length)):
                raise EngineLost(f"TensorRT refuses shape {bucket} for {name!r}: {self._log.told()}")
        lacking = context.infer_shapes()
        if lacking:
            raise EngineLost(f"TensorRT does not know the shapes of {lacking}: {self._log.told()}")
        return TensorRtContext(context, self._log)

    def close(self) -> None:
        """Idempotent. TensorRT frees what nothing refers to."""
        self._engine = None

    def _bucket(self, engine: trt.ICudaEngine, profile: int) -> Bucket:
        """The one shape of a profile."""
        least, _, most = engine.get_tensor_profile_shape("ids", profile)
        shape = [most[k] for k in range(len(most))]
        if len(shape) != 2 or shape != [least[k] for k in range(len(least))]:
            raise EngineLost(f"profile {profile} of the plan is no single shape [rows, length]: {most}; build it anew")
        return Bucket(shape[0], shape[1])


class TensorRtContext:
    """Implements `Context`."""

    def __init__(self, context: trt.IExecutionContext, log: Log) -> None:
        self._context: trt.IExecutionContext | None = context
        self._log = log

    def bind(self, name: str, address: int) -> None:
        if not self._open().set_tensor_address(name, address):
            raise EngineLost(f"TensorRT refuses the address of {name!r}: {self._log.told()}")

    def enqueue(self, stream: int) -> None:
        if not self._open().execute_async_v3(stream):
            raise EngineLost(f"TensorRT refuses to run: {self._log.told()}; load the engine again")

    def close(self) -> None:
        self._context = None

    def _open(self) -> trt.IExecutionContext:
        if self._context is None:
            raise EngineLost("the context is closed; load the engine again")
        return self._context
