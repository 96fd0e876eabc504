"""An engine server in a thread of the test, and models that differ."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from engines.artefacts import pack_weights, read_manifest, read_weights, write_model
from engines.base import Recipe, TextModel
from engines.desk import Terms
from engines.errors import EngineAway
from engines.load import load_remote, load_text_model
from engines.serve import Server
from engines.serve_front import Doors
from engines.shelf import Shelf
from tests.engines import tiny

ANYWHERE = "tcp://127.0.0.1:*"
PATIENCE_S = 60.0
TERMS = Terms()
DOORS = Doors(ANYWHERE, ANYWHERE)


@contextmanager
def serving(shelf: Shelf | None = None, terms: Terms = TERMS, doors: Doors = DOORS) -> Iterator[Server]:
    """A server that runs; stopped, and all of it closed, at the end."""
    server = Server(doors, terms, Shelf(load_text_model, "stub") if shelf is None else shelf)
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            server.serve()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=serve, name="server")
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert failed == []


def until(holds: Callable[[], bool], what: str = "") -> None:
    """Wait until `holds`."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what or "waited in vain"
        time.sleep(0.01)


def connected(address: str, keys: Path | None = None, deadline_s: float = 60.0) -> TextModel:
    """The model served at `address`; on a busy machine a greeting may take longer than a client waits for it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return load_remote(address, keys, deadline_s)
        except EngineAway:
            if time.monotonic() > deadline:
                raise


def tiny_model() -> TextModel:
    """The tiny encoder with what makes it servable."""
    model = tiny.model()
    recipe = Recipe("pieces", max_tokens=24, vocabulary=tuple(tiny.VOCABULARY))
    return TextModel(model.featurize, model.engine, recipe=recipe)


def zoo_of_two(folder: Path) -> tuple[str, str]:
    """Two versions of the hashed bag in a zoo: `one` is the shipped one, `two` scores otherwise; their ids."""
    manifest = read_manifest("hashed-bag")
    weights = read_weights(manifest)
    ids = []
    for name, factor in (("one", 1.0), ("two", 1.25)):
        arrays = {**weights, "direct_scale": weights["direct_scale"].astype(np.float64) * factor}
        packed = pack_weights(arrays)
        digest = hashlib.sha256(packed).hexdigest()
        made = msgspec.structs.replace(manifest, name=name, sha256=digest, version=digest[:8])
        write_model(made, packed, "", folder)
        ids.append(made.spec.model_id)
    return ids[0], ids[1]
