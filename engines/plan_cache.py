"""Built plans on disk: found by everything they depend on, written whole or not at all, built by one process at a time.

A plan is good for one TensorRT version, one kind of card and one driver. `PlanKey` holds all of it; its sha256 is the
name. Two files a plan, `NAME.plan` and beside it the header `NAME.json` (the key in clear, length and sha256),
written in this order to temporary names, flushed to the disk and renamed: a plan without its header is not there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

PLANS_MAX_BYTES: Final = 4 << 30
"""What the folder may hold; the plans used longest ago leave first. A MiniLM plan of 20 profiles is some 100 MB."""


class PlanKey(msgspec.Struct, frozen=True):
    """All that a plan depends on.

    Attributes:
        artefact: sha256 of the ONNX file.
        tensorrt: full version.
        gpu, capability, multiprocessors: the card.
        driver, cuda: major versions of the driver and of CUDA.
        precision: of the ONNX file (its types are the plan's).
        profiles: `ROWSxLENGTH` of every optimisation profile, in order.
        level: builder optimisation level.
        flags: names of builder flags, sorted.
        workspace: bytes the builder may use.
    """

    artefact: str
    tensorrt: str
    gpu: str
    capability: str
    multiprocessors: int
    driver: str
    cuda: str
    precision: str
    profiles: tuple[str, ...]
    level: int
    flags: tuple[str, ...]
    workspace: int

    @property
    def name(self) -> str:
        """sha256 over all of it, in hex."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


class PlanHeader(msgspec.Struct, frozen=True):
    """What lies beside a plan. `build_s`: seconds the build took."""

    key: PlanKey
    size: int
    sha256: str
    build_s: float


def cache_folder() -> Path:
    """`$AFFECT_PLANS`, else `affectstream/plans` below `$XDG_CACHE_HOME` or `~/.cache`."""
    given = os.environ.get("AFFECT_PLANS")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affectstream" / "plans"


class PlanCache:
    """The plans of one folder. Any number of processes may use it at once.

    Args:
        folder: made when the first plan is written.
        limit: bytes of plans kept.
    """

    def __init__(self, folder: Path, limit: int = PLANS_MAX_BYTES) -> None:
        self.folder = folder
        self._limit = limit

    def get(self, key: PlanKey) -> tuple[bytes | None, str]:
        """(the plan, "") or (None, why not). A damaged one is deleted: it would be found again."""
        header_path, plan_path = self._paths(key.name)
        try:
            header = msgspec.json.decode(header_path.read_bytes(), type=PlanHeader)
            plan = plan_path.read_bytes()
        except FileNotFoundError:
            return None, self._absence(key)
        except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
            return None, self.reject(key, f"its header cannot be read ({error})")
        if header.key != key:
            return None, self.reject(key, "its header has another key")
        if header.size != len(plan) or header.sha256 != hashlib.sha256(plan).hexdigest():
            return None, self.reject(key, f"it is damaged ({len(plan)} bytes, written were {header.size})")
        os.utime(header_path)  # used now: the eviction goes by this
        return plan, ""

    def put(self, key: PlanKey, plan: bytes, build_s: float) -> None:
        """Keep a plan, whole or not at all; then let the oldest go until the rest fits.

        Raises:
            OSError: the disk is full or not writable; what was there before still is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        header_path, plan_path = self._paths(key.name)
        header = PlanHeader(key, len(plan), hashlib.sha256(plan).hexdigest(), build_s)
        header_path.unlink(missing_ok=True)  # an old header must not stand beside a new plan
        _write(plan_path, plan)
        _write(header_path, msgspec.json.format(msgspec.json.encode(header), indent=1) + b"\n")
        self._evict(key)

    def reject(self, key: PlanKey, why: str) -> str:
        """Delete a plan that cannot be used; the reason as it is told."""
        for path in self._paths(key.name):
            path.unlink(missing_ok=True)
        return f"the plan {key.name[:12]} was deleted: {why}"

    @contextmanager
    def building(self, key: PlanKey) -> Iterator[bool]:
        """Inside, this process alone builds that plan; False where another one does (nothing is waited for).

        The lock is the operating system's: it goes with the process, however that ends.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / f"{key.name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(handle)

    def headers(self) -> list[PlanHeader]:
        """Of every plan, used last first; what cannot be read is left out."""
        found = []
        for path in sorted(self.folder.glob("*.json"), key=_used, reverse=True):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=PlanHeader))
            except (msgspec.MsgspecError, UnicodeDecodeError, OSError):
                continue
        return found

    def _absence(self, key: PlanKey) -> str:
        """Why there is no plan: none yet, or one that was built for something else."""
        for header in self.headers():
            if (header.key.artefact, header.key.precision) != (key.artefact, key.precision):
                continue
            fields = [f for f in key.__struct_fields__ if getattr(header.key, f) != getattr(key, f)]
            told = ", ".join(f"{f} {getattr(header.key, f)} -> {getattr(key, f)}" for f in fields)
            return f"no plan for this machine; there is one that differs in {told}"
        return "no plan has been built yet"

    def _evict(self, newest: PlanKey) -> None:
        """The plan just written stays, whatever its size."""
        kept = 0
        for path in sorted(self.folder.glob("*.plan"), key=lambda p: _used(p.with_suffix(".json")), reverse=True):
            size = path.stat().st_size
            if path.stem == newest.name or kept + size <= self._limit:
                kept += size
                continue
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.json", self.folder / f"{name}.plan"


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:16]}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
