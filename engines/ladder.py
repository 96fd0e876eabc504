"""The backends of one encoder, best first: which one runs it here, and why each better one does not.

    tensorrt   native TensorRT 11, the fp16 file               type-checked, never executed
    torch      our own encoder in FP16 with captured graphs    not yet run on a card
    onnx-cuda  onnxruntime's CUDA provider, the fp16 file      not yet run on a card
    onnx-cpu   the shipped file, one row a run                 always there with the extra `onnx`

A backend on a card is taken only after a trial (`engines.trial`): it answers as onnx-cpu does, and a text's digits do
not depend on its neighbours. Nothing of NVIDIA's is loaded before the driver was asked in a child process. A plan
that is not there is built by a child while the next best serves.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from engines.artefacts import Manifest
from engines.base import Engine, EngineSpec, TextModel
from engines.buckets import Buckets
from engines.device import Device, DeviceFacts, PlanRuntime
from engines.driver import probe
from engines.encoder_weights import encoder_weights
from engines.errors import BackendRefused, EngineError
from engines.plan_cache import PlanCache, cache_folder
from engines.plan_engine import PlanEngine
from engines.plans import COMMAND, Meanwhile, Progress, build_plan, plan_key, tensorrt_version
from engines.precisions import folder, open_derived
from engines.trial import objection, unsteady

_log = logging.getLogger(__name__)

BACKENDS: Final = ("tensorrt", "torch", "onnx-cuda", "onnx-cpu")
"""Best first."""
TENSORRT_MAJOR: Final = "11"
PRECISION: Final = "fp16"
CARD_BATCH: Final = 4096
"""Rows a card is given at a time."""


class Rung(msgspec.Struct, frozen=True):
    """One backend: `taken`, or `reason` why not (of the one taken: empty)."""

    backend: str
    taken: bool
    reason: str


def facts_here() -> tuple[DeviceFacts | None, str]:
    """Card 0 and its driver, or why there is none."""
    found, reason = probe()
    return (None, reason) if found is None else (msgspec.convert(found, DeviceFacts), "")


def lacking(*packages: str) -> str:
    """Which of the packages are not installed, in words; empty where all are. Nothing is loaded."""
    missing = []
    for name in packages:
        try:
            there = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:  # the package above it is missing
            there = False
        if not there:
            missing.append(name)
    return f"{' and '.join(missing)} not installed" if missing else ""


def open_device(facts: DeviceFacts) -> Device:
    """The card through cuda-core. Raises MissingExtra, EngineLost."""
    from engines.cuda_device import CudaDevice

    return CudaDevice(facts)


def open_runtime() -> PlanRuntime:
    """TensorRT's reader of plans. Raises MissingExtra, EngineLost."""
    from engines.tensorrt import TensorRtRuntime

    return TensorRtRuntime()


@dataclass(frozen=True, slots=True)
class Machine:
    """What the ladder asks this machine; the tests ask others.

    `facts`: the card or why there is none. `version`: of TensorRT, None = not installed. `lacking`: packages, in words.
    """

    facts: Callable[[], tuple[DeviceFacts | None, str]] = facts_here
    version: Callable[[], str | None] = tensorrt_version
    lacking: Callable[..., str] = lacking
    device: Callable[[DeviceFacts], Device] = open_device
    runtime: Callable[[], PlanRuntime] = open_runtime
    command: tuple[str, ...] = COMMAND
    plans: Path = field(default_factory=cache_folder)
    home: Path | None = None


class Ladder:
    """The backends of one encoder on one machine.

    Args:
        known: the encoder on onnx-cpu, which every other is tried against.
        packed: the shipped file.
        pieces: size of the vocabulary.
    """

    def __init__(
        self, manifest: Manifest, packed: bytes, known: TextModel, pieces: int, machine: Machine | None = None
    ) -> None:
        self._manifest, self._packed, self._known, self._pieces = manifest, packed, known, pieces
        self._here = machine or Machine()
        self._cache = PlanCache(self._here.plans)
        self._buckets = Buckets().capped(manifest.settings.get("max_tokens", Buckets().lengths[-1]))
        self._openers: dict[str, Callable[[], Engine]] = {
            "tensorrt": self._tensorrt,
            "torch": self._torch,
            "onnx-cuda": self._onnx_cuda,
        }

    def climb(self, wanted: str | None = None) -> tuple[TextModel, tuple[Rung, ...]]:
        """(the model on the best backend that works here, every backend with its reason); or on the one wanted.

        Raises:
            BackendRefused: the one that was asked for by name does not work here; the message says why.
        """
        rungs: list[Rung] = []
        engine: Engine | None = None
        for backend in BACKENDS[:-1]:
            if wanted not in (None, backend):
                rungs.append(Rung(backend, False, f"{wanted} was asked for"))
                continue
            if engine is not None:
                rungs.append(Rung(backend, False, "a better one is taken"))
                continue
            try:
                engine = self._tried(self._openers[backend](), wanted == backend)
            except EngineError as error:
                rungs.append(Rung(backend, False, str(error)))
                _log.info("engine %s refused: %s", backend, error)
                if wanted == backend:
                    raise BackendRefused(
                        f"engine {backend!r} cannot run {self._manifest.name!r} here: {error}"
                    ) from error
                continue
            rungs.append(Rung(backend, True, ""))
        rungs.append(Rung(BACKENDS[-1], engine is None, "" if engine is None else "a better one is taken"))
        engine = engine or self._known.engine
        if rungs[0].reason.startswith(NO_PLAN):
            engine = Meanwhile(engine, self.build, self._built)
        _log.info("engine %s runs %s", engine.spec.backend, self._manifest.name)
        return replace(self._known, engine=engine, reason=told(rungs)), tuple(rungs)

    def build(self, progress: Progress = lambda phase, steps, step: None) -> str:
        """Build the plan for this machine in a child process; empty, or why there is none."""
        facts, version, digest = self._plan_needs()
        model = folder(self._manifest, self._here.home) / f"{PRECISION}.onnx"
        key = plan_key(digest, PRECISION, facts, version, self._buckets)
        return build_plan(model, key, self._cache, progress, self._here.command)

    def _tried(self, engine: Engine, by_name: bool = False) -> Engine:
        """The engine, if it stands its trial. Who asks for it by name gets it with unsteady digits too, and is told."""
        try:
            tried = TextModel(self._known.featurize, engine)
            against = objection(self._known, tried)
            loose = "" if against else unsteady(tried)
        except EngineError:
            engine.close()
            raise
        if loose and by_name:
            _log.warning("engine %s is taken because it was asked for: %s", engine.spec.backend, loose)
        elif against or loose:
            engine.close()
            raise BackendRefused(against or loose)
        return engine

    def _built(self) -> Engine | str:
        try:
            return self._tried(self._tensorrt())
        except EngineError as error:
            return str(error)

    def _card(self, extra: str, *packages: str) -> DeviceFacts:
        """The card, once the packages (of an extra) are there and the driver answers."""
        missing = self._here.lacking(*packages)
        facts, why = self._here.facts()
        reasons = [r for r in (missing and f"{missing} (pip install 'affectstream[{extra}]')", why) if r]
        if reasons or facts is None:
            raise BackendRefused("; ".join(reasons))
        return facts

    def _plan_needs(self) -> tuple[DeviceFacts, str, str]:
        """(card, TensorRT's version, digest of the fp16 file)."""
        facts = self._card("gpu", "tensorrt", "cuda.core")
        version = self._here.version()
        if version is None or version.split(".")[0] != TENSORRT_MAJOR:
            raise BackendRefused(
                f"TensorRT {version or 'of an unknown version'} is installed, needed is {TENSORRT_MAJOR}.x"
            )
        return facts, version, open_derived(self._manifest, PRECISION, self._here.home)[0].sha256

    def _tensorrt(self) -> Engine:
        facts, version, digest = self._plan_needs()
        key = plan_key(digest, PRECISION, facts, version, self._buckets)
        packed, why = self._cache.get(key)
        if packed is None:
            raise BackendRefused(f"{NO_PLAN} ({why}); it is built now and taken when it is there")
        plan = self._here.runtime().open(packed)
        if plan is None:
            why = self._cache.reject(key, "TensorRT cannot read it")
            raise BackendRefused(f"{NO_PLAN} ({why}); it is built now and taken when it is there")
        return PlanEngine(self._spec("tensorrt", digest), plan, self._here.device(facts), self._buckets, self._pieces)

    def _torch(self) -> Engine:
        facts = self._card("train", "torch", "onnx")
        from engines.torch_cuda import TorchDevice, TorchPlan

        device = TorchDevice(facts)
        weights = encoder_weights(self._packed)
        plan = TorchPlan(device, weights, self._buckets.all())
        return PlanEngine(self._spec("torch", self._manifest.sha256), plan, device, self._buckets, self._pieces)

    def _onnx_cuda(self) -> Engine:
        from engines.onnx_cuda import OnnxCudaEngine, refusal

        why = refusal()
        if why:
            raise BackendRefused(why)
        self._card("gpu", "onnxruntime")
        derived, packed = open_derived(self._manifest, PRECISION, self._here.home)
        return OnnxCudaEngine(self._spec("onnx-cuda", derived.sha256), packed, self._buckets, self._pieces)

    def _spec(self, backend: str, digest: str) -> EngineSpec:
        name = f"{self._manifest.name}:{PRECISION}"
        return EngineSpec(name, digest[:8], backend, self._manifest.heads, CARD_BATCH)


NO_PLAN: Final = "it has no plan"


def told(rungs: list[Rung]) -> str:
    """Why the better backends were refused, on one line."""
    better = []
    for rung in rungs:
        if rung.taken:
            break
        better.append(f"{rung.backend} refused: {rung.reason}")
    return "; ".join(better)
