"""The plan cache: found by the whole key, whole or not there, one builder, the oldest leave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from engines.plan_cache import PlanCache, PlanKey, cache_folder

KEY = PlanKey(
    artefact="a" * 64, tensorrt="11.4.0.106", gpu="Fake H1", capability="9.0", multiprocessors=132, driver="580",
    cuda="13", precision="fp16", profiles=("32x16", "32x32"), level=3, flags=(), workspace=1 << 30,
)  # fmt: skip
OTHER = {
    "artefact": "b" * 64, "tensorrt": "11.4.1.1", "gpu": "Fake H2", "capability": "10.0", "multiprocessors": 114,
    "driver": "590", "cuda": "14", "precision": "fp32", "profiles": ("32x16",), "level": 4, "flags": ("tf32",),
    "workspace": 2 << 30,
}  # fmt: skip


def changed(**fields: object) -> PlanKey:
    return msgspec.structs.replace(KEY, **fields)


def test_a_plan_comes_back_for_its_key_and_for_no_other(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path / "plans")
    assert cache.get(KEY) == (None, "no plan has been built yet")
    cache.put(KEY, b"plan", 1.5)
    assert cache.get(KEY) == (b"plan", "")
    assert OTHER.keys() == set(KEY.__struct_fields__)
    for field, value in OTHER.items():
        assert cache.get(changed(**{field: value}))[0] is None
    assert "driver 580 -> 590" in cache.get(changed(driver="590"))[1]
    assert [h.build_s for h in cache.headers()] == [1.5]


@pytest.mark.parametrize("damage", ["cut", "turned", "header cut", "header of another", "header text"])
def test_a_damaged_plan_is_deleted_with_the_reason(damage: str, tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    cache.put(KEY, bytes(1000), 1.0)
    plan, header = tmp_path / f"{KEY.name}.plan", tmp_path / f"{KEY.name}.json"
    if damage == "cut":
        plan.write_bytes(bytes(999))
    elif damage == "turned":
        plan.write_bytes(bytes(500) + b"\1" + bytes(499))
    elif damage == "header cut":
        header.write_bytes(header.read_bytes()[:50])
    elif damage == "header of another":
        cache.put(changed(driver="590"), bytes(1000), 1.0)
        header.write_bytes((tmp_path / f"{changed(driver='590').name}.json").read_bytes())
    else:
        header.write_bytes(b"\xff\xfe")
    found, why = cache.get(KEY)
    assert found is None
    assert "was deleted" in why
    assert not plan.exists()
    assert not header.exists()
    cache.put(KEY, b"anew", 1.0)
    assert cache.get(KEY)[0] == b"anew"


def test_a_plan_whose_write_was_cut_off_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two steps of `put`: what is found is nothing or the whole plan, and no scrap stays."""
    real, calls = os.replace, 0

    def breaks(source: str, target: str) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(28, "No space left on device")
        real(source, target)

    for at in (1, 2):
        cache, calls = PlanCache(tmp_path / str(at)), 0
        monkeypatch.setattr(os, "replace", breaks)
        with pytest.raises(OSError, match="No space"):
            cache.put(KEY, b"plan", 1.0)
        monkeypatch.setattr(os, "replace", real)
        assert cache.get(KEY)[0] is None
        assert not list((tmp_path / str(at)).glob("*.part"))
        cache.put(KEY, b"plan", 1.0)
        assert cache.get(KEY)[0] == b"plan"


def test_one_process_builds_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    code = """
import sys, msgspec
from pathlib import Path
from engines.plan_cache import PlanCache, PlanKey
with PlanCache(Path(sys.argv[1])).building(msgspec.json.decode(sys.argv[2], type=PlanKey)) as alone:
    print(alone, flush=True)
    sys.stdin.read()
"""
    root = Path(__file__).parent.parent.parent
    words = [sys.executable, "-c", code, str(tmp_path), msgspec.json.encode(KEY).decode()]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        with cache.building(KEY) as alone:
            assert not alone
        with cache.building(changed(level=5)) as alone:
            assert alone
        child.kill()
        child.wait(30)
        with cache.building(KEY) as alone:
            assert alone


def test_the_plans_used_longest_ago_leave_and_the_newest_stays(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path, limit=250)
    keys = [changed(level=k) for k in range(4)]
    for age, key in enumerate(keys[:2]):
        cache.put(key, bytes(100), 1.0)
        os.utime(tmp_path / f"{key.name}.json", (1000 + age, 1000 + age))
    assert cache.get(keys[0])[0] is not None  # used now: younger than the other
    cache.put(keys[2], bytes(100), 1.0)
    assert [cache.get(k)[0] is not None for k in keys] == [True, False, True, False]
    cache.put(keys[3], bytes(1000), 1.0)
    assert [cache.get(k)[0] is not None for k in keys] == [False, False, False, True]
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".plan"]


def test_the_folder_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFFECT_PLANS", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("AFFECT_PLANS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "affectstream" / "plans"
