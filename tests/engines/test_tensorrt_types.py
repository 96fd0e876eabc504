"""The TensorRT backend against NVIDIA's own module: our files pass, and the calls that TensorRT 11 no longer has do
not.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from engines.buckets import Buckets
from engines.plan_cache import PlanCache
from engines.plans import build_plan, plan_key
from tests.engines.fake_card import FACTS

ROOT = Path(__file__).parent.parent.parent

PLANTED = {
    "flag": (
        "tensorrt_build.py",
        "config.clear_flag(trt.BuilderFlag.TF32)",
        "config.set_flag(trt.BuilderFlag.FP16)",
        "FP16",
    ),
    "calibrator": (
        "tensorrt_build.py",
        "config.builder_optimization_level = key.level",
        "config.int8_calibrator = None",
        "int8_calibrator",
    ),
    "platform": (
        "tensorrt_build.py",
        "log = _Log()",
        "log = _Log(); fast = trt.Builder(log).platform_has_fast_fp16",
        "platform_has_fast_fp16",
    ),
    "execute": ("tensorrt.py", ".execute_async_v3(stream)", ".execute_async_v2([0], stream)", "execute_async_v2"),
    "config": (
        "tensorrt_build.py",
        "build_serialized_network(network, config)",
        "build_serialized_network(network)",
        "build_serialized_network",
    ),
}
"""name: (file, what stands there, the mistake, what mypy must name)."""


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    """The script of `make check`. Skips where this machine lacks what it needs; in CI that is a failure."""
    name = "affect_tensorrt_check"  # it lies in no package
    spec = importlib.util.spec_from_file_location(name, ROOT / "deploy" / "tensorrt" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    try:
        module.stubs()
    except module.Unable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the TensorRT types must be checked in CI: {error}")
        pytest.skip(f"the TensorRT types cannot be checked here: {error}")
    return module


def test_our_files_fit_tensorrt_and_five_planted_mistakes_do_not(checker: ModuleType, tmp_path: Path) -> None:
    files = [ROOT / name for name in checker.CHECKED]
    for name, (file, there, mistake, _) in PLANTED.items():
        text = (ROOT / "engines" / file).read_text(encoding="utf-8")
        assert text.count(there) == 1, there
        files.append(tmp_path / f"planted_{name}.py")
        files[-1].write_text(text.replace(there, mistake), encoding="utf-8")
    found = checker.check(files).stdout
    by_file: dict[str, list[str]] = {}
    for line in found.splitlines():
        match = re.match(r"(?:.*/)?(\w+)\.py:\d+: error: (.*)", line)
        if match is not None:
            by_file.setdefault(match[1], []).append(match[2])
    assert by_file.keys() == {f"planted_{name}" for name in PLANTED}, found
    for name, (_, _, _, named) in PLANTED.items():
        assert any(named in error for error in by_file[f"planted_{name}"]), by_file


def test_the_stub_is_the_locked_version_and_kept_out_of_git(checker: ModuleType) -> None:
    lock = checker.LOCK.read_text(encoding="utf-8")
    assert lock.count("--hash=sha256:") >= 1
    folder = checker.stubs()
    assert folder.name.split("-")[0] in lock
    assert folder.is_relative_to(ROOT / "build")
    assert "build/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def shimmed(checker: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children import NVIDIA's real module, with the shim for its libraries: every entry point gives null."""
    folder = checker.stubs() / "imported"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder / "lib"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder / "site"), str(ROOT)]))


@pytest.mark.usefixtures("shimmed")
def test_with_nvidias_module_and_null_for_its_libraries_the_build_is_refused_with_the_reason(tmp_path: Path) -> None:
    """The real child, imported against the real module: its classes, flags and answers, up to the first null."""
    model = tmp_path / "model.onnx"
    model.write_bytes(b"onnx")
    version = re.search(r"==([\d.]+)", (ROOT / "locks" / "tensorrt.txt").read_text(encoding="utf-8"))
    assert version is not None
    cache = PlanCache(tmp_path / "plans")
    key = plan_key("a" * 64, "fp16", FACTS, version[1], Buckets())
    reason = build_plan(model, key, cache)
    assert f"TensorRT {version[1]} makes no builder" in reason
    assert "nullptr" in reason
    other = plan_key("a" * 64, "fp16", FACTS, "11.0.0", Buckets())
    assert build_plan(model, other, cache) == f"TensorRT {version[1]} is here, asked for was 11.0.0"
    assert cache.headers() == []


@pytest.mark.usefixtures("shimmed")
def test_with_nvidias_module_and_null_for_its_libraries_the_runtime_is_lost_not_the_process() -> None:
    code = """
import tensorrt as trt
from engines.errors import EngineLost
from engines.tensorrt import Log, TensorRtRuntime
log = Log()
log.log(trt.ILogger.ERROR, "no memory")
assert log.told() == "no memory"
try:
    TensorRtRuntime()
except EngineLost as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("TensorRT makes no runtime")


def test_a_stub_that_changed_its_shape_is_looked_at_anew(checker: ModuleType) -> None:
    with pytest.raises(checker.Wrong, match="look anew"):
        checker.rewritten("from __future__ import annotations\nclass IHostMemory:\n    pass\n", "12.0")


def test_what_a_machine_lacks_is_said_and_is_a_failure_in_ci(
    checker: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checker, "BUILD", tmp_path)
    monkeypatch.setattr(checker.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["check.py"])
    monkeypatch.delenv("CI", raising=False)
    assert checker.main() == 0
    assert "skipped: there is no C compiler" in capsys.readouterr().err
    monkeypatch.setenv("CI", "true")
    assert checker.main() == 1
    assert "NOT CHECKED" in capsys.readouterr().err
