"""`affect score` and `affect eval`: what the models say, and how good they are."""

from __future__ import annotations

import argparse
import gzip
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engines.artefacts import ZOO
from engines.base import F64, HeadSpec, TextModel
from engines.choice import CASCADE, choose
from engines.errors import UnknownModel
from engines.evaluate import Evaluation, calibration_error, evaluate, evaluate_values
from engines.load import load_text_model
from engines.probability import decided, millionths, probabilities
from engines.tasks import TEXT_TASKS, TaskSpec, task_spec
from operators.arrivals import language_code
from operators.calibrate import Calibrate
from operators.language import detect
from operators.ontology import PRIMARIES, Ontology
from operators.readable import readable
from operators.records import I32, MICRO
from stream.commands import media
from stream.errors import UsageError
from stream.replaying import model_settings, unscored
from stream.topology import load_engine

BATCH = 1024
"""Rows scored at a time: a few megabytes, and the engine is at its fastest."""
Text = tuple[object, str, str]
PARROTT = "parrott"
_BASE = "goemotions28"


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verbs."""
    score = subparsers.add_parser("score", help="score texts, faces or voices: calibrated probabilities out")
    known = ", ".join([*(t.task for t in TEXT_TASKS), *media.TASKS, PARROTT])
    score.add_argument("--task", required=True, help=f"one of {known}")
    score.add_argument(
        "--input",
        type=Path,
        help='texts: .jsonl[.gz] with {"id","text"} a line (default: standard input); faces: .npz with uint8 x'
        " [n,48,48], or a folder of .png, .jpg; voices: a folder of .wav, .flac",
    )
    score.add_argument("--engine", default="auto", help="auto (the best for the task), hashed, stub or a model")
    of_model = "settings whose [engine] and [endpoint] choose the model"
    score.add_argument("-c", "--config", default=None, metavar="FILE.toml", help=of_model)
    score.add_argument(
        "--languages",
        choices=("all", "trained"),
        default="trained",
        help="trained: null for texts in languages the head was not trained on; all: a number all the same (default:"
        " trained)",
    )
    score.set_defaults(run=run_score)
    measure = subparsers.add_parser("eval", help="measure a head on labelled rows, with a 95 %% interval")
    measure.add_argument("--task", required=True, help="a task, or all")
    measure.add_argument(
        "--data",
        type=Path,
        help="rows as in shared/data/text (.jsonl[.gz]) or shared/data/av; default: the public test half",
    )
    measure.add_argument("--engine", default="auto", help="as for score")
    measure.add_argument("-c", "--config", default=None, metavar="FILE.toml", help=of_model)
    measure.add_argument("--json", action="store_true", help="one JSON object a task")
    measure.set_defaults(run=run_eval)


def run_score(args: argparse.Namespace) -> int:
    """Score every line, in input order, a batch at a time."""
    if args.task in media.TASKS:
        _text_alone(args)
        return media.score(args)
    base = _BASE if args.task == PARROTT else args.task
    model = _load(args.engine, base, args.config)
    head = _head(model, base)
    calibrate = Calibrate()
    encoder = msgspec.json.Encoder()
    trained = () if args.languages == "all" else head.languages
    foreign: Counter[str] = Counter()
    abstained: Counter[str] = Counter()
    with _lines(args.input) as lines:
        rows = _texts(lines, _name(args.input))
        for given in _batches(tqdm(rows, unit="row", disable=not sys.stderr.isatty() or args.input is None)):
            unread = _unread(given, trained)
            foreign.update(str(row["lang"]) for row in unread.values())
            batch = [row for k, row in enumerate(given) if k not in unread]
            raw = model.logits([text for _, text, _ in batch])
            if head.kind == "regression":
                out: list[dict[str, object]] = _values(head, [key for key, _, _ in batch], raw.logits[base])
            else:
                micro = np.maximum(calibrate.calibrate(model.spec, raw, [base])[base], 0)  # -1: abstained, see below
                labels, values, chosen = (head.labels, micro, calibrate.decide(head, micro))
                if args.task == PARROTT:
                    labels, values, chosen = _parrott(head, micro)
                out = [
                    {"id": key, "scores": dict(zip(labels, row, strict=True)), "labels": names}
                    for (key, _, _), row, names in zip(batch, (values / MICRO).tolist(), chosen, strict=True)
                ]
            for k, why in raw.abstained.items():
                out[k] = {"id": batch[k][0], "scores": None, "labels": [], "reason": why}
            abstained.update(raw.abstained.values())
            for k, row in unread.items():  # in rising order: each lands where it stood
                out.insert(k, row)
            sys.stdout.buffer.write(encoder.encode_lines(out))
            sys.stdout.buffer.flush()
    if foreign:
        often = ", ".join(f"{lang} {n}" for lang, n in foreign.most_common(4))
        sys.stderr.write(
            f"{sum(foreign.values())} texts not scored: {base} was not trained on their language ({often})\n"
        )
    if abstained:
        sys.stderr.write(f"{unscored(abstained)}: their scores are null\n")
    return 0


def _text_alone(args: argparse.Namespace) -> None:
    """Faces and voices have their own models.

    Raises:
        UsageError: settings of a text model are given for one.
    """
    if args.config is not None:
        raise UsageError(f"-c {args.config}: its models read texts, {args.task} is of faces or voices; leave it out")


def _unread(batch: Sequence[Text], trained: tuple[str, ...]) -> dict[int, dict[str, object]]:
    """Place in the batch -> row without scores, of texts in languages (given, else detected) that are not of `trained`;
    no `trained`, none."""
    codes = [language_code(lang) or detect(text) for _, text, lang in batch] if trained else []
    return {
        k: {"id": batch[k][0], "scores": None, "labels": [], "reason": "language", "lang": code}
        for k, code in enumerate(codes)
        if not readable(code, trained)
    }


def run_eval(args: argparse.Namespace) -> int:
    """Print the task's metric with its interval, the published figure beside it, and a table per label."""
    if args.task == "all" and args.data is not None:
        raise UsageError("affect eval: --data names the rows of one task; give --task NAME, or drop --data")
    if args.task == "all" and args.config is not None:
        raise UsageError(f"affect eval: -c {args.config} is for one task (an endpoint's budget too); give --task NAME")
    if args.task in media.TASKS:
        _text_alone(args)
        _report(*media.measure(args), as_json=args.json)
        return 0
    found: list[tuple[str, Evaluation]] = []
    for spec, model in _measured(args.engine, args.task, args.config):
        path = args.data if args.data is not None else _public_half(spec)
        one, skipped, abstained = _evaluate(model, spec, path)
        found.append((model.spec.model_id, one))
        _report(one, f"{model.spec.model_id} on {path}", skipped, as_json=args.json)
        if abstained:
            sys.stderr.write(f"{unscored(abstained)}: counted as wrong, left out of the ECE\n")
    if args.task == "all" and not args.json:
        _print_table(found)
    return 0


def _report(found: Evaluation, where: str, skipped: int, *, as_json: bool) -> None:
    """Print what was measured; `where`: MODEL on DATA."""
    if not as_json:
        _print_evaluation(found, where, skipped)
        return
    model, data = where.split(" on ", 1)
    report = {"model": model, "data": data, "skipped": skipped, **msgspec.to_builtins(found)}
    print(msgspec.json.encode(report).decode(), flush=True)


def _measured(engine: str, task: str, config: str | None) -> Iterator[tuple[TaskSpec, TextModel]]:
    """The tasks to measure, each with the model that `affect score` takes for it; every model is loaded once."""
    if task != "all":
        yield task_spec(task), _load(engine, task, config)
        return
    loaded: dict[str, TextModel] = {}
    for spec in TEXT_TASKS:
        name = next(iter(choose((spec.task,), ZOO).models)) if engine == "auto" else engine
        key = f"{name} {spec.task}" if name == CASCADE else name  # which posts it passes on hangs on the heads asked
        if key not in loaded:
            loaded[key] = _load(name, spec.task)
        if loaded[key].spec.head(spec.task) is not None:
            yield spec, loaded[key]


def _load(engine: str, task: str, config: str | None = None) -> TextModel:
    """The model for one task: that of the settings `config`, else `engine`. A refused better one is said aloud, never
    passed over in silence."""
    if config is None:
        model = load_text_model(engine, threads=0, tasks=(task,))
    else:
        model = load_engine(model_settings(config, engine), (task,))
    if model.reason and sys.stderr.isatty():
        sys.stderr.write(f"engine {model.spec.model_id} ({model.reason})\n")
    return model


def _head(model: TextModel, task: str) -> HeadSpec:
    head = model.spec.head(task)
    if head is None:
        known = ", ".join([*(h.task for h in model.spec.heads), PARROTT])
        raise UnknownModel(f"task {task!r}: engine {model.spec.model_id!r} answers {known}")
    return head


def _values(head: HeadSpec, keys: list[object], values: F64) -> list[dict[str, object]]:
    """The rows of a regression: its values, in its own units, to 4 places; nothing is decided."""
    return [
        {"id": key, "scores": dict(zip(head.labels, row, strict=True)), "labels": []}
        for key, row in zip(keys, values.round(4).tolist(), strict=True)
    ]


def _parrott(head: HeadSpec, micro: I32) -> tuple[tuple[str, ...], I32, list[list[str]]]:
    """Six primaries and `none`, shares that sum to one; decided is the largest share (the first of equals)."""
    rolled = Ontology.load().roll_up(head.task, micro, head.labels)
    none = rolled.none + rolled.other
    values = np.concatenate([rolled.primary, none[:, None]], axis=1).astype(np.int32)
    labels = (*PRIMARIES, "none")
    return labels, values, [[labels[k]] for k in values.argmax(axis=1).tolist()]


@contextmanager
def _lines(path: Path | None) -> Iterator[Iterable[bytes]]:
    """The lines of a file (unpacked if `.gz`) or of standard input."""
    if path is None:
        yield sys.stdin.buffer
        return
    opener: Callable[[Path, Literal["rb"]], IO[bytes]] = gzip.open if path.suffix == ".gz" else open  # type: ignore[assignment]
    try:
        stream = opener(path, "rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; give a .jsonl or .jsonl.gz file") from error
    with stream:
        yield stream


def _rows(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, dict[str, object]]]:
    """(line number, row) of every line that is not blank."""
    decoder = msgspec.json.Decoder(dict[str, object])
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} line {number}: expected one JSON object a line: {error}") from error
    except (OSError, EOFError) as error:
        raise UsageError(f"{name} after line {number}: cannot unpack: {error}; is the file whole?") from error


def _texts(lines: Iterable[bytes], name: str) -> Iterator[Text]:
    """(id, text, language) of each row; the id is the row's number, from 0, where none is given, the language "" so."""
    for k, (number, row) in enumerate(_rows(lines, name)):
        text, lang = row.get("text"), row.get("lang")
        if not isinstance(text, str):
            raise UsageError(f'{name} line {number}: "text" expected a string, got {type(text).__name__}')
        key = row.get("id")
        yield (k if key is None else key), text, lang if isinstance(lang, str) else ""


def _batches(rows: Iterable[Text]) -> Iterator[list[Text]]:
    rest = iter(rows)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _name(path: Path | None) -> str:
    return "standard input" if path is None else str(path)


def _public_half(spec: TaskSpec) -> Path:
    root = os.environ.get("AFFECT_DATA")
    if not root:
        raise UsageError("give --data FILE, or set AFFECT_DATA to the folder that holds text/")
    return Path(root) / "text" / spec.data_set / "test_public.jsonl.gz"


def _evaluate(model: TextModel, spec: TaskSpec, path: Path) -> tuple[Evaluation, int, Counter[str]]:
    """Score the labelled rows of a file. Also the number of rows without a label of this task, and of those an endpoint
    gave no score, by reason: they have no label, which is wrong, and no probability to hold against the truth."""
    head = _head(model, spec.task)
    texts, truth, skipped = labelled(spec, path)
    raw = model.logits(texts)
    logits, absent = raw.logits[spec.task], list(raw.abstained)
    if spec.kind == "regression":
        return evaluate_values(spec, truth, logits), skipped, Counter()
    chosen, stated = decided(head, millionths(head, logits)), probabilities(head, logits)
    chosen[absent] = False
    found = evaluate(spec, truth, chosen, stated)
    if absent:
        there = np.setdiff1d(np.arange(len(texts)), absent)
        ece = calibration_error(spec, truth[there], stated[there]) if len(there) else None
        found = msgspec.structs.replace(found, ece=ece)
    return found, skipped, Counter(raw.abstained.values())


def labelled(spec: TaskSpec, path: Path) -> tuple[list[str], NDArray[np.float32], int]:
    """(texts, truth [rows, labels], rows left out) of the rows of a file that have a label of this task.

    Raises:
        UsageError: it cannot be read, a row is not as expected, or none has a label.
    """
    texts, truth, skipped = [], [], 0
    with _lines(path) as lines:
        for number, row in _rows(lines, str(path)):
            text, known = row.get("text"), spec.truth(row)
            if not isinstance(text, str):
                raise UsageError(f'{path} line {number}: "text" expected a string, got {type(text).__name__}')
            if known is None:
                skipped += 1
            else:
                texts.append(text)
                truth.append(known)
    if not texts:
        raise UsageError(
            f"{path}: no row has a label of {spec.task!r} in its field {spec.field!r} ({skipped} rows read)"
        )
    return texts, np.array(truth, np.float32), skipped


def _print_evaluation(found: Evaluation, where: str, skipped: int) -> None:
    print(f"{found.task}: {where}, {found.rows} rows" + (f" ({skipped} without a label left out)" if skipped else ""))
    for m in found.metrics:
        print(f"  {m.metric:15} {m.value:.4f}  95 % [{m.lo:.4f}, {m.hi:.4f}]")
    print(f"  published       {found.published}")
    if not found.labels:
        return
    print(f"  ECE             {'-' if found.ece is None else f'{found.ece:.4f}'}")
    width = max(len(s.label) for s in found.labels)
    print(f"  {'label':{width}}  precision  recall  F1     support")
    for s in found.labels:
        print(f"  {s.label:{width}}  {s.precision:9.3f}  {s.recall:6.3f}  {s.f1:.3f}  {s.support:7d}")


def _print_table(found: list[tuple[str, Evaluation]]) -> None:
    """One line a figure: what README and cards show."""
    print("| task | metric | value | 95 % interval | rows | ECE | model | published |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for model, one in found:
        ece = "-" if one.ece is None else f"{one.ece:.3f}"
        for m in one.metrics:
            cells = (one.task, m.metric, f"{m.value:.3f}", f"{m.lo:.3f} - {m.hi:.3f}", one.rows, ece, model)
            print(f"| {' | '.join(map(str, cells))} | {one.published} |")
