"""Plans of this machine: what one depends on here, its build in a child process, and an engine that serves
meanwhile.
"""

from __future__ import annotations

import importlib.metadata
import logging
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from engines.base import Engine, EngineSpec, ScoreBatch, TensorBatch
from engines.buckets import Buckets
from engines.device import DeviceFacts
from engines.errors import EngineError
from engines.plan_cache import PlanCache, PlanKey

_log = logging.getLogger(__name__)

Progress = Callable[[str, int | None, int | None], None]
"""(phase, steps it has or None, step just done or None)."""

LEVEL: Final = 3
"""TensorRT's own default of the builder optimisation level, 0..5."""
WORKSPACE: Final = 1 << 30
BUILD_S: Final = 3600.0
"""A build that takes longer is ended."""
COMMAND: Final = (sys.executable, "-m", "engines.tensorrt_build")
DISTRIBUTIONS: Final = ("tensorrt-cu13-bindings", "tensorrt-cu12-bindings", "tensorrt")


def tensorrt_version() -> str | None:
    """The full version that is installed, without loading it; None where it is not."""
    for name in DISTRIBUTIONS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def plan_key(
    artefact: str, precision: str, facts: DeviceFacts, version: str, buckets: Buckets, flags: Sequence[str] = ()
) -> PlanKey:
    """The key of a plan for this card, driver and TensorRT.

    Args:
        artefact: sha256 of the ONNX file.
        version: of TensorRT, in full.
    """
    profiles = tuple(str(bucket) for bucket in buckets.all())
    return PlanKey(
        artefact=artefact, tensorrt=version, gpu=facts.name, capability=facts.capability,
        multiprocessors=facts.multiprocessors, driver=facts.driver.split(".")[0], cuda=facts.cuda.split(".")[0],
        precision=precision, profiles=profiles, level=LEVEL, flags=tuple(sorted(flags)), workspace=WORKSPACE,
    )  # fmt: skip


def build_plan(
    model: Path,
    key: PlanKey,
    cache: PlanCache,
    progress: Progress = lambda phase, steps, step: None,
    command: Sequence[str] = COMMAND,
    limit_s: float = BUILD_S,
) -> str:
    """Build a plan in a child process into the cache; empty, or why there is none. TensorRT may crash there.

    Args:
        model: the ONNX file. command: the child, another one in tests.
    """
    request = msgspec.json.encode({"model": str(model), "cache": str(cache.folder), "key": key})
    said: dict[str, object] = {}
    with tempfile.TemporaryFile() as errors:
        try:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        except OSError as error:
            return f"the build cannot be started: {error}"
        expired = threading.Event()

        def end() -> None:
            expired.set()
            child.kill()

        late = threading.Timer(limit_s, end)
        late.start()
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                child.stdin.write(request)
                child.stdin.close()
            except BrokenPipeError:
                pass  # it ended before it read; what it said, or its status, tells why
            for line in child.stdout:
                said = _heard(line, progress) or said
            status = child.wait()
        finally:
            late.cancel()
            child.kill()
            child.wait()
            child.stdout.close()  # type: ignore[union-attr]
        if "refused" in said:
            return str(said["refused"])
        if status == 0 and ("built" in said or "kept" in said):
            return "" if cache.get(key)[0] is not None else str(said.get("kept", "the plan did not arrive"))
        errors.seek(0)
        tail = errors.read()[-300:].decode("utf-8", "replace").strip()
    if status < 0:
        return f"the build was ended by signal {-status}" + (
            f" after {limit_s:g} s" if not late.is_alive() and status == -9 else ""
        )
    return f"the build failed (status {status}): {tail or 'no reason given'}"


def _heard(line: bytes, progress: Progress) -> dict[str, object]:
    """One line of the child: progress is handed on, an answer comes back."""
    try:
        said = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.MsgspecError:
        return {}
    phase, steps, step = said.get("phase"), said.get("steps"), said.get("step")
    if not isinstance(phase, str):
        return said
    progress(phase, steps if isinstance(steps, int) else None, step if isinstance(step, int) else None)
    return {}


class Meanwhile:
    """Implements `Engine`: serves `now` until `build` has made something better, then that.

    The change happens between two batches, and `spec` tells which one answered last. A build or an opening that is
    refused leaves `now` in its place, for good, with the reason in the log.

    Args:
        build: runs in a thread; empty, or why not.
        opened: the better engine, or why not, once built; runs in the thread of `infer`.
    """

    def __init__(self, now: Engine, build: Callable[[], str], opened: Callable[[], Engine | str]) -> None:
        self.spec: EngineSpec = now.spec
        self._now = now
        self._opened = opened
        self._done = threading.Event()
        self._why = ""
        self._waits = True
        self._thread = threading.Thread(target=self._run, args=(build,), name="plan-build", daemon=True)
        self._thread.start()

    @property
    def reason(self) -> str:
        """Why the better engine is not taken: it is being built, or what went wrong; empty once it serves."""
        return "its plan is being built" if self._waits and not self._done.is_set() else self._why

    def infer(self, batch: TensorBatch) -> ScoreBatch:
        """As the engine that serves. A change of engine never falls into a batch."""
        if self._waits and self._done.is_set():
            self._waits = False
            self._change()
        return self._now.infer(batch)

    def close(self) -> None:
        """Free what serves. The build's child ends by itself. Idempotent."""
        self._waits = False
        self._now.close()

    def _run(self, build: Callable[[], str]) -> None:
        try:
            self._why = build()
        except EngineError as error:
            self._why = str(error)
        finally:
            self._done.set()

    def _change(self) -> None:
        if not self._why:
            try:
                better = self._opened()
            except EngineError as error:
                better = str(error)
            if not isinstance(better, str):
                _log.info("engine %s takes over from %s", better.spec.backend, self._now.spec.backend)
                self._now.close()
                self._now, self.spec = better, better.spec
                return
            self._why = better
        _log.warning("engine %s goes on: %s", self._now.spec.backend, self._why)
