"""The roof of the engine floor: from a name to a loaded model, and the list of what there is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from engines import fake, features, stub
from engines.artefacts import ZOO, Manifest, names, read_manifest, read_packed, read_weights
from engines.base import Recipe, TensorBatch, TextModel
from engines.bytepairs import BytePairs
from engines.cascade import Cascade, read_limits
from engines.choice import ALIASES, BETTER, CASCADE, FAST, resolve
from engines.endpoint_prompt import EndpointOptions
from engines.errors import EngineError, ManifestInvalid, UnknownModel
from engines.hashed import HashedEngine
from engines.joined import join, side_by_side
from engines.ladder import BACKENDS, Ladder, Rung
from engines.onnx import OnnxEngine
from engines.precisions import open_derived
from engines.tasks import task_spec
from engines.wordpieces import WordPieces

ENCODER_BATCH: Final = 256
"""Rows an encoder is given at a time: a call of seconds, not of minutes."""

REMOTE: Final = "remote:"
"""What the name of a model begins with that another process serves: `remote:tcp://HOST:PORT`, `remote:ipc://PATH`."""


def load_text_model(name: str = "auto", zoo: Path = ZOO, threads: int = 1, tasks: Sequence[str] = ()) -> TextModel:
    """Load a text model: `hashed` (or its folder name), `text-affect`, `stub` or `fake` (tests), several joined
    by `+`, or `auto`; `cascade`; or `remote:ADDRESS`.

    `auto`, and a joined name, take every head from the model that is best at it (`engines.choice`). `TextModel.reason`
    says why `auto` refused a better engine; it is empty when the name was asked for by itself.
    `NAME:PRECISION`, as `text-affect:fp32`, is a file that `affect models build` derived and the gate passed.
    `NAME:BACKEND`, as `text-affect:torch`, is the model on that backend or an error; without, an encoder runs on the
    best backend that works here (`engines.ladder`), and `reason` says why each better one does not.

    Args:
        threads: rows that an encoder works on at the same time, 0 = one a core; changes no digit. The other engines
            have one.
        tasks: heads that will be asked for; a model that answers none of them is not loaded. Empty = all.

    Raises:
        UnknownModel: no such name; the message lists what there is.
        ManifestInvalid: its files are missing, malformed or do not match the recorded sha256.
        PrecisionRefused: the gate refused the precision asked for, or never saw it.
        BackendRefused: the backend asked for does not work here.
        MissingExtra: the model needs a package that is not installed.
    """
    if name == "stub":
        return TextModel(stub.featurize, stub.StubEngine(), recipe=Recipe("checksum"))
    if name == "fake":
        return TextModel(stub.featurize, fake.FakeEngine(), recipe=Recipe("checksum"))
    if name.startswith(REMOTE):
        return load_remote(name.removeprefix(REMOTE))
    threads = threads or os.cpu_count() or 1
    if name == CASCADE:
        return load_cascade(zoo, threads, tasks)[0]
    choice = resolve(name, tasks, zoo)
    if ":" in name:
        return _precise(next(iter(choice.models)), name.partition(":")[2], zoo, threads)
    if len(choice.models) == 1:
        return _load(next(iter(choice.models)), zoo, threads, choice.reason)
    parts = [(_load(folder, zoo, threads, ""), heads) for folder, heads in choice.models.items()]
    return join(parts, "; ".join(filter(None, (choice.reason, *(model.reason for model, _ in parts)))))


def load_cascade(
    zoo: Path = ZOO, threads: int = 1, tasks: Sequence[str] = (), on: bool = True
) -> tuple[TextModel, Cascade]:
    """`hashed-bag` before `text-affect`, and the engine itself, to turn it on and off. Off, it is `text-affect`.

    Raises:
        UnknownModel, ManifestInvalid, MissingExtra: one of the two cannot be loaded, or their limits are not here.
    """
    slow = _load(BETTER, zoo, threads or os.cpu_count() or 1, "")
    engine = Cascade(_load(FAST, zoo, threads, ""), slow, read_limits(zoo), tasks, on)
    return TextModel(engine.featurize, engine, slow.reason), engine


def _load(folder: str, zoo: Path, threads: int, reason: str) -> TextModel:
    manifest = read_manifest(folder, zoo)
    if manifest.kind != "text":
        raise UnknownModel(f"engine {folder!r} reads a {manifest.kind}, not texts; take hashed or text-affect")
    if manifest.backend == "numpy":
        return _hashed(manifest, zoo, reason)
    if manifest.backend == "onnx-cpu":
        model = climb(manifest, zoo, threads)[0]
        return replace(model, reason="; ".join(filter(None, (reason, model.reason))))
    raise ManifestInvalid(
        f"model {folder!r}: backend expected 'numpy' or 'onnx-cpu', got {manifest.backend!r}; no other is here"
    )


def _precise(folder: str, variant: str, zoo: Path, threads: int) -> TextModel:
    """A precision file, or the model on one backend."""
    manifest = read_manifest(folder, zoo)
    if manifest.backend != "onnx-cpu":
        raise UnknownModel(f"engine {folder}:{variant}: {folder} has one precision and backend; ask for {folder!r}")
    if variant in BACKENDS:
        return climb(manifest, zoo, threads, variant)[0]
    return encoder(manifest, open_derived(manifest, variant)[1], threads, variant)


def ladder(name: str = BETTER, zoo: Path = ZOO, threads: int = 1) -> Ladder:
    """The backends of an encoder of the zoo on this machine.

    Raises:
        UnknownModel: no encoder of that name. ManifestInvalid, MissingExtra: it cannot be loaded on the CPU.
    """
    manifest = read_manifest(ALIASES.get(name, name), zoo)
    if manifest.backend != "onnx-cpu":
        raise UnknownModel(f"model {name!r} is no encoder: it runs in numpy, and there is nothing to choose or build")
    packed = read_packed(manifest, zoo)
    known = encoder(manifest, packed, threads)
    return Ladder(manifest, packed, known, len(known.recipe.vocabulary) if known.recipe else 0)


def climb(manifest: Manifest, zoo: Path, threads: int, wanted: str | None = None) -> tuple[TextModel, tuple[Rung, ...]]:
    """(an encoder on the best backend that works here, or on the one wanted; every backend with its reason)."""
    return ladder(manifest.name, zoo, threads).climb(wanted)


def backends(name: str = BETTER, zoo: Path = ZOO) -> tuple[Rung, ...]:
    """Every backend of an encoder, best first, and the hashed bag below them: taken, or why not. Never raises for a
    backend: what cannot be loaded at all is a reason too.
    """
    try:
        model, rungs = ladder(name, zoo).climb()
    except EngineError as error:
        gone = tuple(Rung(backend, False, str(error)) for backend in BACKENDS)
        return (*gone, Rung("hashed", True, ""))
    model.engine.close()
    return (
        *rungs,
        Rung("hashed", False, "another model, less right: taken where its heads are the better ones, or by name"),
    )


def load_remote(address: str, keys: Path | None = None, deadline_s: float = 30.0) -> TextModel:
    """The model that an engine server has at `address`, with what makes its tensors here.

    Raises:
        EngineAway: nobody answers there. MissingExtra, ManifestInvalid: no pyzmq; no address, or no keys.
    """
    # pyzmq comes with an extra, and its import takes as long as all of ours.
    from engines.remote import RemoteEngine

    engine = RemoteEngine(address, featurizer, keys, deadline_s)
    return TextModel(engine.featurize, engine, f"served at {address}", elsewhere=True)


def load_endpoint(
    address: str, options: EndpointOptions, tasks: Sequence[str], key: str = "", deadline_s: float = 30.0
) -> TextModel:
    """The model behind a chat endpoint, asked for these tasks. Its probabilities are those it states: not calibrated.

    Raises:
        UnknownModel, ManifestInvalid, MissingExtra: no such task; address, model or key cannot be used; no httpx.
    """
    # httpx comes with an extra, and its import takes a quarter of a second.
    from engines.endpoint import EndpointEngine, featurize

    engine = EndpointEngine(address, options, [task_spec(task) for task in tasks], key, deadline_s)
    return TextModel(featurize, engine, "probabilities as the endpoint states them, not calibrated", elsewhere=True)


def featurizer(recipe: Recipe) -> Callable[[Sequence[str]], TensorBatch]:
    """What makes tensors of texts as `recipe` says.

    Raises:
        ManifestInvalid: a kind that is not known here. MissingExtra: it needs a package that is not installed.
    """
    if recipe.kind == "checksum":
        return stub.featurize
    if recipe.kind == "buckets" and 1 <= recipe.bits <= 24:
        return partial(features.featurize, bits=recipe.bits)
    if recipe.kind == "pieces":
        return WordPieces(recipe.vocabulary, recipe.max_tokens).featurize
    if recipe.kind == "bytepairs":
        return BytePairs(recipe.vocabulary, recipe.merges, recipe.max_tokens).featurize
    if recipe.kind == "joined" and recipe.parts and not any(part.parts for part in recipe.parts):
        return partial(side_by_side, [featurizer(part) for part in recipe.parts])
    raise ManifestInvalid(f"recipe {recipe.kind!r} is not known here; run the same release at both ends")


def list_models(zoo: Path = ZOO) -> list[Manifest]:
    """The manifests of every model in the zoo, by name.

    Raises:
        ManifestInvalid: one of them is malformed.
    """
    return [read_manifest(name, zoo) for name in names(zoo)]


def _hashed(manifest: Manifest, zoo: Path, reason: str) -> TextModel:
    engine = HashedEngine(manifest.spec, read_weights(manifest, zoo))
    if manifest.settings.get("bits") != engine.bits:
        raise ManifestInvalid(
            f"model {manifest.name!r}: settings.bits expected {engine.bits}, got {manifest.settings.get('bits')}"
        )
    recipe = Recipe("buckets", bits=engine.bits)
    return TextModel(featurizer(recipe), engine, reason, recipe)


def encoder(manifest: Manifest, packed: bytes, threads: int = 1, precision: str = "") -> TextModel:
    """An encoder of this manifest with the weights of `packed`: its own file, or one of another precision.

    Rows scored with a precision file carry `NAME:PRECISION@` and its own digest.

    Raises:
        MissingExtra, ManifestInvalid.
    """
    spec = msgspec.structs.replace(manifest.spec, max_batch_size=ENCODER_BATCH)
    if precision:
        version = hashlib.sha256(packed).hexdigest()[:8]
        spec = msgspec.structs.replace(spec, name=f"{manifest.name}:{precision}", version=version)
    engine = OnnxEngine(spec, packed, threads)
    longest, merges = manifest.settings.get("max_tokens", 0), tuple(engine.merges)
    kind = "bytepairs" if merges else "pieces"
    recipe = Recipe(kind, max_tokens=longest, vocabulary=tuple(engine.vocabulary), merges=merges)
    return TextModel(featurizer(recipe), engine, recipe=recipe)
