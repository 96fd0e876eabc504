"""`affect policy check | audit verify | audit show`: may this deployment run, and what was decided so far."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stream.audit import entries, verify
from stream.capture_desk import captured_weights
from stream.config import load_config
from stream.permits import declaration, judge, license_weights
from stream.topology import weights_of


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verbs."""
    policy = verbs.add_parser("policy", help="may this deployment run? the gate and its audit log")
    below = policy.add_subparsers(dest="what", metavar="WHAT", required=True)
    check = below.add_parser("check", help="what the gate decides on a config file; exit 78 where it refuses")
    check.add_argument("-c", "--config", required=True, metavar="FILE.toml", help="settings of the run")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=run_check)

    audit = below.add_parser("audit", help="the hash-chained audit log").add_subparsers(
        dest="act", metavar="ACT", required=True
    )
    checked = audit.add_parser("verify", help="check the chain; exit 1 where it breaks")
    checked.add_argument("file", metavar="FILE", help="the audit log (policy.audit)")
    checked.add_argument("--head", default="", metavar="HASH", help="a hash noted earlier that must still be there")
    checked.set_defaults(run=run_verify)
    shown = audit.add_parser("show", help="print the entries, oldest first")
    shown.add_argument("file", metavar="FILE", help="the audit log (policy.audit)")
    shown.add_argument("--kind", default=None, metavar="KIND", help="only entries of this kind")
    shown.add_argument("--json", action="store_true", help="whole entries")
    shown.set_defaults(run=run_show)


def run_check(args: argparse.Namespace) -> int:
    """`affect policy check`: the decision `affect run` would take, without starting anything."""
    config = load_config(args.config)
    said, verdict = declaration(config), judge(config)
    if args.json:
        body = {"declaration": said, **verdict._asdict()}
        print(msgspec.json.encode(body).decode())
    else:
        print(f"{verdict.outcome}: {verdict.message}")
        for duty in verdict.duties:
            print(f"  duty: {duty}")
    if not verdict.allowed:
        return 78
    for manifest in [*weights_of(config), *captured_weights(config)]:
        license_weights(manifest, config)
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """`affect policy audit verify`: the chain holds, or which line breaks it."""
    found = verify(Path(args.file), args.head)
    print(f"{found.entries} entries, head {found.head}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """`affect policy audit show`: entries as lines."""
    for entry in entries(Path(args.file)):
        if args.kind not in (None, entry.kind):
            continue
        if args.json:
            print(msgspec.json.encode(entry).decode())
            continue
        at = datetime.fromtimestamp(entry.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        facts = "  ".join(f"{name}={value}" for name, value in entry.facts.items() if value != "")
        print(f"{entry.seq:>5}  {at}  {entry.kind:<10}  {facts}")
    return 0
