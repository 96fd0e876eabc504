"""The engine server: one model for many workers. Two threads: this one talks, the other scores.

    client --Ask--> queue (bounded, credit, deadlines) --batch--> model --> answers --> clients
                                                                   \\--> shadow: compared, never answered

Signs of life go out while the model works, so a client can tell a slow server from one that is gone.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from engines.base import F64, EngineSpec, ScoreBatch, TensorBatch, TextModel
from engines.desk import Desk, Refused, Terms, Waiting
from engines.errors import EngineError, EngineLost, ShapeMismatch
from engines.orders import Command, Outcome, Status
from engines.serve_front import Doors, Front, Heard
from engines.shelf import Foreign, Scored, Shelf
from engines.wire import (
    Answer,
    Ask,
    BadMessage,
    Beat,
    FromServer,
    Garbage,
    Ready,
    Refusal,
    WrongVersion,
    described,
    pack,
    read_ask,
)

log_ = logging.getLogger("affect.server")

BEAT_S: Final = 0.5
RELOAD_S: Final = 10.0
"""A model that was lost is loaded again at most so often."""
STOP_S: Final = 8.0


@dataclass(slots=True)
class _Done:
    """A batch that was scored, by which version."""

    chosen: list[Waiting]
    scored: list[Scored]
    spec: EngineSpec


@dataclass(slots=True)
class _Loaded:
    """A model that was loaded (or not) for a swap; `who` waits to hear of it."""

    name: str
    model: TextModel | EngineError
    who: bytes | None = None


@dataclass(slots=True)
class _Room:
    """The thread that scores, and what goes in and out of it."""

    shelf: Shelf
    wake: Callable[[], None]
    jobs: queue.SimpleQueue[list[Waiting] | _Loaded | None] = field(default_factory=queue.SimpleQueue)
    done: queue.SimpleQueue[_Done | _Loaded] = field(default_factory=queue.SimpleQueue)
    batches: int = 0
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self._work, name="scores", daemon=True)
        self.thread.start()

    @property
    def lives(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def _work(self) -> None:
        while (job := self.jobs.get()) is not None:
            if isinstance(job, _Loaded):
                if isinstance(job.model, TextModel):
                    self.shelf.put(job.name, job.model)
                self._tell(job)
                continue
            batches = [waiting.batch for waiting in job]
            scored = self.shelf.run(batches, [waiting.features for waiting in job])
            self.batches += 1
            self._tell(_Done(job, scored, self.shelf.model.spec))
            self.shelf.compare(batches, scored)

    def _tell(self, what: _Done | _Loaded) -> None:
        self.done.put(what)
        self.wake()


class Server:
    """Serves the model of `shelf` at `doors` until `stop`.

    Raises:
        Unusable: it cannot listen as it was told to.
    """

    def __init__(self, doors: Doors, terms: Terms, shelf: Shelf) -> None:
        most = min(terms.max_batch, terms.max_rows, shelf.model.spec.max_batch_size)
        self._terms = replace(terms, max_batch=most)
        self._desk = Desk(self._terms)
        self._shelf = shelf
        self._front = Front(doors)
        self._room = _Room(shelf, self._front.wake)
        self._stopping = False
        self._hang_up = False
        self._swapping = False
        self._in_room = 0
        self._started = time.monotonic()
        self._reloaded = -RELOAD_S
        self._announced = shelf.model.spec.model_id
        self.newest = self.status()

    @property
    def address(self) -> str:
        """Where clients find it."""
        return self._front.address

    @property
    def control(self) -> str:
        """Where commands are taken; "" = nowhere."""
        return self._front.control

    def stop(self) -> None:
        """Ask `serve` to finish the batch in hand and return. Any thread, or a signal handler."""
        self._stopping = True
        self._front.wake()

    def reload(self) -> None:
        """Load the same name (and the keys of clients) again: what lies there now answers. As `stop`."""
        self._hang_up = True
        self._front.wake()

    def serve(self) -> None:
        """Serve until `stop`; what is in the queue then is refused as `Stopping`, what is being scored is answered."""
        self._room.start()
        beat = 0.0
        try:
            while not self._stopping:
                now = time.monotonic()
                if now >= beat:
                    beat = now + BEAT_S
                    self._beat(now)
                for heard in self._front.hear(self._patience(now, beat)):
                    if heard.what == "client":
                        self._client(heard, time.monotonic())
                    else:
                        self._command(heard)
                self._collect()
                self._turn(time.monotonic())
                if not self._room.lives:
                    raise EngineLost("the thread that scores has ended, which it never should: start the server anew")
        finally:
            self._end()

    def _patience(self, now: float, beat: float) -> float:
        wait = self._desk.wait_s(now)
        if wait is None or not self._may_start:
            return beat - now
        return min(wait, beat - now)

    @property
    def _may_start(self) -> bool:
        """One batch is scored at a time; a second is ready behind it only if waiting could not make it fuller."""
        return self._in_room == 0 or (self._in_room == 1 and self._desk.full)

    def _turn(self, now: float) -> None:
        """Refuse what is too late, and hand the next batch to the model."""
        for late in self._desk.expired(now):
            self._refuse(late.client, late.number, "DeadlineExceeded", "it was not scored before its deadline")
        if self._hang_up:
            self._hang_up = False
            self._read_keys()
            self._swap(self._shelf.name, None)
        if self._shelf.lost and now - self._reloaded > RELOAD_S and not self._swapping:
            self._reloaded = now
            log_.warning("%s was lost: loading it again", self._shelf.name)
            self._swap(self._shelf.name, None)
        if self._may_start and self._desk.wait_s(now) == 0.0:
            for foreign in self._desk.foreign(self._shelf.features):
                self._wrong_features(foreign.client, foreign.number)
            chosen = self._desk.choose()
            if chosen:
                self._in_room += 1
                self._room.jobs.put(chosen)

    def _collect(self) -> None:
        """Answer what was scored; greet everybody with the model that was swapped in."""
        while True:
            try:
                done = self._room.done.get_nowait()
            except queue.Empty:
                return
            if isinstance(done, _Loaded):
                self._swapped(done)
                continue
            self._in_room -= 1
            self._announce(done.spec)
            for waiting, scored in zip(done.chosen, done.scored, strict=True):
                self._answer(waiting, scored, done.spec.model_id)

    def _announce(self, spec: EngineSpec) -> None:
        """Tell everybody what scores, before its first answer; an engine may also become a better one by itself."""
        if spec.model_id != self._announced:
            self._announced = spec.model_id
            for client in list(self._desk.clients):
                self._send(client, self._ready(spec, with_recipe=False))

    def _answer(self, waiting: Waiting, scored: Scored, model: str) -> None:
        if isinstance(scored, ScoreBatch):
            self._desk.answered(waiting)
            heads = described(scored.logits)
            self._send(waiting.client, Answer(waiting.number, model, scored.run_s, heads), list(scored.logits.values()))
            return
        error = "EngineLost"
        if isinstance(scored, ShapeMismatch | Foreign):
            error = "ShapeMismatch" if isinstance(scored, ShapeMismatch) else "WrongFeatures"
        self._desk.answered(waiting, error)
        self._refuse(waiting.client, waiting.number, error, str(scored))

    def _client(self, heard: Heard, now: float) -> None:
        """Take in one message of a client."""
        client = heard.who
        try:
            message, tensors = read_ask(heard.frames)
        except Garbage:
            self._front.counts["garbage"] += 1
            return
        except (WrongVersion, BadMessage) as error:
            self._front.counts["garbage"] += 1
            asked = error.asked if isinstance(error, BadMessage) else 0
            self._refuse(client, asked, type(error).__name__, str(error))
            return
        if isinstance(message, Ask):
            self._asked(client, message, TensorBatch(message.rows, tensors), now)
            return
        try:
            self._desk.greet(client, now)
        except Refused as error:
            self._refuse(client, 0, error.error, str(error))
            return
        self._send(client, self._ready(self._shelf.model.spec, with_recipe=True))

    def _asked(self, client: bytes, ask: Ask, batch: TensorBatch, now: float) -> None:
        if client not in self._desk.clients:  # it knew the server before this one, or was silent for long
            self._send(client, self._ready(self._shelf.model.spec, with_recipe=False))
        model = self._shelf.model.spec.model_id
        if ask.model and ask.model != model:
            self._desk.counts["asked"] += 1
            self._desk.refused("WrongModel")
            self._refuse(client, ask.number, "WrongModel", f"{ask.model} was asked for; {model} is served")
            return
        try:
            self._desk.take_in(client, ask.number, batch, ask.features, ask.deadline_ms / 1000, now)
        except Refused as error:
            self._refuse(client, ask.number, error.error, str(error))

    def _wrong_features(self, client: bytes, number: int) -> None:
        self._refuse(client, number, "WrongFeatures", "the tensors were made for another model; say hello again")

    def _ready(self, spec: EngineSpec, with_recipe: bool) -> Ready:
        shelf = self._shelf
        spec = msgspec.structs.replace(spec, max_batch_size=self._terms.max_batch)
        recipe = shelf.recipe if with_recipe else None
        return Ready(spec, shelf.features, self._terms.credit, int(BEAT_S * 1000), recipe)

    def _beat(self, now: float) -> None:
        self.newest = self.status()
        self._desk.forget_silent(now)
        beat = pack(Beat(len(self._desk.queue)))
        for client in list(self._desk.clients):
            if self._front.send(client, beat) == "gone":
                self._desk.lost(client)

    def _refuse(self, client: bytes, number: int, error: str, text: str) -> None:
        self._send(client, Refusal(number, error, text[:500]))

    def _send(self, client: bytes, message: FromServer, tensors: Sequence[F64] = ()) -> None:
        if self._front.send(client, pack(message, tensors)) == "gone":
            self._desk.lost(client)

    def _command(self, heard: Heard) -> None:
        try:
            command = msgspec.json.decode(heard.frames[-1] if heard.frames else b"", type=Command)
        except msgspec.MsgspecError as error:
            self._reply(heard.who, Outcome(f"no command: {error}"))
            return
        if command.op == "status":
            self._reply(heard.who, Outcome(model=self._shelf.model.spec.model_id, status=self.status()))
        elif command.op == "stop":
            self._reply(heard.who, Outcome(model=self._shelf.model.spec.model_id))
            self._stopping = True
        elif command.op == "swap" and command.name:
            self._swap(command.name, heard.who)
        else:
            self._reply(heard.who, Outcome(f"command {command.op!r}: expected status, stop, or swap with a name"))

    def _reply(self, who: bytes, outcome: Outcome) -> None:
        self._front.reply(who, msgspec.json.encode(outcome))

    def _swap(self, name: str, who: bytes | None) -> None:
        """Load `name` in a thread of its own; it answers from the batch after."""
        if self._swapping:
            if who is not None:
                self._reply(who, Outcome("another model is being loaded already; try again when it answers"))
            return
        self._swapping = True

        def load() -> None:
            try:
                model: TextModel | EngineError = self._shelf.prepare(name)
            except EngineError as error:
                model = error
            except Exception as error:  # whatever a library says of a broken file: the old model goes on
                model = EngineError(f"model {name!r}: {type(error).__name__}: {error}")
            self._room.jobs.put(_Loaded(name, model, who))

        threading.Thread(target=load, name="loads", daemon=True).start()

    def _swapped(self, loaded: _Loaded) -> None:
        self._swapping = False
        spec = self._shelf.model.spec
        if isinstance(loaded.model, EngineError):
            log_.warning("model %s is not taken: %s; %s goes on", loaded.name, loaded.model, spec.model_id)
            outcome = Outcome(str(loaded.model), spec.model_id)
        else:
            self._front.counts["swaps"] += 1
            log_.warning("%s answers now", spec.model_id)
            self._announce(spec)
            outcome = Outcome(model=spec.model_id)
        if loaded.who is not None:
            self._reply(loaded.who, outcome)

    def _read_keys(self) -> None:
        try:
            self._front.read_keys_again()
        except EngineError as error:
            log_.warning("client keys stay as they are: %s", error)

    def status(self) -> Status:
        """How it does just now."""
        shelf, desk, front = self._shelf, self._desk, self._front
        return Status(
            model=shelf.model.spec.model_id,
            name=shelf.name,
            backend=shelf.model.spec.backend,
            shadow_model="" if shelf.shadow is None else shelf.shadow.spec.model_id,
            address=front.address,
            clients=len(desk.clients),
            connections=front.connections,
            accepting=front.accepting,
            waiting=len(desk.queue),
            running=desk.running,
            counts={"batches": self._room.batches, **desk.counts, **front.counts},
            shadow=shelf.differences(),
            uptime_s=round(time.monotonic() - self._started, 3),
        )

    def _end(self) -> None:
        """Answer what is being scored, refuse what waits, close."""
        self._room.jobs.put(None)
        if self._room.thread is not None:
            self._room.thread.join(STOP_S)
        self._collect()
        for waiting in list(self._desk.queue):
            self._refuse(waiting.client, waiting.number, "Stopping", "the engine server stops")
        self._front.close()
        self._shelf.close()
