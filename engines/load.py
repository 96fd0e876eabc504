"""The roof of the engine floor: from a name to a loaded model, and the list of what there is."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from engines import features, stub
from engines.artefacts import ZOO, Manifest, names, read_manifest, read_packed, read_weights
from engines.base import Recipe, TensorBatch, TextModel
from engines.errors import ManifestInvalid, UnknownModel
from engines.hashed import HashedEngine
from engines.onnx import OnnxEngine
from engines.precisions import open_derived
from engines.wordpieces import WordPieces

ENCODER_BATCH: Final = 256
"""Rows an encoder is given at a time: a call of seconds, not of minutes."""

ALIASES: Final = {"hashed": "hashed-bag"}
"""Short names of zoo folders."""

AUTO: Final = "hashed-bag"
"""What `auto` takes: the model that keeps up with a stream on one core. A better, slower one is asked for by name."""

REMOTE: Final = "remote:"
"""What the name of a model begins with that another process serves: `remote:tcp://HOST:PORT`, `remote:ipc://PATH`."""

BETTER: Final = "text-affect"
NEEDS: Final = ("onnxruntime", "tokenizers")


def load_text_model(name: str = "auto", zoo: Path = ZOO, threads: int = 1) -> TextModel:
    """Load a text model: `hashed` (or its folder name), `text-affect`, `stub`, `auto`, or `remote:ADDRESS`.

    `NAME:PRECISION`, as `text-affect:fp32`, is a file that `affect models build` derived and the gate passed.

    `TextModel.reason` says why `auto` refused the better engines; it is empty when the name was asked for by itself.

    Args:
        threads: threads inside one run of an encoder; the other engines have one.

    Raises:
        UnknownModel: no such name; the message lists what there is.
        ManifestInvalid: its files are missing, malformed or do not match the recorded sha256.
        PrecisionRefused: the gate refused the precision asked for, or never saw it.
        MissingExtra: the model needs a package that is not installed.
    """
    if name == "stub":
        return TextModel(stub.featurize, stub.StubEngine(), recipe=Recipe("checksum"))
    if name.startswith(REMOTE):
        return load_remote(name.removeprefix(REMOTE))
    reason = ""
    name, _, precision = name.partition(":")
    if name == "auto":
        reason, name = _refusals(zoo), AUTO
    folder = ALIASES.get(name, name)
    if folder not in names(zoo):
        known = ["auto", "stub", *sorted(ALIASES), *names(zoo)]
        raise UnknownModel(f"engine {name!r} is not known; there is: {', '.join(known)}")
    manifest = read_manifest(folder, zoo)
    if precision:
        if manifest.backend != "onnx-cpu":
            raise UnknownModel(f"engine {name}:{precision}: {folder} has one precision; ask for {name!r}")
        return encoder(manifest, open_derived(manifest, precision)[1], threads, precision)
    if manifest.backend == "numpy":
        return _hashed(manifest, zoo, reason)
    if manifest.backend == "onnx-cpu":
        return encoder(manifest, read_packed(manifest, zoo), threads)
    raise ManifestInvalid(
        f"model {folder!r}: backend expected 'numpy' or 'onnx-cpu', got {manifest.backend!r}; no other is here"
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
    recipe = Recipe("pieces", max_tokens=manifest.settings.get("max_tokens", 0), vocabulary=tuple(engine.vocabulary))
    return TextModel(featurizer(recipe), engine, recipe=recipe)


def _refusals(zoo: Path) -> str:
    """Why the better engines are not taken."""
    lacking = [package for package in NEEDS if importlib.util.find_spec(package) is None]
    if BETTER not in names(zoo):
        encoder = f"{BETTER} refused: it is not in the zoo"
    elif lacking:
        encoder = f"{BETTER} refused: {' and '.join(lacking)} not installed (pip install 'affectstream[onnx]')"
    else:
        encoder = f"{BETTER} refused: hundreds of times slower, ask for it by name"
    return f"tensorrt refused: no text model of that kind in the zoo; {encoder}"
