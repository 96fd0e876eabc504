"""Face and voice networks with random weights, as real ONNX files, and a zoo that holds them."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np

from engines.artefacts import DataSource, Manifest, ModelKind, write_model
from engines.base import HeadSpec
from engines.load_media import load_face_model, load_voice_model
from engines.media import FaceModel, VoiceModel
from engines.tasks import task_spec
from engines.training.media_graph import F32, face_graph, voice_graph

LABELS = 8


def _convolution(w: dict[str, F32], random: np.random.Generator, names: tuple[str, str], *shape: int) -> None:
    conv, norm = names
    w[f"{conv}.weight"] = (random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    w[f"{norm}.weight"] = random.uniform(0.5, 1.5, shape[0]).astype(np.float32)
    w[f"{norm}.bias"] = random.normal(size=shape[0]).astype(np.float32)
    w[f"{norm}.running_mean"] = random.normal(size=shape[0]).astype(np.float32)
    w[f"{norm}.running_var"] = random.uniform(0.5, 2.0, shape[0]).astype(np.float32)


def _block(w: dict[str, F32], random: np.random.Generator, prefix: str, inputs: int, outputs: int) -> None:
    _convolution(w, random, (f"{prefix}conv1", f"{prefix}norm1"), outputs, inputs, 3, 3)
    _convolution(w, random, (f"{prefix}conv2", f"{prefix}norm2"), outputs, outputs, 3, 3)
    if inputs != outputs:
        _convolution(w, random, (f"{prefix}short", f"{prefix}short_norm"), outputs, inputs, 1, 1)


@functools.cache
def face_file() -> bytes:
    random = np.random.default_rng(0)
    w: dict[str, F32] = {}
    _convolution(w, random, ("stem", "stem_norm"), 8, 1, 5, 5)
    _convolution(w, random, ("conv", "conv_norm"), 8, 8, 3, 3)
    for k, (inputs, outputs) in enumerate([(8, 12), (12, 12), (12, 16)]):
        _block(w, random, f"blocks.{k}.", inputs, outputs)
    w["head.weight"] = random.normal(size=(LABELS, 16)).astype(np.float32)
    w["head.bias"] = random.normal(size=LABELS).astype(np.float32)
    return face_graph(w)


@functools.cache
def voice_file() -> bytes:
    seeds = []
    for seed in (1, 2):
        random = np.random.default_rng(seed)
        w: dict[str, F32] = {}
        _convolution(w, random, ("stem", "stem_norm"), 4, 1, 5, 5)
        for k, (inputs, outputs) in enumerate([(4, 6), (6, 8), (8, 10)]):
            _block(w, random, f"stages.{k}.", inputs, outputs)
        w["attention.weight"] = random.normal(size=(1, 40, 1)).astype(np.float32)
        w["attention.bias"] = np.zeros(1, np.float32)
        for name, values in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.1), ("running_var", 2.0)):
            w[f"bands_norm.{name}"] = np.full(192, values, np.float32)
        w["bands.weight"] = (random.normal(size=(5, 192)) / 14).astype(np.float32)
        w["bands.bias"] = random.normal(size=5).astype(np.float32)
        w["head.weight"] = random.normal(size=(LABELS, 85)).astype(np.float32)
        w["head.bias"] = random.normal(size=LABELS).astype(np.float32)
        seeds.append(w)
    return voice_graph(seeds)


def write_zoo(zoo: Path) -> Path:
    """`tiny-face` and `tiny-voice`, both for research only."""
    for name, kind, task, packed in (
        ("tiny-face", "face", "ferplus8", face_file()),
        ("tiny-voice", "voice", "ravdess8", voice_file()),
    ):
        write_model(manifest(name, kind, task, packed), packed, "", zoo)  # type: ignore[arg-type]
    return zoo


def manifest(name: str, kind: ModelKind, task: str, packed: bytes) -> Manifest:
    digest = hashlib.sha256(packed).hexdigest()
    heads = (HeadSpec(task, "single", task_spec(task).labels),)
    data = (DataSource("toys", "for research only", "drawn", 0, 0),)
    return Manifest(
        name, digest[:8], "onnx-cpu", "model.onnx", digest, heads, {}, data, (), "tests", "all", True, "", 0, kind
    )


def face_model(zoo: Path) -> FaceModel:
    return load_face_model("tiny-face", write_zoo(zoo), research=True)


def voice_model(zoo: Path) -> VoiceModel:
    return load_voice_model("tiny-voice", write_zoo(zoo), research=True)
