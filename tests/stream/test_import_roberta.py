"""`affect models import` of RoBERTa: byte pairs and weights against what the papers say, written here anew."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from engines.artefacts import names
from engines.base import Recipe
from engines.errors import AffectError, ManifestInvalid
from engines.load import featurizer, load_text_model
from stream.cli import main

F32 = NDArray[np.float32]
WIDE, INNER, LAYERS, HEADS, ROWS = 32, 64, 2, 4, 26
KEYS = ("weight", "bias")
LABELS = ("Negative", "Neutral", "Positive")
MERGES = ("o o", "Ġ f", "oo d", "Ġf ood", "w a", "t e", "wa te", "wate r", "h a", "p p", "ha pp", "happ y", "Ġ wate")
BYTES = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))]
BYTES += [chr(256 + k) for k in range(256 - len(BYTES))]
"""The 256 letters that stand for bytes, in GPT-2's way: printable ones for themselves, others from 256 on."""
OF_BYTE = dict(zip([*range(33, 127), *range(161, 173), *range(174, 256)], BYTES, strict=False))
OF_BYTE |= {b: chr(256 + k) for k, b in enumerate(b for b in range(256) if b not in OF_BYTE)}
PIECES = ["<s>", "<pad>", "</s>", "<unk>", *BYTES, *(merge.replace(" ", "") for merge in MERGES), "<mask>"]


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))


def directory(path: Path, form: str = "two files") -> dict[str, F32]:
    """A directory with random weights, and these; its tokeniser in `two files` or in `tokenizer.json`."""
    path.mkdir(parents=True)
    said = {
        "architectures": ["RobertaForSequenceClassification"],
        "id2label": {str(k): label for k, label in enumerate(LABELS)},
        "hidden_size": WIDE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": ROWS,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }
    (path / "config.json").write_text(json.dumps(said))
    vocab = {piece: k for k, piece in enumerate(PIECES)}
    if form == "two files":
        (path / "vocab.json").write_text(json.dumps(vocab))
        (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    else:
        pairs = [merge.split(" ") for merge in MERGES] if form == "pairs" else list(MERGES)
        before = {"type": "ByteLevel", "add_prefix_space": False}
        model = {"type": "BPE", "vocab": vocab, "merges": pairs}
        (path / "tokenizer.json").write_text(json.dumps({"model": model, "pre_tokenizer": before}))
    tables = {"word": len(PIECES), "position": ROWS, "token_type": 1}
    random = np.random.default_rng(3)
    tensors = {f"roberta.embeddings.{n}_embeddings.weight": random.normal(size=(k, WIDE)) for n, k in tables.items()}
    shapes = {"classifier.dense": (WIDE, WIDE), "classifier.out_proj": (3, WIDE)}
    norms = ["roberta.embeddings.LayerNorm"]
    for k in range(LAYERS):
        layer = f"roberta.encoder.layer.{k}"
        shapes |= {f"{layer}.attention.self.{n}": (WIDE, WIDE) for n in ("query", "key", "value")}
        shapes |= {f"{layer}.attention.output.dense": (WIDE, WIDE), f"{layer}.intermediate.dense": (INNER, WIDE)}
        shapes |= {f"{layer}.output.dense": (WIDE, INNER)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    tensors |= {f"{name}.weight": random.normal(size=shape) / np.sqrt(WIDE) for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": random.normal(size=shape[0]) for name, shape in shapes.items()}
    tensors |= {f"{name}.weight": 1 + random.normal(size=WIDE) / 9 for name in norms}
    tensors |= {f"{name}.bias": random.normal(size=WIDE) for name in norms}
    found: dict[str, F32] = {name: value.astype(np.float32) for name, value in tensors.items()}
    never = {f"roberta.pooler.dense.{k}": np.ones((WIDE, WIDE) if k == "weight" else WIDE, np.float32) for k in KEYS}
    save_file({**found, **never, "roberta.embeddings.position_ids": np.arange(ROWS)[None]}, path / "model.safetensors")
    return found


def pieces_of(text: str) -> list[int]:
    """Byte pairs, the slow way (Sennrich et al. 2016; Radford et al. 2019): the earliest merge first, over and over."""
    out = ["<s>"]
    for word in re.findall(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)+|\s+(?!\S)|\s+", text):
        parts = [OF_BYTE[b] for b in word.encode()]
        while pairs := [(MERGES.index(" ".join(p)), k) for k, p in enumerate(pairwise(parts)) if " ".join(p) in MERGES]:
            _, k = min(pairs)
            parts[k : k + 2] = [parts[k] + parts[k + 1]]
        out += parts
    return [PIECES.index(piece) for piece in (*out, "</s>")]


def logits_of(tensors: dict[str, F32], ids: list[int]) -> F32:
    """RoBERTa by its own names: positions begin at 2, `<s>` -> dense, tanh -> out_proj."""

    def dense(x: F32, name: str) -> F32:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(x: F32, name: str) -> F32:
        middle = x - x.mean(1, keepdims=True)
        spread = np.sqrt((middle**2).mean(1, keepdims=True) + 1e-5)
        return np.asarray(middle / spread * tensors[f"{name}.weight"] + tensors[f"{name}.bias"], np.float32)

    word, place, kind = (
        tensors[f"roberta.embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type")
    )
    x = norm(word[ids] + place[2 : 2 + len(ids)] + kind[0], "roberta.embeddings.LayerNorm")
    depth = WIDE // HEADS
    for k in range(LAYERS):
        layer = f"roberta.encoder.layer.{k}"
        q, key, v = (dense(x, f"{layer}.attention.self.{n}") for n in ("query", "key", "value"))
        parts = []
        for head in range(HEADS):
            own = slice(head * depth, (head + 1) * depth)
            weight = np.exp(q[:, own] @ key[:, own].T / np.sqrt(depth))
            parts.append(weight / weight.sum(1, keepdims=True) @ v[:, own])
        mixed = dense(np.concatenate(parts, 1), f"{layer}.attention.output.dense")
        x = norm(x + mixed, f"{layer}.attention.output.LayerNorm")
        up = dense(x, f"{layer}.intermediate.dense")
        gelu = up * (1 + np.vectorize(math.erf)(up / math.sqrt(2))) / 2
        x = norm(x + dense(gelu, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    first: F32 = dense(np.tanh(dense(x[:1], "classifier.dense")), "classifier.out_proj")[0]
    return first


@pytest.mark.parametrize("form", ["two files", "words", "pairs"])
def test_it_reads_and_says_what_roberta_does(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = directory(tmp_path / "mine", form)
    assert main(["models", "import", str(tmp_path / "mine")]) == 0
    assert "parity" in capsys.readouterr().out
    model = load_text_model("mine")
    at = [model.spec.heads[0].labels.index(label.lower()) for label in LABELS]
    for text in ("happy water food", "food, wood_ 42!  it's", "Grüße 🥳"):
        ids = model.featurize([text]).tensors["ids"].tolist()
        assert ids == pieces_of(text)
        np.testing.assert_allclose(model.logits([text]).logits["sentiment3"][0, at], logits_of(tensors, ids), atol=2e-4)
    masked = model.featurize(["@ann see https://x.y/z \ud800"]).tensors["ids"].tolist()
    assert masked == pieces_of("@user see http ?")
    long = model.featurize(["food " * 99]).tensors["ids"].tolist()
    assert len(long) == ROWS - 2
    assert long[-1] == PIECES.index("</s>")


def test_several_rows_and_another_process_make_the_same_tensors(tmp_path: Path) -> None:
    directory(tmp_path / "mine")
    main(["models", "import", str(tmp_path / "mine")])
    model = load_text_model("mine")
    assert model.recipe is not None
    again = featurizer(model.recipe)(["water", "", "happy food"])
    assert again.tensors["offsets"].tolist() == [0, 3, 5, 5 + len(pieces_of("happy food"))]
    assert again.tensors["ids"].tolist() == [*pieces_of("water"), *pieces_of(""), *pieces_of("happy food")]


def spoil(folder: Path, case: str) -> None:
    if case == "two types":
        tensors = directory(folder)
        tensors["roberta.embeddings.token_type_embeddings.weight"] = np.zeros((2, WIDE), np.float32)
        save_file(tensors, folder / "model.safetensors")
    elif case == "another pad":
        directory(folder)
        said = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**said, "pad_token_id": 0}))
    elif case == "a prefix":
        directory(folder)
        (folder / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    elif case == "no pairs":
        directory(folder)
        (folder / "merges.txt").write_text("#version: 0.2\na b c\n")
    elif case == "word pieces":
        directory(folder, "words")
        (folder / "tokenizer.json").write_text('{"model": {"type": "WordPiece", "vocab": {}}}')
    elif case == "a merge of nothing":
        directory(folder)
        (folder / "merges.txt").write_text("q z\n")
    else:
        directory(folder)
        (folder / "vocab.json").write_text('{"a": 0, "b": 7}')


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("two types", "of one row, as RoBERTa has them"),
        ("another pad", "pad_token_id expected 1, got 0"),
        ("a prefix", "add_prefix_space"),
        ("no pairs", "merges expected as two pieces"),
        ("word pieces", "supported are byte pairs"),
        ("a merge of nothing", "merges that are none ['q z']"),
        ("holes", "ids expected 0 to 1"),
    ],
)
def test_other_files_are_refused(case: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(tmp_path / "mine", case)
    assert main(["models", "import", str(tmp_path / "mine")]) != 0
    assert said in capsys.readouterr().err
    assert "mine" not in names()


def test_a_vocabulary_without_its_ends_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match=r"lacks \['</s>', '<unk>'\]") as caught:
        featurizer(Recipe("bytepairs", max_tokens=9, vocabulary=("<s>", "a"), merges=("a a",)))
    assert isinstance(caught.value, AffectError)
