"""The first run of a foreign ONNX file: in a child process of its own, with bounded memory and time.

A graph may ask for any amount of either, in ways no reading of it shows. `python -m engines.imports.probe FILE MEMORY`
reads rows of ids as JSON and prints their raw outputs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from engines.errors import ImportRefused
from engines.onnx_session import open_session

MEMORY: Final = 4 << 30
CPU_S: Final = 120
WALL_S: Final = 900


class Question(msgspec.Struct, frozen=True):
    """Names of the inputs, and rows of ids."""

    inputs: list[str]
    rows: list[list[int]]


def probe(packed: bytes, names: Sequence[str], rows: Sequence[Sequence[int]], where: str) -> NDArray[np.float64]:
    """Raw outputs [rows, outputs], each row run by itself.

    Raises:
        ImportRefused: it does not load, check or run within 4 GiB (and eight times the file) and two minutes of CPU,
            or gives no [1, outputs] of finite numbers.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(packed)
        command = [sys.executable, "-m", "engines.imports.probe", str(path), str(MEMORY + 8 * len(packed))]
        question = msgspec.json.encode(Question(list(names), [list(r) for r in rows]))
        home = str(Path(__file__).parents[2])
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": home}
        try:
            done = subprocess.run(command, input=question, capture_output=True, timeout=WALL_S, env=env, check=False)
        except subprocess.TimeoutExpired as error:
            raise ImportRefused(f"{where}: a few short rows took more than {WALL_S} s") from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = said[-1][:500] if said else f"exit {done.returncode}"
        raise ImportRefused(f"{where}: cannot be run within {MEMORY >> 30} GiB and {CPU_S} s of CPU: {why}")
    try:
        found = np.array(msgspec.json.decode(done.stdout, type=list[list[float]]), np.float64)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ImportRefused(f"{where}: expected finite logits [1, outputs] of every row: {error}") from error
    return found


def main(path: Path, memory: int) -> int:
    """The child: limits first, then the file."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    import onnx

    packed = path.read_bytes()
    onnx.checker.check_model(onnx.load_from_string(packed), full_check=True)
    session = open_session("given", packed, 1, "import")
    out = session.get_outputs()[0].name
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    found = []
    for row in asked.rows:
        ids = np.array([row], np.int64)
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        logits = session.run([out], {name: values[name] for name in asked.inputs})[0]
        if logits.ndim != 2 or logits.shape[0] != 1 or logits.dtype != np.float32 or logits.shape[1] > 1 << 16:
            raise SystemExit(f"output expected float32 [1, labels], got {logits.dtype} {list(logits.shape)[:8]}")
        found.append(logits[0].tolist())
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), int(sys.argv[2])))
