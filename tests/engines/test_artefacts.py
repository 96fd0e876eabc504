"""Manifests: read back as written; a wrong digest, a path outside, a pickle or a bomb is refused."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines import artefacts
from engines.artefacts import Manifest, names, pack_weights, read_manifest, read_weights, write_model
from engines.base import HeadSpec
from engines.errors import ManifestInvalid, UnknownModel

ARRAYS = {"a": np.arange(6, dtype=np.int8).reshape(2, 3), "b": np.array([0.5])}


def manifest(packed: bytes, **changes: object) -> Manifest:
    digest = hashlib.sha256(packed).hexdigest()
    whole = Manifest(
        name="toy",
        version=digest[:8],
        backend="numpy",
        file="weights.npz",
        sha256=digest,
        heads=(HeadSpec("sentiment3", "single", ("positive", "neutral", "negative"), 1.25),),
        settings={"bits": 1},
        data=(),
        metrics=(),
        intended_use="tests",
        limits="all",
        research_only=False,
        training_command="none",
        seed=1,
    )
    return msgspec.structs.replace(whole, **changes)


def test_round_trip(tmp_path: Path) -> None:
    packed = pack_weights(ARRAYS)
    written = manifest(packed)
    write_model(written, packed, "# card\n", tmp_path)
    assert names(tmp_path) == ["toy"]
    assert read_manifest("toy", tmp_path) == written
    back = read_weights(written, tmp_path)
    assert {k: v.tolist() for k, v in back.items()} == {k: v.tolist() for k, v in ARRAYS.items()}
    assert pack_weights(ARRAYS) == packed


@pytest.mark.parametrize("name", ["nothing", "../toy", "toy/../toy", "", "TOY", "."])
def test_unknown_names_are_refused_with_the_list(tmp_path: Path, name: str) -> None:
    packed = pack_weights(ARRAYS)
    write_model(manifest(packed), packed, "", tmp_path)
    with pytest.raises(UnknownModel, match="there is: toy"):
        read_manifest(name, tmp_path)


@pytest.mark.parametrize("file", ["../weights.npz", "/etc/hostname", "a/b.npz", "..", ".hidden", ""])
def test_a_file_outside_the_folder_is_refused(tmp_path: Path, file: str) -> None:
    packed = pack_weights(ARRAYS)
    write_model(manifest(packed), packed, "", tmp_path)
    path = tmp_path / "toy" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "file": file}))
    with pytest.raises(ManifestInvalid, match="file expected"):
        read_manifest("toy", tmp_path)


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    packed = pack_weights(ARRAYS)
    write_model(manifest(packed), packed, "", tmp_path)
    inside, outside = tmp_path / "toy" / "weights.npz", tmp_path / "weights.npz"
    inside.rename(outside)
    inside.symlink_to(outside)
    with pytest.raises(ManifestInvalid, match="outside"):
        read_weights(manifest(packed), tmp_path)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    packed = pack_weights(ARRAYS)
    write_model(manifest(packed), packed, "", tmp_path)
    path = tmp_path / "toy" / "weights.npz"
    path.write_bytes(packed[:-1] + bytes([packed[-1] ^ 1]))
    with pytest.raises(ManifestInvalid, match="sha256 expected"):
        read_weights(manifest(packed), tmp_path)
    path.unlink()
    with pytest.raises(ManifestInvalid, match="cannot read"):
        read_weights(manifest(packed), tmp_path)


def test_pickles_and_noise_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([{"x": 1}], dtype=object))
    for packed in (buffer.getvalue(), b"no archive", b""):
        write_model(manifest(packed), packed, "", tmp_path)
        with pytest.raises(ManifestInvalid, match="no archive of plain arrays"):
            read_weights(manifest(packed), tmp_path)


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts, "WEIGHTS_MAX_BYTES", 100_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\0" * 10_000_000)
    packed = buffer.getvalue()
    write_model(manifest(packed), packed, "", tmp_path)
    with pytest.raises(ManifestInvalid, match="unpacks to 10000000"):
        read_weights(manifest(packed), tmp_path)
    large = np.random.default_rng(0).bytes(200_000)
    write_model(manifest(large), large, "", tmp_path)
    with pytest.raises(ManifestInvalid, match="at most 100000"):
        read_weights(manifest(large), tmp_path)


@pytest.mark.parametrize("change", [{"name": "other"}, {"version": "00000000"}, {"heads": 3}, {"seed": None}])
def test_malformed_manifests_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    packed = pack_weights(ARRAYS)
    write_model(manifest(packed), packed, "", tmp_path)
    path = tmp_path / "toy" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ManifestInvalid, match="toy"):
        read_manifest("toy", tmp_path)
    path.write_bytes(b"\xff{")
    with pytest.raises(ManifestInvalid, match="toy"):
        read_manifest("toy", tmp_path)
