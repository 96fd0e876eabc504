"""`affect models VERB`: what models there are, what each is, and what is made of them.

A further verb is a file `stream/commands/models_VERB.py` with `add(verbs)`, listed in `MEMBERS`.
"""

from __future__ import annotations

import argparse
from types import ModuleType

import msgspec

from engines.artefacts import Manifest, imported_zoo, names, read_manifest, read_packed
from engines.choice import ALIASES
from engines.load import list_models
from engines.precisions import Derived, read_record
from stream.commands import models_build, models_import
from stream.errors import UsageError

MEMBERS: tuple[ModuleType, ...] = (models_build, models_import)
PRECISION = {"numpy": "int8 table, int16 layers", "onnx-cpu": "int8 products, float32 between"}


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the group; without a verb it lists."""
    models = verbs.add_parser("models", help="list the models, or show one: heads, metrics, licences, sha256")
    models.set_defaults(run=run_list, json=False)
    below = models.add_subparsers(dest="models_verb", metavar="VERB")
    listed = below.add_parser("list", help="name, version, backend and heads of each")
    listed.add_argument("--json", action="store_true", help="whole manifests, one a line")
    listed.set_defaults(run=run_list)
    show = below.add_parser("show", help="one model: heads, metrics, licences, sha256")
    show.add_argument("name", nargs="?", help="model to show")
    show.add_argument("--json", action="store_true", help="the manifest")
    show.set_defaults(run=run_show)
    for member in MEMBERS:
        member.add(below)


def run_list(args: argparse.Namespace) -> int:
    """List the zoo."""
    for manifest in list_models():
        if args.json:
            print(msgspec.json.encode(manifest).decode())
        else:
            heads = ", ".join(h.task for h in manifest.heads)
            print(f"{manifest.name}@{manifest.version}  {manifest.backend}  heads: {heads}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Show one manifest after checking the weights against it."""
    if args.name is None:
        raise UsageError(f"affect models show: give a name, one of {', '.join(m.name for m in list_models())}")
    manifest = read_manifest(ALIASES.get(args.name, args.name))
    read_packed(manifest)
    files = read_record(manifest).files
    if args.json:
        derived = {"precisions": files} if files else {}
        print(msgspec.json.encode({**msgspec.to_builtins(manifest), **derived}).decode())
    else:
        print("\n".join([_describe(manifest), *map(_file, files)]))
    return 0


def _file(file: Derived) -> str:
    state = "not judged"
    if file.verdict is not None:
        state = "passed" if file.verdict.passed else f"refused: {'; '.join(file.verdict.reasons)}"
    return f"file {file.precision}  sha256 {file.sha256}, from {file.parent} {file.parent_sha256[:12]}; {state}"


def _describe(manifest: Manifest) -> str:
    whole = manifest.kind != "text" or manifest.name in names(imported_zoo())
    kept = "float32" if whole else PRECISION.get(manifest.backend, "float32")
    lines = [
        f"{manifest.name}@{manifest.version}  {manifest.backend}  {manifest.file}",
        f"sha256     {manifest.sha256} (checked)",
        f"reads      {manifest.kind}; precision {kept}; research only: {'yes' if manifest.research_only else 'no'}",
        f"rebuild    {manifest.training_command}",
        f"for        {manifest.intended_use}",
        f"limits     {manifest.limits}",
        "heads",
    ]
    lines += [f"  {h.task} ({h.kind}, T={h.temperature}): {', '.join(h.labels)}" for h in manifest.heads]
    lines.append("metrics")
    lines += [
        f"  {m.task} {m.metric} {m.value:.4f} [{m.lo:.4f}, {m.hi:.4f}] on {m.rows} rows of {m.data};"
        f" published: {m.published}"
        for m in manifest.metrics
    ]
    lines.append("data")
    lines += [f"  {d.name} ({d.rows} rows): {d.licence}; {d.source}" for d in manifest.data]
    return "\n".join(lines)
