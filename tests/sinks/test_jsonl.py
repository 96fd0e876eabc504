"""The file of JSON lines: whole lines, each once, however often it is killed, and whatever the disk says."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from signal_rows import many, row

from operators.records import SignalRow
from stream.errors import LogUnavailable, UsageError
from stream.jsonl import JsonLinesFile

LOG = "sqlite:///a.db"


def lines(path: Path) -> list[SignalRow]:
    """Every line as a row; raises where one is half."""
    whole = path.read_bytes()
    assert whole == b"" or whole.endswith(b"\n")
    return [msgspec.json.decode(line, type=SignalRow) for line in whole.splitlines()]


def test_rows_come_back_and_the_file_goes_on_where_it_was(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.jsonl", [*many(300), row("ticker:Ü\n\"'\u2028💥", value=None, reasons=("a\nb",))]
    for k in range(0, 301, 100):
        out = JsonLinesFile(path, LOG)
        assert out.offsets == ({0: k} if k else {})
        out.append(rows[k : k + 100], {0: min(k + 100, 301)})
        out.close()
        out.close()
    assert lines(path) == rows


def test_what_a_crash_left_behind_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    out = JsonLinesFile(path, LOG)
    out.append(many(5), {0: 5, 1: 9})
    out.close()
    with path.open("ab") as more:
        more.write(b'{"signal":"market.joy","half')
    again = JsonLinesFile(path, LOG)
    assert again.offsets == {0: 5, 1: 9}
    assert lines(path) == many(5)
    again.close()


def test_half_a_line_before_the_first_position_is_cut_off_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    JsonLinesFile(path, LOG).close()
    path.write_bytes(b'{"half')
    JsonLinesFile(path, LOG).close()
    assert path.read_bytes() == b""


def test_what_is_not_its_own_is_refused_and_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "diary.txt"
    foreign.write_text("dear diary")
    with pytest.raises(UsageError, match="not from this sink"):
        JsonLinesFile(foreign, LOG)
    assert foreign.read_text() == "dear diary"
    path = tmp_path / "rows.jsonl"
    out = JsonLinesFile(path, LOG)
    out.append(many(5), {0: 5})
    with pytest.raises(UsageError, match="another process is writing it"):
        JsonLinesFile(path, LOG)
    out.close()
    with pytest.raises(UsageError, match=r"was written from sqlite:///a\.db, got --log sqlite:///b\.db"):
        JsonLinesFile(path, "sqlite:///b.db")
    before = path.read_bytes()
    path.write_bytes(before[:-1])
    with pytest.raises(UsageError, match=f"expected at least {len(before)} bytes, got {len(before) - 1}"):
        JsonLinesFile(path, LOG)
    path.write_bytes(before)
    (tmp_path / "rows.jsonl.position").write_text("{nonsense")
    with pytest.raises(UsageError, match="delete it and"):
        JsonLinesFile(path, LOG)
    assert path.read_bytes() == before
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        JsonLinesFile(tmp_path / "none" / "rows.jsonl", LOG)


LITTLE = """
import resource, signal, sys
from pathlib import Path
from signal_rows import many
from stream.errors import LogUnavailable
from stream.jsonl import JsonLinesFile
out = JsonLinesFile(Path(sys.argv[1]), "sqlite:///a.db")
rows = many(300)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
done = refused = 0
while done < 300:
    try:
        out.append(rows[done : done + 50], {0: done + 50})
        done += 50
    except LogUnavailable as problem:
        refused += 1
        assert out.offsets.get(0, 0) == done, out.offsets
        print(problem)
        if refused == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert refused == 2, refused
"""


def test_a_full_disk_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """A limit on the size of files, lifted later: the write is cut in the middle of a line, twice."""
    path = tmp_path / "rows.jsonl"
    done = _python(LITTLE, str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("File too large") == 2
    assert lines(path) == many(300)


FOR_EVER = """
import sys
from pathlib import Path
from signal_rows import many
from stream.jsonl import JsonLinesFile
out = JsonLinesFile(Path(sys.argv[1]), "sqlite:///a.db")
rows = many(6_000)
at = out.offsets.get(0, 0)
while at < len(rows):
    step = 1 + at % 23
    out.append(rows[at : at + step], {0: min(at + step, len(rows))})
    at += step
"""


@pytest.mark.faults
def test_kill_9_mid_write(tmp_path: Path) -> None:
    path, rng, rows = tmp_path / "rows.jsonl", random.Random(5), many(6_000)
    kills = 0
    while kills < 6:
        size = path.stat().st_size if path.exists() else 0
        goal = size + rng.choice((1, 1_000, 60_000))
        with subprocess.Popen([sys.executable, "-c", FOR_EVER, str(path)], env=_env()) as life:
            while life.poll() is None and (not path.exists() or path.stat().st_size < goal):
                time.sleep(0.001)
            if life.poll() is not None:
                break
            life.send_signal(signal.SIGKILL)
        kills += 1
    assert kills >= 3
    assert subprocess.run([sys.executable, "-c", FOR_EVER, str(path)], env=_env(), check=False).returncode == 0
    assert lines(path) == rows


def test_a_position_that_cannot_be_written_counts_for_nothing(tmp_path: Path) -> None:
    """The note beside the file cannot be written: nothing counts, and the same rows go through later."""
    folder = tmp_path / "out"
    folder.mkdir()
    out = JsonLinesFile(folder / "rows.jsonl", LOG)
    out.append(many(5), {0: 5})
    (folder / "rows.jsonl.position.part").mkdir()
    with pytest.raises(LogUnavailable, match=r"rows\.jsonl"):
        out.append(many(10)[5:], {0: 10})
    assert out.offsets == {0: 5}
    (folder / "rows.jsonl.position.part").rmdir()
    out.append(many(10)[5:], {0: 10})
    out.close()
    assert lines(folder / "rows.jsonl") == many(10)


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}


def _python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words], env=_env(), capture_output=True, text=True, timeout=60, check=False
    )
