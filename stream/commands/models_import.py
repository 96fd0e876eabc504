"""`affect models import`: a model of the user's, checked, built, mapped into the ontology, ready by its name."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engines.artefacts import imported_zoo, model_file, names, write_model
from engines.choice import ALIASES
from engines.errors import MissingExtra
from engines.tasks import TEXT_TASKS, TaskSpec
from operators.ontology import Ontology
from stream.errors import UsageError

if TYPE_CHECKING:
    from engines.imports.given import Given, Kind

RESERVED = ("auto", "cascade", "stub", "remote", "endpoint")

ABOUT = """\
Take in a text classifier of yours, check that it answers as before, and write it as a model that --engine can name.

  BERT, DistilBERT   config.json, model.safetensors, vocab.txt or tokenizer.json
  RoBERTa            config.json, model.safetensors, vocab.json and merges.txt, or tokenizer.json
  any other          one .onnx with its weights inside, labels.txt or config.json, vocab.txt or tokenizer.json"""
EPILOG = """\
example:
  affect models import ./my-model --task sentiment3 --map LABEL_0=negative --map LABEL_1=neutral --map LABEL_2=positive
  affect score --task sentiment3 --engine my-model --input posts.jsonl

It goes to imported/NAME in the folder of AFFECT_MODELS. Labels that stand for nothing yet are listed with the command
to complete. Limits, and what is refused: docs/models-import.md."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = verbs.add_parser(
        "import",
        help="take in a text classifier of yours: a Hugging Face directory, or ONNX",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dir", type=Path, help="the directory that holds these files")
    parser.add_argument("--name", help="what --engine will call it (default: the directory's name)")
    parser.add_argument("--task", help="task whose labels it has (default: the one with exactly these)")
    parser.add_argument(
        "--map", action="append", default=[], metavar="LABEL=TARGET", help="what a label of its means in the task"
    )
    parser.add_argument(
        "--languages",
        default="",
        metavar="LIST",
        help="languages it was trained on, such as en,de: texts in others get null (default: it reads any)",
    )
    parser.add_argument("--research-only", action="store_true", help="its licence allows research alone")
    parser.set_defaults(run=run_import)


def run_import(args: argparse.Namespace) -> int:
    """Read, map, build, compare, write; print how to use it."""
    try:
        from engines.imports.bring import Wanted, bring, model_name
        from engines.imports.given import read_given
    except ImportError as error:
        raise MissingExtra(f"an import needs the package {error.name}; pip install 'affectstream[import]'") from error
    given = read_given(args.dir)
    name = args.name or model_name(args.dir.resolve().name)
    if name != model_name(name) or not name or name in RESERVED or name in ALIASES:
        raise UsageError(f"--name {name!r}: expected a-z, 0-9, - and _, and none of {', '.join((*RESERVED, *ALIASES))}")
    if name in names():
        raise UsageError(f"model {name!r} is there already ({model_file(name)}); give another --name, or delete it")
    task, labels, targets = place_labels(given.labels, args.task, pairs(args.map, given.labels), args.dir)
    known = next((t for t in TEXT_TASKS if t.task == task), None)
    kind = _kind(given, known)
    plan = [[k for k, target in enumerate(targets) if target == label] for label in labels]
    words = ["affect", "models", "import", args.dir.name, "--name", name, "--task", task]
    command = shlex.join([*words, *(w for pair in args.map for w in ("--map", pair))])
    languages = _languages(args.languages)
    found = bring(given, Wanted(name, task, kind, labels, plan, args.research_only, languages, command))
    try:
        folder = write_model(found.manifest, found.packed, found.card, imported_zoo())
    except OSError as error:
        raise UsageError(
            f"cannot write {imported_zoo()}: {error.strerror}; set AFFECT_MODELS to a folder that can be written"
        ) from error
    print(f"{name}@{found.manifest.version}  {folder}")
    print(f"parity: {found.rows} rows, largest relative difference of a logit {found.moved:.2g}")
    never = [label for label, own in zip(labels, plan, strict=True) if not own]
    if never:
        print(f"never said by this model: {', '.join(never)}")
    print(f'use it: affect score --task {task} --engine {name}; in a config: [engine] name = "{name}"')
    return 0


def pairs(given: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """`LABEL=TARGET` words as a mapping.

    Raises:
        UsageError: one is not of that form, names no label of the model, or one label twice.
    """
    found: dict[str, str] = {}
    for word in given:
        label, equals, target = word.rpartition("=")
        if not equals or label not in labels or label in found:
            raise UsageError(f"--map {word!r}: expected LABEL=TARGET, each label once, of {', '.join(labels)}")
        found[label] = target
    return found


def place_labels(
    labels: Sequence[str], task: str | None, said: Mapping[str, str], folder: Path
) -> tuple[str, tuple[str, ...], list[str]]:
    """(task, its labels in order, the one of them that each of the model's labels means). Case does not count.

    Raises:
        UsageError: no task or several have these labels, or some are unmapped; the message gives the command.
    """
    tasks = _tasks()
    spoken = [said.get(label, label) for label in labels]
    if task is None:
        folded = {word.casefold() for word in spoken}
        fitting = [name for name, own in tasks.items() if {o.casefold() for o in own} == folded]
        if len(fitting) != 1:
            raise UsageError(
                f"{folder}: labels {', '.join(labels)} are those of {', '.join(fitting) or 'no task'}; say which:"
                f" affect models import {folder} --task NAME, one of {', '.join(fitting or tasks)}; and --map"
                " LABEL=TARGET for each that is none of its labels"
            )
        task = fitting[0]
    if task not in tasks:
        raise UsageError(f"--task {task!r}: expected one of {', '.join(tasks)}")
    own = {label.casefold(): label for label in tasks[task]}
    lost = [label for label, word in zip(labels, spoken, strict=True) if word.casefold() not in own]
    if lost:
        done = [w for label, target in said.items() if label not in lost for w in ("--map", f"{label}={target}")]
        asked = " ".join(f"--map {shlex.quote(label)}=TARGET" for label in lost)
        raise UsageError(
            f"{folder}: unmapped: {', '.join(lost)}; say what each means: {shlex.join(['affect', 'models', 'import'])}"
            f" {shlex.join([str(folder), '--task', task, *done])} {asked}; TARGET is one of {', '.join(tasks[task])}"
        )
    return task, tasks[task], [own[word.casefold()] for word in spoken]


def _languages(given: str) -> tuple[str, ...]:
    """ISO 639-1 codes of a list with commas.

    Raises:
        UsageError: one is no such code.
    """
    codes = tuple(code.strip().lower() for code in given.split(",") if code.strip())
    wrong = [code for code in codes if len(code) != 2 or not code.isalpha()]
    if wrong:
        raise UsageError(f"--languages {given!r}: expected ISO 639-1 codes of two letters, such as en,de; got {wrong}")
    return codes


def _tasks() -> dict[str, tuple[str, ...]]:
    """Every task and scheme that a classifier may answer -> its labels, in logit order."""
    ontology = Ontology.load()
    values = {t.task for t in TEXT_TASKS if t.kind == "regression"}
    found = {t.task: t.labels for t in TEXT_TASKS if t.kind != "regression"}
    return found | {s: ontology.labels(s) for s in ontology.schemes if s not in found and s not in values}


def _kind(given: Given, known: TaskSpec | None) -> Kind:
    """Whether labels exclude each other: as the task has it, else as the model says."""
    if known is None:
        return given.kind or "single"
    if known.kind == "regression" or given.kind not in (None, known.kind):
        raise UsageError(
            f"{given.folder}: problem_type says {given.kind}-label, task {known.task} is {known.kind}-label; they"
            " must agree: take another --task"
        )
    return known.kind
