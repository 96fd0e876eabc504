"""The roof of the engine floor: from a name to a loaded model, and the list of what there is."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Final

from engines import features, stub
from engines.artefacts import ZOO, Manifest, names, read_manifest, read_weights
from engines.base import TextModel
from engines.errors import ManifestInvalid, UnknownModel
from engines.hashed import HashedEngine

ALIASES: Final = {"hashed": "hashed-bag"}
"""Short names of zoo folders."""

_BETTER: Final = (("tensorrt", "tensorrt"), ("onnx-cuda", "onnxruntime"), ("onnx-cpu", "onnxruntime"))
"""Engines `auto` would prefer to the hashed bag, best first, with the package each needs."""


def load_text_model(name: str = "auto", zoo: Path = ZOO) -> TextModel:
    """Load a text model: `hashed` (or its folder name), `stub`, or `auto` (the best that can run here).

    `TextModel.reason` says why each better engine was refused; it is empty when the name was asked for by itself.

    Raises:
        UnknownModel: no such name; the message lists what there is.
        ManifestInvalid: its files are missing, malformed or do not match the recorded sha256.
    """
    if name == "stub":
        return TextModel(stub.featurize, stub.StubEngine())
    reason = ""
    if name == "auto":
        reason, name = "; ".join(_refusal(engine, package) for engine, package in _BETTER), "hashed"
    folder = ALIASES.get(name, name)
    if folder not in names(zoo):
        known = ["auto", "stub", *sorted(ALIASES), *names(zoo)]
        raise UnknownModel(f"engine {name!r} is not known; there is: {', '.join(known)}")
    manifest = read_manifest(folder, zoo)
    if manifest.backend != "numpy":
        raise ManifestInvalid(
            f"model {folder!r}: backend expected 'numpy', got {manifest.backend!r}; no other text backend is here"
        )
    engine = HashedEngine(manifest.spec, read_weights(manifest, zoo))
    if manifest.settings.get("bits") != engine.bits:
        raise ManifestInvalid(
            f"model {folder!r}: settings.bits expected {engine.bits}, got {manifest.settings.get('bits')}"
        )
    return TextModel(partial(features.featurize, bits=engine.bits), engine, reason)


def list_models(zoo: Path = ZOO) -> list[Manifest]:
    """The manifests of every model in the zoo, by name.

    Raises:
        ManifestInvalid: one of them is malformed.
    """
    return [read_manifest(name, zoo) for name in names(zoo)]


def _refusal(engine: str, package: str) -> str:
    """Why `engine` does not run here: no text artefact of that kind ships yet, and perhaps no package either."""
    installed = importlib.util.find_spec(package) is not None
    return f"{engine} refused: no text model of that kind in the zoo" + (
        "" if installed else f" and {package} is not installed"
    )
