"""The roof of the engine floor for models that look and listen: from a name to a loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engines.artefacts import ZOO, Manifest, ModelKind, names, read_manifest, read_packed
from engines.errors import ResearchOnly, UnknownModel
from engines.media import FaceModel, VoiceModel
from engines.onnx_media import FaceEngine, VoiceEngine

FACE: Final = "face-affect"
VOICE: Final = "voice-affect"


def load_face_model(name: str = FACE, zoo: Path = ZOO, threads: int = 1, *, research: bool = False) -> FaceModel:
    """Load a model of faces.

    Args:
        research: the caller says that this is research, as the licences of its training data ask.

    Raises:
        ResearchOnly: they do, and the caller does not.
        UnknownModel: no such model, or it reads something else.
        ManifestInvalid: its files are missing, malformed or do not match the recorded sha256.
        MissingExtra: onnxruntime is not installed.
    """
    manifest = media_manifest(name, "face", zoo, research=research)
    return FaceModel(FaceEngine(manifest.spec, read_packed(manifest, zoo), threads))


def load_voice_model(name: str = VOICE, zoo: Path = ZOO, threads: int = 1, *, research: bool = False) -> VoiceModel:
    """Load a model of voices; arguments and errors as for `load_face_model`."""
    manifest = media_manifest(name, "voice", zoo, research=research)
    return VoiceModel(VoiceEngine(manifest.spec, read_packed(manifest, zoo), threads))


def load_model(manifest: Manifest, zoo: Path = ZOO) -> FaceModel | VoiceModel:
    """The face or voice model of a manifest, whatever its licence: to check that it loads, not to use it."""
    load = load_face_model if manifest.kind == "face" else load_voice_model
    return load(manifest.name, zoo, research=True)


def media_manifest(name: str, kind: ModelKind, zoo: Path = ZOO, *, research: bool = False) -> Manifest:
    """The manifest of a model that reads `kind`, its licence kept.

    Raises:
        ResearchOnly, UnknownModel, ManifestInvalid: see `load_face_model`.
    """
    fitting = [known for known in names(zoo) if read_manifest(known, zoo).kind == kind]
    if name not in fitting:
        raise UnknownModel(f"{kind} model {name!r} is not in the zoo {zoo}; there is: {', '.join(fitting) or 'none'}")
    manifest = read_manifest(name, zoo)
    if manifest.research_only and not research:
        raise ResearchOnly(
            f"model {name!r} may be used for research only ({licences(manifest)}); set [policy] research = true if this"
            " is research"
        )
    return manifest


def licences(manifest: Manifest) -> str:
    """The licences of the data a model was trained on, in one line."""
    return "; ".join(f"{d.name}: {d.licence}" for d in manifest.data)
