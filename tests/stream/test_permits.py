"""The gate put to settings: what a run declares, exit 78 before anything is opened, licences, the audit log."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engines.artefacts import read_manifest
from operators.errors import PolicyRefused
from stream.audit import entries
from stream.cli import main
from stream.config import DOMAINS, Config, load_config
from stream.permits import OWN, declaration, judge, license_weights, permit
from stream.topology import build

FACES = {
    "setting": "education",
    "modalities": ["text", "face"],
    "purpose": "teaching",
    "unit": "group",
    "audit": "audit.jsonl",
}


def config(domain: str = "social", **policy: object) -> Config:
    windows = {"sizes": ["1m"]} if domain == "classroom" else {}
    return msgspec.convert({"domain": domain, "policy": policy, "windows": windows}, Config).check()


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_run_that_declares_nothing_is_what_its_domain_is(domain: str) -> None:
    bare = config(domain)
    assert declaration(bare) == OWN[domain]
    assert permit(bare).outcome == "allowed"
    assert permit(load_config(f"deploy/config/{domain}.toml", {})).outcome == "allowed"


def test_half_a_declaration_is_not_filled_up() -> None:
    for field in ("setting", "modalities", "purpose", "unit"):
        rest = {k: v for k, v in FACES.items() if k != field} | {"jurisdiction": "US"}
        refused = judge(config(**rest))
        assert refused.outcome == "incomplete"
        assert field in refused.message
    assert permit(config(**FACES, jurisdiction="US")).outcome == "allowed"


def test_a_domain_uses_only_what_is_declared_and_faces_need_an_audit_log() -> None:
    assert "text" in judge(config(**FACES | {"jurisdiction": "US", "modalities": ["face"]})).message
    assert "audit" in judge(config(**FACES | {"jurisdiction": "US", "audit": ""})).message


def test_a_refused_run_cannot_be_built_either() -> None:
    with pytest.raises(PolicyRefused, match=r"Article 5\(1\)\(f\)") as refused:
        build(config(**FACES), partitions=1)
    assert refused.value.exit_code == 78


def test_research_weights_load_only_where_the_config_says_research() -> None:
    manifest = msgspec.structs.replace(read_manifest("hashed-bag"), research_only=True)
    with pytest.raises(PolicyRefused, match=r"\[policy\] research = true"):
        license_weights(manifest, config())
    license_weights(manifest, config(research=True))
    license_weights(read_manifest("hashed-bag"), config())


REFUSED = """
domain = "social"
[log]
url = "sqlite:///{folder}/run.db"
[policy]
setting = "education"
modalities = ["text", "voice"]
purpose = "{purpose}"
unit = "group"
controller = "{controller}"
document = "D-1"
audit = "{folder}/audit.jsonl"
[web]
enabled = false
"""


def test_affect_run_ends_with_78_before_it_opens_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.toml"
    file.write_text(REFUSED.format(folder=tmp_path, purpose="teaching", controller="Head"))
    for verb in (["run", "-c", str(file), "--seconds", "1"], ["policy", "check", "-c", str(file)]):
        assert main(verb) == 78
    told = capsys.readouterr()
    assert "AI Act Article 5(1)(f)" in told.err
    assert "AI Act Article 5(1)(f)" in told.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audit.jsonl", "run.toml"]
    kept = [(e.kind, e.facts.get("outcome")) for e in entries(tmp_path / "audit.jsonl")]
    assert kept == [("admin", None), ("gate", "prohibited")]


def test_no_command_has_a_flag_against_the_gate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as wrong:
        main(["run", "-c", str(tmp_path / "x.toml"), "--force"])
    assert wrong.value.code == 2


def test_an_exempt_run_starts_and_its_audit_log_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.toml"
    file.write_text(REFUSED.format(folder=tmp_path, purpose="medical", controller="Clinic"))
    assert main(["run", "-c", str(file), "--seconds", "0.2"]) == 0
    assert main(["policy", "audit", "verify", str(tmp_path / "audit.jsonl")]) == 0
    head = capsys.readouterr().out.split()[-1]
    assert main(["policy", "audit", "show", str(tmp_path / "audit.jsonl"), "--kind", "gate"]) == 0
    assert "controller=Clinic" in capsys.readouterr().out
    kinds = [e.kind for e in entries(tmp_path / "audit.jsonl")]
    assert kinds == ["admin", "gate", "model", "admin"]
    model = next(e for e in entries(tmp_path / "audit.jsonl") if e.kind == "model")
    assert model.facts["sha256"] == read_manifest("hashed-bag").sha256
    raw = (tmp_path / "audit.jsonl").read_bytes()
    (tmp_path / "audit.jsonl").write_bytes(raw.replace(b"Clinic", b"Nobody"))
    assert main(["policy", "audit", "verify", str(tmp_path / "audit.jsonl"), "--head", head]) == 1
    assert "line 2" in capsys.readouterr().err
