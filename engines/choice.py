"""What `auto` means: every head from the model that is best at it among those this machine can run. Decided here alone.

`affect score`, `affect eval`, `affect replay` and the notebook all ask here, so they agree on every head.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engines.artefacts import ZOO, names, read_manifest
from engines.errors import UnknownModel

LIVE: Final = "hashed"
"""What a live run takes unless its settings name another: it must keep up with the stream on one core."""

ALIASES: Final = {"hashed": "hashed-bag"}
"""Short names of zoo folders."""

BETTER: Final[str] = "text-affect"
FAST: Final[str] = "hashed-bag"
FAST_IS_BETTER: Final[frozenset[str]] = frozenset()
"""Heads that the hashed bag answers better on the public test half, by a point or more: less is chance, and asking a
second model costs time. None of the models that ship today; `tests/engines/test_choice.py` holds it against the
manifests."""

CASCADE: Final = "cascade"
"""`FAST` where it is sure, else `BETTER` (`engines.cascade`)."""

NEEDS: Final = ("onnxruntime", "tokenizers")
"""Packages of `BETTER`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """`models`: zoo folder -> the heads it answers, in order. `reason`: why a better engine was refused, or ""."""

    models: dict[str, tuple[str, ...]]
    reason: str


def resolve(name: str, tasks: Sequence[str], zoo: Path = ZOO) -> Choice:
    """The models behind a name: `auto`, `cascade`, a zoo folder, a short name, NAME:PRECISION, or several by `+`.

    Raises:
        UnknownModel: no such name; the message lists what there is.
    """
    if name == "auto":
        return choose(tasks, zoo)
    if name == CASCADE:
        return Choice({part: tuple(h.task for h in read_manifest(part, zoo).heads) for part in (FAST, BETTER)}, "")
    parts = [name.partition(":")[0]] if ":" in name else name.split("+")
    folders = [ALIASES.get(part, part) for part in parts]
    if any(folder not in names(zoo) for folder in folders):
        texts = [known for known in names(zoo) if read_manifest(known, zoo).kind == "text"]
        known = ["auto", CASCADE, "stub", *sorted(ALIASES), *texts]
        raise UnknownModel(f"engine {name!r} is not known; there is: {', '.join(known)}")
    if len(folders) == 1:
        return Choice({folders[0]: tuple(h.task for h in read_manifest(folders[0], zoo).heads)}, "")
    return choose(tasks, zoo, folders)


def choose(tasks: Sequence[str], zoo: Path, among: Sequence[str] = ()) -> Choice:
    """Which models answer `tasks`; without tasks, all heads of all models that can run.

    Args:
        among: zoo folders to choose from; empty = all that this machine can run.

    Raises:
        UnknownModel: none of them is in the zoo.
    """
    lacking = [package for package in NEEDS if importlib.util.find_spec(package) is None]
    there = [name for name in (BETTER, FAST) if name in names(zoo)]
    usable = [name for name in there if name != BETTER or not lacking]
    own: list[str] = []
    if among:  # in the same order, whatever order they were named in
        own = [name for name in sorted(among) if name not in there]  # whoever names theirs beside ours wants theirs
        usable = own + [name for name in there if name in among]
    if not usable:
        raise UnknownModel(
            f"engine 'auto': neither {BETTER} nor {FAST} can run from the zoo {zoo}; there is:"
            f" {', '.join(names(zoo)) or 'nothing'}; try --engine hashed, and `affect doctor`"
        )
    heads = {name: [h.task for h in read_manifest(name, zoo).heads] for name in usable}
    wanted = list(tasks) or list(dict.fromkeys(task for found in heads.values() for task in found))
    models: dict[str, list[str]] = {}
    for task in wanted:
        ranked = [*own, FAST, *usable] if task in FAST_IS_BETTER else usable
        name = next((name for name in ranked if task in heads.get(name, ())), None)
        if name is None:  # not here: a model that cannot run says what it lacks when it is loaded
            name = next((n for n in names(zoo) if task in (h.task for h in read_manifest(n, zoo).heads)), usable[0])
        models.setdefault(name, []).append(task)
    order = [*usable, *(name for name in models if name not in usable)]
    return Choice(
        {name: tuple(models[name]) for name in order if name in models}, "" if among else _refusals(there, lacking)
    )


def _refusals(there: Sequence[str], lacking: Sequence[str]) -> str:
    """Why better engines are not taken."""
    refused = []
    if BETTER not in there:
        refused.append(f"{BETTER} refused: it is not in the zoo")
    elif lacking:
        refused.append(f"{BETTER} refused: {' and '.join(lacking)} not installed (pip install 'affectstream[onnx]')")
    return "; ".join(refused)
