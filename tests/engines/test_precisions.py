"""Precision files on disk: nothing is opened that was not judged, did not pass, or is not the file recorded."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engines.artefacts import models_home
from engines.errors import ManifestInvalid, PrecisionRefused, UnknownModel
from engines.load import load_text_model
from engines.precisions import PRECISIONS, folder, keep, open_derived, read_record
from tests.engines import precise


def test_the_folder_of_the_user_holds_them() -> None:
    assert models_home({"AFFECT_MODELS": "/m", "XDG_CACHE_HOME": "/c"}) == Path("/m")
    assert models_home({"XDG_CACHE_HOME": "/c"}) == Path("/c/affectstream/models")
    assert models_home({}) == Path.home() / ".cache" / "affectstream" / "models"


def test_what_passed_is_opened_and_scores_under_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo, home = precise.zoo(tmp_path / "zoo"), precise.kept(tmp_path / "home")
    monkeypatch.setenv("AFFECT_MODELS", str(home))
    for precision in PRECISIONS:
        loaded = load_text_model(f"text-affect:{precision}", zoo)
        assert loaded.spec.model_id == f"text-affect:{precision}@{precise.file(precision).sha256[:8]}"
        found, want = (m.logits(precise.TEXTS).logits["mood"] for m in (loaded, precise.model(precision)))
        assert found.tobytes() == want.tobytes()
    assert [f.precision for f in read_record(precise.manifest(), home).files] == list(PRECISIONS)
    with pytest.raises(UnknownModel, match="expected one of fp32"):
        load_text_model("text-affect:fp8", zoo)
    with pytest.raises(UnknownModel, match="one precision"):
        load_text_model("hashed:fp32")


def test_what_was_not_built_not_judged_or_refused_is_not_opened(tmp_path: Path) -> None:
    manifest, made = precise.manifest(), precise.file("fp16")
    with pytest.raises(UnknownModel, match="affect models build text-affect --precision fp16"):
        open_derived(manifest, "fp16", tmp_path)
    keep(manifest, made.recorded, made.packed, tmp_path)
    with pytest.raises(PrecisionRefused, match="never gated"):
        open_derived(manifest, "fp16", tmp_path)
    keep(manifest, msgspec.structs.replace(made.recorded, verdict=precise.verdict(False)), None, tmp_path)
    with pytest.raises(PrecisionRefused, match="moved too far"):
        open_derived(manifest, "fp16", tmp_path)
    keep(manifest, msgspec.structs.replace(made.recorded, verdict=precise.verdict()), None, tmp_path)
    assert open_derived(manifest, "fp16", tmp_path)[1] == made.packed


def test_files_that_are_not_those_recorded_are_refused(tmp_path: Path) -> None:
    manifest = precise.manifest()
    precise.kept(tmp_path)
    place = folder(manifest, tmp_path)
    damaged = place / "fp32.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0")
    with pytest.raises(ManifestInvalid, match="sha256 expected"):
        open_derived(manifest, "fp32", tmp_path)
    (place / "fp16.onnx").unlink()
    with pytest.raises(ManifestInvalid, match="cannot read"):
        open_derived(manifest, "fp16", tmp_path)
    text = (place / "precisions.json").read_text()
    (place / "precisions.json").write_text(text.replace("qdq-int8.onnx", "../../secret"))
    with pytest.raises(ManifestInvalid, match=r"expected qdq-int8\.onnx"):
        open_derived(manifest, "qdq-int8", tmp_path)
    (place / "precisions.json").write_text(text.replace(manifest.sha256, "0" * 64))
    with pytest.raises(ManifestInvalid, match="expected the files of"):
        open_derived(manifest, "fp32", tmp_path)
    (place / "precisions.json").write_text("{")
    with pytest.raises(ManifestInvalid, match="build it anew"):
        open_derived(manifest, "fp32", tmp_path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(ManifestInvalid, match="AFFECT_MODELS"):
        keep(precise.manifest(), precise.file("fp16").recorded, b"x", tmp_path / "home")
