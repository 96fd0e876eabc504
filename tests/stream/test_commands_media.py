"""`affect score`, `eval` and `audit shortcuts` for faces and voices, as a script would use them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from engines.artefacts import read_manifest
from engines.errors import AffectError
from engines.faces import FacesInvalid, majority
from engines.tasks import task_spec
from stream.commands import audit, models
from stream.errors import UsageError
from tests.operators.test_pictures import bomb, sound

cv2 = pytest.importorskip("cv2")
soundfile = pytest.importorskip("soundfile")
RANDOM = np.random.default_rng(9)
FACES = np.stack([cv2.GaussianBlur(RANDOM.integers(0, 256, (48, 48)).astype(np.uint8), (0, 0), 2) for _ in range(40)])


def affect(*words: str) -> int:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(required=True)
    for group in (models, audit):
        group.add(verbs)
    args = parser.parse_args(words)
    return int(args.run(args))


def scored(capsys: pytest.CaptureFixture[str], task: str, path: Path, code: int = 0) -> list[dict[str, object]]:
    assert affect("score", "--task", task, "--input", str(path)) == code
    printed = capsys.readouterr()
    assert "for research only" in printed.err
    return [json.loads(line) for line in printed.out.splitlines()]


def check(row: dict[str, object], task: str) -> None:
    scores = row["scores"]
    assert isinstance(scores, dict)
    assert tuple(scores) == task_spec(task).labels
    assert sum(scores.values()) == pytest.approx(1.0, abs=1e-5)
    assert row["labels"] == [max(scores, key=lambda name: scores[name])]


def test_faces_of_an_archive_are_scored_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "faces.npz", x=FACES)
    rows = scored(capsys, "ferplus8", tmp_path / "faces.npz")
    assert [r["id"] for r in rows] == list(range(40))
    for row in rows:
        check(row, "ferplus8")
    np.savez(tmp_path / "one.npz", x=FACES[7:8])
    assert scored(capsys, "ferplus8", tmp_path / "one.npz")[0]["scores"] == rows[7]["scores"]
    back = np.diff(np.diff(FACES.astype(int), axis=1, prepend=0), axis=2, prepend=0).astype(np.uint8)
    np.savez(tmp_path / "grad.npz", x_grad=back)
    assert [r["scores"] for r in scored(capsys, "ferplus8", tmp_path / "grad.npz")] == [r["scores"] for r in rows]
    for wrong in ({"y": FACES}, {"x": FACES[0]}, {"x": FACES.astype(float)}):
        np.savez(tmp_path / "wrong.npz", **wrong)  # type: ignore[arg-type]
        with pytest.raises(FacesInvalid, match=r"48, 48"):
            affect("score", "--task", "ferplus8", "--input", str(tmp_path / "wrong.npz"))
    (tmp_path / "wrong.npz").write_bytes(b"PK nothing")
    with pytest.raises(FacesInvalid, match="no archive"):
        affect("score", "--task", "ferplus8", "--input", str(tmp_path / "wrong.npz"))


def test_a_folder_of_pictures_is_scored_and_bombs_in_it_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in (2, 0, 1):
        cv2.imwrite(str(tmp_path / f"face{k}.png"), FACES[k])
    (tmp_path / "bomb.png").write_bytes(bomb(12_000))
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((200, 600), 90, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    rows = {str(r["id"]): r for r in scored(capsys, "ferplus8", tmp_path)}
    assert list(rows) == ["bomb.png", "cut.jpg", "face0.png", "face1.png", "face2.png", "wide.png"]
    np.savez(tmp_path / "faces.npz", x=FACES[:3])
    alone = scored(capsys, "ferplus8", tmp_path / "faces.npz")
    assert [rows[f"face{k}.png"]["scores"] for k in range(3)] == [r["scores"] for r in alone]
    for name, why in (("bomb.png", "too_large"), ("cut.jpg", "not_a_picture"), ("wide.png", "no_face")):
        assert rows[name]["scores"] == {}
        assert str(rows[name]["error"]).startswith(why)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="no file"):
        affect("score", "--task", "ferplus8", "--input", str(empty))
    with pytest.raises(UsageError, match="--input"):
        affect("score", "--task", "ravdess8")


def test_a_folder_of_sounds_is_scored_whatever_its_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.wav").write_bytes(sound(1.0, 48_000, channels=2))
    (tmp_path / "a.flac").write_bytes(sound(1.0, kind="FLAC"))
    (tmp_path / "c.wav").write_bytes(b"RIFF broken")
    rows = scored(capsys, "ravdess8", tmp_path)
    assert [r["id"] for r in rows] == ["a.flac", "b.wav", "c.wav"]
    for row in rows[:2]:
        check(row, "ravdess8")
    assert rows[0]["labels"] == rows[1]["labels"], "the same tone at another rate"
    assert str(rows[2]["error"]).startswith("not_a_sound")
    (tmp_path / "a.flac").unlink()
    (tmp_path / "b.wav").unlink()
    assert scored(capsys, "ravdess8", tmp_path, code=1)[0]["scores"] == {}


def test_models_of_texts_and_of_faces_are_not_confused(tmp_path: Path) -> None:
    np.savez(tmp_path / "faces.npz", x=FACES[:1])
    for task, engine in (("ferplus8", "hashed-bag"), ("ravdess8", "face-affect"), ("emtract7", "face-affect")):
        with pytest.raises(AffectError, match=r"there is|reads a"):
            affect("score", "--task", task, "--engine", engine, "--input", str(tmp_path / "faces.npz"))


def test_the_majority_rule_is_that_of_the_paper() -> None:
    votes = np.zeros((5, 10), np.uint8)
    votes[0, [0, 1]] = [6, 4]
    votes[1, [0, 1]] = [5, 5]  # no majority
    votes[2, [3, 0, 1, 2, 4]] = [4, 1, 1, 1, 1]  # single votes are slips
    votes[3, 8] = 10  # unknown
    votes[4, [7, 9]] = [7, 3]
    assert majority(votes).tolist() == [0, -1, 3, -1, 7]


@pytest.mark.data
@pytest.mark.parametrize("task", ["ferplus8", "ravdess8"])
def test_the_manifests_figures_are_those_of_the_shipped_weights(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = "face-affect" if task == "ferplus8" else "voice-affect"
    assert affect("eval", "--task", task, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    kept = {m.metric: m for m in read_manifest(name).metrics}
    for measured in found["metrics"]:
        row = kept[measured["metric"]]
        assert measured["value"] == pytest.approx(row.value, abs=0.005), "another processor may flip a row or two"
        assert found["rows"] == row.rows
    assert affect("audit", "shortcuts", "--task", task, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["emotion"] > 0.2
    assert all(f["p"] > 0 for f in report["factors"])
