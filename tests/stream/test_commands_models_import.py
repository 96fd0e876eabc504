"""`affect models import`: tiny models made here, used at once; and files that mean harm."""

from __future__ import annotations

import argparse
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from engines.artefacts import names, read_manifest
from engines.errors import AffectError, ImportRefused, ManifestInvalid
from engines.imports import bert, foreign
from engines.imports.given import read_given, read_tensors
from engines.load import load_text_model
from engines.tasks import task_spec
from stream.cli import main
from stream.commands import zoo
from stream.commands.models_import import pairs, place_labels
from stream.errors import UsageError

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] we need water and food so happy sad today ! # ##s good bad".split()
WIDE, INNER, LAYERS, HEADS, POSITIONS = 32, 64, 2, 4, 24
SENTIMENT = ("Negative", "Neutral", "Positive")


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_MODELS", str(tmp_path / "models"))


def config(labels: tuple[str, ...], **other: object) -> dict[str, object]:
    return {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(k): label for k, label in enumerate(labels)},
        "hidden_size": WIDE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS,
        "hidden_act": "gelu",
        **other,
    }


def directory(path: Path, labels: tuple[str, ...], seed: int = 0) -> Path:
    """A Hugging Face directory with random weights."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config(labels)))
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    random = np.random.default_rng(seed)
    shapes = dict(bert._shapes(read_given_config(labels), len(labels)))
    shapes["embeddings.word_embeddings.weight"] = (len(WORDS), WIDE)
    tensors = {}
    for name, shape in shapes.items():
        value = (random.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)
        value += np.float32("LayerNorm.weight" in name)
        tensors[name if name.startswith("classifier") else f"bert.{name}"] = value
    save_file(tensors, path / "model.safetensors")
    return path


def read_given_config(labels: tuple[str, ...]) -> bert.Config:
    return msgspec.convert(config(labels), bert.Config)


def distilled(path: Path, labels: tuple[str, ...]) -> dict[str, np.ndarray]:
    """A directory of DistilBERT with random weights, and these."""
    path.mkdir(parents=True)
    sizes = {"dim": WIDE, "hidden_dim": INNER, "n_heads": HEADS, "n_layers": LAYERS, "activation": "gelu"}
    said = {"architectures": ["DistilBertForSequenceClassification"], "max_position_embeddings": POSITIONS, **sizes}
    said["id2label"] = {str(k): label for k, label in enumerate(labels)}
    (path / "config.json").write_text(json.dumps(said))
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    shapes: dict[str, tuple[int, ...]] = {"pre_classifier": (WIDE, WIDE), "classifier": (len(labels), WIDE)}
    norms = ["distilbert.embeddings.LayerNorm"]
    for k in range(LAYERS):
        layer = f"distilbert.transformer.layer.{k}"
        shapes |= {f"{layer}.attention.{n}_lin": (WIDE, WIDE) for n in ("q", "k", "v", "out")}
        shapes |= {f"{layer}.ffn.lin1": (INNER, WIDE), f"{layer}.ffn.lin2": (WIDE, INNER)}
        norms += [f"{layer}.sa_layer_norm", f"{layer}.output_layer_norm"]
    random = np.random.default_rng(3)
    tensors = {f"{name}.weight": random.normal(size=shape) / np.sqrt(WIDE) for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": random.normal(size=shape[0]) for name, shape in shapes.items()}
    tensors |= {f"{name}.weight": 1 + random.normal(size=WIDE) / 9 for name in norms}
    tensors |= {f"{name}.bias": random.normal(size=WIDE) for name in norms}
    for name, rows in (("word", len(WORDS)), ("position", POSITIONS)):
        tensors[f"distilbert.embeddings.{name}_embeddings.weight"] = random.normal(size=(rows, WIDE))
    tensors = {name: value.astype(np.float32) for name, value in tensors.items()}
    save_file(tensors, path / "model.safetensors")
    return tensors


def distilbert(tensors: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """Its logits, written from the paper by its own names: nothing of the import is used."""

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        spread = np.sqrt(((x - x.mean(1, keepdims=True)) ** 2).mean(1, keepdims=True) + 1e-12)
        return (x - x.mean(1, keepdims=True)) / spread * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    at, depth = "distilbert.embeddings", WIDE // HEADS
    word, place = (tensors[f"{at}.{n}_embeddings.weight"] for n in ("word", "position"))
    x = norm(word[ids] + place[: len(ids)], f"{at}.LayerNorm")
    for k in range(LAYERS):
        layer = f"distilbert.transformer.layer.{k}"
        q, key, v = (dense(x, f"{layer}.attention.{n}_lin") for n in "qkv")
        parts = []
        for head in range(HEADS):
            own = slice(head * depth, (head + 1) * depth)
            weight = np.exp(q[:, own] @ key[:, own].T / np.sqrt(depth))
            parts.append(weight / weight.sum(1, keepdims=True) @ v[:, own])
        x = norm(x + dense(np.concatenate(parts, 1), f"{layer}.attention.out_lin"), f"{layer}.sa_layer_norm")
        up = dense(x, f"{layer}.ffn.lin1")
        gelu = up * (1 + np.vectorize(math.erf)(up / math.sqrt(2))) / 2
        x = norm(x + dense(gelu, f"{layer}.ffn.lin2"), f"{layer}.output_layer_norm")
    return dense(np.maximum(dense(x[:1], "pre_classifier"), 0), "classifier")[0]


def graph(path: Path, change: Callable[[onnx.ModelProto], None] = lambda model: None, opset: int = 17) -> Path:
    """A directory with an ONNX file: mean of embeddings -> 3 logits, inputs as exporters name them."""
    path.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    table = numpy_helper.from_array(
        random.normal(size=(len(WORDS), 3)).astype(np.float32), "ids"
    )  # our own input's name
    nodes = [
        helper.make_node("Gather", ["ids", "input_ids"], ["each"]),
        helper.make_node("Cast", ["attention_mask"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["weight3", "each"], ["sum3"]),
        helper.make_node("Constant", [], ["axis"], value=numpy_helper.from_array(np.array([1], np.int64))),
        helper.make_node("Unsqueeze", ["weight", "axis"], ["weight3"]),
        helper.make_node("Squeeze", ["sum3", "axis"], ["logits"]),
    ]
    order = [0, 1, 3, 4, 2, 5]
    ports = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "sequence"])
        for n in ("input_ids", "attention_mask")
    ]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    model = helper.make_model(
        helper.make_graph([nodes[k] for k in order], "g", ports, [out], [table]),
        opset_imports=[helper.make_opsetid("", opset)],
    )
    model.ir_version = 8
    change(model)
    (path / "m.onnx").write_bytes(model.SerializeToString())
    (path / "labels.txt").write_text("\n".join(SENTIMENT))
    (path / "vocab.txt").write_text("\n".join(WORDS))
    return path


def test_a_directory_becomes_a_model_that_scores_and_replays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tuple(reversed(task_spec("goemotions28").labels))
    given = directory(tmp_path / "My BERT", labels)
    assert main(["models", "import", str(given)]) == 0
    assert "my-bert@" in capsys.readouterr().out
    assert main(["models", "show", "my-bert"]) == 0
    assert "imported" in capsys.readouterr().out.lower()
    posts = tmp_path / "posts.jsonl"
    texts = ["we need water!", "so happy today", "bad food"] * 8
    posts.write_text(
        "".join(
            json.dumps({"id": f"p{k}", "ts": 1_700_000_000_000 + k * 1000, "author": f"a{k}", "text": f"#food {t} {k}"})
            + "\n"
            for k, t in enumerate(texts)
        )
    )
    assert main(["score", "--task", "goemotions28", "--engine", "my-bert", "--input", str(posts)]) == 0
    rows = [json.loads(line)["scores"] for line in capsys.readouterr().out.splitlines()]
    model = load_text_model("my-bert")
    batch = model.featurize([f"#food {texts[5]} 5"])
    theirs = bert.checked(read_given(given), read_tensors(given / "model.safetensors"))
    raw = bert.forward(read_given(given).config, theirs, batch.tensors["ids"].tolist())
    expected = dict(zip(labels, 1 / (1 + np.exp(-raw)), strict=True))
    assert rows[5] == pytest.approx(expected, abs=2e-5)
    out = tmp_path / "rows.jsonl"
    args = ["--domain", "social", "--out", str(out), "--engine", "my-bert", "--windows", "1m"]
    assert main(["replay", str(posts), *args]) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["model"] for row in found} == {model.spec.model_id}
    assert any(row["value"] is not None for row in found)


def test_a_distilbert_says_what_it_says_by_its_own_names(tmp_path: Path) -> None:
    tensors = distilled(tmp_path / "small", SENTIMENT)
    assert main(["models", "import", str(tmp_path / "small")]) == 0
    model = load_text_model("small")
    at = [model.spec.heads[0].labels.index(label.lower()) for label in SENTIMENT]
    for text in ("we need water and food today!", "so sad"):
        ids = model.featurize([text]).tensors["ids"].tolist()
        got = model.logits([text]).logits["sentiment3"][0, at]
        np.testing.assert_allclose(got, distilbert(tensors, ids), atol=2e-4)


def test_an_onnx_file_with_labels_becomes_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for opset in (13, 18):
        given = graph(tmp_path / f"g{opset}", opset=opset)
        words = ["--task", "emtract7", "--map", "Negative=sad", "--map", "Neutral=neutral", "--map", "Positive=happy"]
        assert main(["models", "import", str(given), *words]) == 0
        assert "never said by this model: anger, disgust" in capsys.readouterr().out
        model = load_text_model(f"g{opset}")
        logits = model.logits(["we need water", "bad"]).logits["emtract7"]
        table = numpy_helper.to_array(onnx.load(given / "m.onnx").graph.initializer[0])
        own = np.stack([table[[2, 5, 6, 7, 3]].sum(0), table[[2, WORDS.index("bad"), 3]].sum(0)])
        at = [model.spec.heads[0].labels.index(label) for label in ("sad", "neutral", "happy")]
        np.testing.assert_allclose(logits[:, at], own, atol=1e-5)
        assert float(np.delete(logits, at, 1).max()) < own.max(1).min() - 29
    joined = load_text_model("hashed+g18", tasks=("emtract7", "bullbear3"))
    assert {h.task for h in joined.spec.heads} == {"emtract7", "bullbear3"}
    both = joined.logits(["we need water"]).logits["emtract7"]
    assert both.tolist() == model.logits(["we need water"]).logits["emtract7"].tolist()  # theirs, not the shipped one's
    assert names()[-2:] == ["g13", "g18"]
    assert read_manifest("g18").heads[0].task == "emtract7"


def test_outputs_of_one_label_add_up(tmp_path: Path) -> None:
    words = ["--map", "Negative=negative", "--map", "Neutral=negative", "--map", "Positive=positive"]
    assert main(["models", "import", str(graph(tmp_path / "two")), "--task", "sentiment3", *words]) == 0
    labels = task_spec("sentiment3").labels
    logits = load_text_model("two").logits(["good food"]).logits["sentiment3"][0]
    table = numpy_helper.to_array(onnx.load(tmp_path / "two" / "m.onnx").graph.initializer[0])
    own = table[[2, WORDS.index("good"), WORDS.index("food"), 3]].sum(0)
    assert logits[labels.index("negative")] == pytest.approx(np.logaddexp(own[0], own[1]), abs=1e-5)
    assert logits[labels.index("positive")] == pytest.approx(own[2], abs=1e-5)


def test_unmapped_labels_are_listed_with_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = directory(tmp_path / "m", ("LABEL_0", "neutral", "so so"))
    assert main(["models", "import", str(given), "--task", "sentiment3", "--map", "LABEL_0=negative"]) == 2
    said = capsys.readouterr().err
    assert "unmapped: so so;" in said
    assert f"affect models import {given} --task sentiment3 --map LABEL_0=negative --map 'so so'=TARGET" in said
    assert "m" not in names()
    with pytest.raises(UsageError, match="no task; say which"):
        place_labels(("a", "b"), None, {}, given)
    assert place_labels(SENTIMENT, None, {}, given)[0] == "sentiment3"
    for wrong in (["x"], ["x=joy"], ["a=joy", "a=sad"]):
        with pytest.raises(UsageError, match="LABEL=TARGET"):
            pairs(wrong, ["a"])
    main(["models", "import", str(directory(tmp_path / "m", SENTIMENT))])
    assert main(["models", "import", str(given)]) == 2
    assert "there already" in capsys.readouterr().err
    assert main(["models", "import", str(given), "--name", "../up"]) == 2


def test_languages_said_at_the_import_decide_what_is_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    posts = tmp_path / "posts.jsonl"
    posts.write_text('{"text": "good food", "lang": "fi"}\n{"text": "good food", "lang": "de-AT"}\n')
    for words, null in (([], 0), (["--languages", "en, DE"], 1)):
        given = graph(tmp_path / f"lang{null}")
        assert main(["models", "import", str(given), *words]) == 0
        capsys.readouterr()
        assert main(["score", "--task", "sentiment3", "--engine", given.name, "--input", str(posts)]) == 0
        assert [json.loads(line)["scores"] is None for line in capsys.readouterr().out.splitlines()] == [
            bool(null),
            False,
        ]
    assert main(["models", "import", str(graph(tmp_path / "no")), "--languages", "english"]) == 2
    assert "ISO 639-1" in capsys.readouterr().err


def test_precision_files_of_a_model_with_other_heads_are_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "import", str(graph(tmp_path / "one"))]) == 0
    assert main(["models", "show", "one"]) == 0
    assert "precision float32;" in capsys.readouterr().out
    assert main(["models", "build", "one", "--out", str(tmp_path / "files")]) != 0
    assert "lacks their heads emtract7, bullbear3, disaster_message" in capsys.readouterr().err
    assert not (tmp_path / "files").exists()


def test_a_licence_for_research_is_kept_and_a_damaged_file_not_loaded(tmp_path: Path) -> None:
    assert main(["models", "import", str(graph(tmp_path / "lab")), "--research-only"]) == 0
    manifest = read_manifest("lab")
    assert manifest.research_only
    assert "research" in manifest.data[0].licence
    file = tmp_path / "models" / "imported" / "lab" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ManifestInvalid, match="sha256 expected"):
        load_text_model("lab")


def huge_header(d: Path) -> None:
    (d / "model.safetensors").write_bytes(struct.pack("<Q", 10 << 30) + b"{}")


def huge_tensor(d: Path) -> None:
    head = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4 << 40]}}).encode()
    (d / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 16)


def pickle(d: Path) -> None:
    (d / "model.safetensors").unlink()
    (d / "pytorch_model.bin").write_bytes(b"\x80\x02c__builtin__\neval\n.")


def tensor(d: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    found = load_file(d / "model.safetensors")
    found[name] = np.ascontiguousarray(change(found[name]))
    save_file(found, d / "model.safetensors")


def setting(d: Path, **other: object) -> None:
    (d / "config.json").write_text(json.dumps(config(SENTIMENT, **other)))


DIRECTORIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a header of 10 GB": (huge_header, "claims a header of 10737418240 bytes"),
    "a tensor of 4 TB": (huge_tensor, "SafetensorError"),
    "a pickle": (pickle, "is a pickle"),
    "vocabulary not UTF-8": (lambda d: (d / "vocab.txt").write_bytes(b"[UNK]\n\xff"), "expected UTF-8, got byte 0xff"),
    "config not JSON": (lambda d: (d / "config.json").write_text("[" * 100_000), "config.json"),
    "labels do not fit": (lambda d: tensor(d, "classifier.weight", lambda v: v[:2]), "classifier.weight expected"),
    "not a number": (lambda d: tensor(d, "classifier.bias", lambda v: v * np.float32(np.nan)), "not finite"),
    "sizes of a giant": (lambda d: setting(d, hidden_size=1 << 40, intermediate_size=1 << 50), "expected"),
    "a billion layers": (lambda d: setting(d, num_hidden_layers=1 << 30), "num_hidden_layers"),
    "another architecture": (
        lambda d: setting(d, architectures=["XLNetForSequenceClassification"]),
        "supported are BertForSequenceClassification",
    ),
    "more pieces than rows": (lambda d: (d / "vocab.txt").write_text("\n".join([*WORDS, "x"])), "word_embeddings"),
    "cased": (lambda d: (d / "tokenizer_config.json").write_text('{"do_lower_case": false}'), "keeps case"),
    "no classifier of texts": (lambda d: setting(d, problem_type="regression"), "problem_type"),
}


@pytest.mark.parametrize("case", DIRECTORIES)
def test_a_hostile_directory_is_refused(case: str, tmp_path: Path) -> None:
    spoil, said = DIRECTORIES[case]
    given = directory(tmp_path / "m", SENTIMENT)
    spoil(given)
    refused(given, said)


def outside(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../../etc/passwd")


def bomb(model: onnx.ModelProto) -> None:
    """A terabyte, asked for by a graph of a few bytes."""
    size = numpy_helper.from_array(np.array([1 << 38], np.int64), "size")
    model.graph.initializer.append(size)
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["size"], ["big"]))
    model.graph.node.insert(1, helper.make_node("ReduceSum", ["big"], ["total"], keepdims=0))
    model.graph.node[-1].output[0] = "almost"
    model.graph.node.append(helper.make_node("Add", ["almost", "total"], ["logits"]))


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["x"], body=body))


def contrib(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "com.microsoft"


def dims(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 31, 1 << 31])


GRAPHS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "external data": (outside, "'../../../etc/passwd'; external data is never followed"),
    "contrib operators": (contrib, "standard operators alone, got com.microsoft.Cast"),
    "an old opset": (lambda m: setattr(m.opset_import[0], "version", 9), "opset expected 13 to 21, got 9"),
    "a memory bomb": (bomb, "cannot be run within 4 GiB"),
    "a loop": (loop, "control flow"),
    "dims that lie": (dims, "cannot be run within"),
    "a fixed length": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 128),
        "of any length",
    ),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_a_hostile_graph_is_refused(case: str, tmp_path: Path) -> None:
    refused(graph(tmp_path / "m", GRAPHS[case][0]), GRAPHS[case][1])


def test_labels_that_do_not_count_and_noise_are_refused(tmp_path: Path) -> None:
    given = graph(tmp_path / "m")
    (given / "labels.txt").write_text("joy\nsadness\nanger\noptimism")
    refused(given, "expected 4 logits, one a label, got [3]")
    with pytest.raises(ImportRefused, match="no ONNX file"):
        foreign.parse(b"\xff" * 100, "noise")


def refused(given: Path, said: str) -> None:
    before = names()
    with pytest.raises(AffectError) as caught:
        run(given)
    assert said in str(caught.value)
    assert names() == before


def run(given: Path) -> None:
    parser = argparse.ArgumentParser()
    zoo.add(parser.add_subparsers(required=True))
    args = parser.parse_args(["models", "import", str(given)])
    args.run(args)
