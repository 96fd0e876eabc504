"""Asks the NVIDIA driver what cards there are, in a child process: without one, TensorRT answers with null pointers.

The child loads the driver's library, nothing else of NVIDIA's, and prints one JSON object. It may crash, hang or find
nothing; each is a reason, none is our end. Run with `-I`, so that no file of this folder is taken for a library.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Final

LIBRARY: Final = "libcuda.so.1"
PROBE_S: Final = 20.0
"""A first call to a driver that wakes a card takes seconds."""

_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76  # CUdevice_attribute


@lru_cache(maxsize=4)
def probe(library: str = LIBRARY, limit_s: float = PROBE_S) -> tuple[dict[str, str | int] | None, str]:
    """(facts of card 0, "") or (None, why there is none). Asked once a process: a card does not come and go.

    The facts are the fields of `engines.device.DeviceFacts`.
    """
    words = [sys.executable, "-I", str(Path(__file__)), library]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return None, f"the NVIDIA driver did not answer within {limit_s:g} s"
    except OSError as error:
        return None, f"the NVIDIA driver cannot be asked: {error}"
    if done.returncode < 0:
        return None, f"the NVIDIA driver crashed when asked (signal {-done.returncode})"
    try:
        said = json.loads(done.stdout)
    except ValueError:
        return None, f"the NVIDIA driver cannot be asked: {(done.stderr or done.stdout).strip()[-200:]}"
    reason = said.pop("refused", None)
    return (None, str(reason)) if reason is not None else (said, "")


def ask(library: str) -> dict[str, str | int]:
    """In the child: the facts of card 0, or {"refused": why}."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return {"refused": f"no NVIDIA driver ({library} cannot be loaded)"}
    status = cuda.cuInit(0)
    if status != 0:
        return {"refused": f"the NVIDIA driver refuses to start (cuInit gives {status})"}
    count, version = ctypes.c_int(), ctypes.c_int()
    if cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value < 1:
        return {"refused": "the NVIDIA driver has no card"}
    cuda.cuDriverGetVersion(ctypes.byref(version))
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(128), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)

    def attribute(which: int) -> int:
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), which, device)
        return value.value

    return {
        "name": name.value.decode("utf-8", "replace"),
        "capability": f"{attribute(_MAJOR)}.{attribute(_MINOR)}",
        "multiprocessors": attribute(_MULTIPROCESSORS),
        "memory": memory.value,
        "driver": _driver_version(),
        "cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
    }


def _driver_version() -> str:
    """The kernel module's, as `580.65.06`; `unknown` where the kernel does not say (it then counts as one version)."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1])))
