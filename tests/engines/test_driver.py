"""The driver is asked in a child process: whatever it does there is a reason here. The drivers are small real
libraries.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engines.driver import LIBRARY, probe

START = """
#include <string.h>
#include <unistd.h>
int cuInit(unsigned flags) { %s }
int cuDeviceGetCount(int *n) { *n = %d; return 0; }
int cuDriverGetVersion(int *v) { *v = 13020; return 0; }
int cuDeviceGet(int *d, int k) { *d = k; return 0; }
int cuDeviceGetName(char *name, int size, int d) { strncpy(name, "Fake H1", size); return 0; }
int cuDeviceTotalMem_v2(unsigned long *bytes, int d) { *bytes = 1ul << 36; return 0; }
int cuDeviceGetAttribute(int *v, int which, int d) { *v = which == 75 ? 9 : which == 16 ? 132 : 0; return 0; }
"""


def driver(folder: Path, init: str, cards: int = 1) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to make a driver with")
    source = folder / "driver.c"
    source.write_text(START % (init, cards))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(folder / "driver.so"), str(source)], check=True)
    return str(folder / "driver.so")


def test_a_card_is_described(tmp_path: Path) -> None:
    facts, reason = probe(driver(tmp_path, "return 0;"))
    assert reason == ""
    assert facts is not None
    assert facts.pop("driver") != ""
    assert facts == {"name": "Fake H1", "capability": "9.0", "multiprocessors": 132, "memory": 1 << 36, "cuda": "13.2"}


@pytest.mark.parametrize(
    ("init", "cards", "reason"),
    [
        ("return 100;", 1, "cuInit gives 100"),
        ("return 0;", 0, "has no card"),
        ("return *(volatile int *)0;", 1, "crashed when asked \\(signal 11\\)"),
        ("pause(); return 0;", 1, "did not answer within 3 s"),
        ("_exit(3);", 1, "cannot be asked"),
    ],
)
def test_whatever_the_driver_does_is_a_reason(init: str, cards: int, reason: str, tmp_path: Path) -> None:
    facts, why = probe(driver(tmp_path, init, cards), 3.0 if "pause" in init else 60.0)
    assert facts is None
    assert re.search(reason, why), why


def test_no_driver_is_the_usual_reason() -> None:
    assert probe("libno-such-driver.so.1") == (None, "no NVIDIA driver (libno-such-driver.so.1 cannot be loaded)")
    assert LIBRARY == "libcuda.so.1"
