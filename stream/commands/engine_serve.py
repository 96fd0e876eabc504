"""`affect engine serve | swap | status | keys`: one model for many workers, in a process of its own."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engines.artefacts import ZOO
from engines.choice import LIVE
from engines.desk import Terms
from engines.errors import EngineError
from engines.load import REMOTE, load_text_model
from engines.orders import Command, Outcome, Status
from engines.shelf import Shelf
from stream.errors import UsageError

if TYPE_CHECKING:
    from stream.engine_metrics import EngineMetrics

BIND = "tcp://127.0.0.1:8650"
CONTROL = "tcp://127.0.0.1:8651"
SWAP_S = 300.0

SERVE = """One process holds the model; any number of workers score through it. Worth it for a GPU that workers share,
or for one copy of a large model instead of one a worker; else workers are best off with a model of their own.

  affect engine serve --engine text-affect           on this machine, tcp://127.0.0.1:8650
  AFFECT_ENGINE__NAME=remote AFFECT_ENGINE__ADDRESS=tcp://127.0.0.1:8650 affect run -c deploy/config/market.toml
  affect engine status                               who asks, what waits, what was refused and why
  affect engine swap text-affect-2                   another version answers, no post lost or scored twice

Killed, stopped or slow: workers hold their partitions, say so in /readyz, and go on when it is back
(docs/engine-server.md). SIGTERM: answers the batch in hand, refuses what waits (its clients ask again). SIGHUP: reads
the model of the same name, and the keys, anew.
"""

KEYS = """Keys of a server that other machines may reach (CURVE: encrypted, and only clients with a known key get in).

  affect engine keys DIR --client worker1        makes DIR/server.key_secret once, lets worker1 in, and leaves in
                                                 DIR/for-worker1 what its machine gets: set engine.keys to that folder
  affect engine serve --bind tcp://0.0.0.0:8650 --curve-keys DIR
  rm DIR/clients/worker1.key; kill -HUP SERVER   locks worker1 out from its next connection on
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verbs."""
    raw = argparse.RawDescriptionHelpFormatter
    serve = verbs.add_parser(
        "serve", help="serve a model to workers of other processes", description=SERVE, formatter_class=raw
    )
    serve.add_argument("--engine", default=LIVE, metavar="NAME", help=f"model to serve (default: {LIVE})")
    serve.add_argument("--bind", default=BIND, metavar="ADDR", help=f"tcp://HOST:PORT or ipc://PATH (default: {BIND})")
    serve.add_argument(
        "--control", default=CONTROL, metavar="ADDR", help=f'for swap and status; "" = none (default: {CONTROL})'
    )
    serve.add_argument("--zoo", type=Path, default=ZOO, metavar="DIR", help="folder of models (default: the shipped)")
    serve.add_argument("--threads", type=int, default=1, help="rows an encoder scores at once; 0 = one a core")
    serve.add_argument("--max-batch", type=int, default=4096, help="rows at a time, or fewer if the model says so")
    serve.add_argument(
        "--max-wait-ms", type=float, default=0.0, help="wait so long for a batch to fill; 0.5-2 for a GPU (default: 0)"
    )
    serve.add_argument("--max-queue", type=int, default=65_536, help="rows that may wait (default: 65536)")
    serve.add_argument("--max-clients", type=int, default=1_024, help="clients served at once (default: 1024)")
    serve.add_argument("--max-connections", type=int, default=1_000, help="beyond: none is let in (default: 1000)")
    serve.add_argument("--credit", type=int, default=4, help="requests a client may have open (default: 4)")
    serve.add_argument("--curve-keys", type=Path, default=None, metavar="DIR", help="keys (see: affect engine keys)")
    serve.add_argument(
        "--shadow", default="", metavar="NAME", help="score a share with this model too, only to compare"
    )
    serve.add_argument("--shadow-share", type=float, default=0.1, help="share of the batches it scores (default: 0.1)")
    serve.add_argument(
        "--metrics", default="", metavar="HOST:PORT", help='where Prometheus scrapes /metrics (default: "" = nowhere)'
    )
    serve.set_defaults(run=run_serve)

    swap = verbs.add_parser("swap", help="let another model, or another version, of a running server answer")
    swap.add_argument("name", metavar="NAME", help="model; it must have the heads of the one that answers now")
    swap.set_defaults(run=run_swap)
    status = verbs.add_parser("status", help="how a running server does: clients, queue, counts, shadow")
    status.add_argument("--json", action="store_true", help="one JSON object")
    status.set_defaults(run=run_status)
    for verb in (swap, status):
        verb.add_argument("--control", default=CONTROL, metavar="ADDR", help=f"of the server (default: {CONTROL})")
    keys = verbs.add_parser(
        "keys", help="make the keys of a server and of a client", description=KEYS, formatter_class=raw
    )
    keys.add_argument("folder", type=Path, metavar="DIR", help="the server's folder of keys")
    keys.add_argument("--client", default="worker", metavar="NAME", help="who is let in (default: worker)")
    keys.set_defaults(run=run_keys)


def run_serve(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Prints where, once it listens."""
    _check(args)
    # pyzmq comes with an extra: the other verbs of the command line do without.
    from engines.serve import Server
    from engines.serve_front import Doors

    shelf = Shelf(
        partial(load_text_model, zoo=args.zoo, threads=args.threads), args.engine, args.shadow, args.shadow_share
    )
    terms = Terms(
        max_batch=args.max_batch,
        max_wait_s=args.max_wait_ms / 1000,
        max_rows=args.max_queue,
        max_clients=args.max_clients,
        credit=args.credit,
    )
    metrics = _metrics(args.metrics, lambda: server.newest) if args.metrics else None
    server = Server(Doors(args.bind, args.control, args.curve_keys, args.max_connections), terms, shelf)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    signal.signal(signal.SIGHUP, lambda *_: server.reload())
    why = f" ({shelf.model.reason})" if shelf.model.reason else ""
    print(
        f"engine server: {shelf.model.spec.model_id} on {shelf.model.spec.backend}{why} at {server.address}", flush=True
    )
    if server.control:
        print(f"commands: {server.control}", flush=True)
    if metrics is not None:
        print(f"metrics: {metrics.url}", flush=True)
    server.serve()
    if metrics is not None:
        metrics.close()
    return 0


def _metrics(address: str, status: Callable[[], Status]) -> EngineMetrics:
    from stream.engine_metrics import EngineMetrics  # prometheus_client: a tenth of a second that few runs need

    return EngineMetrics(address, status)


def _check(args: argparse.Namespace) -> None:
    if args.engine.startswith(REMOTE) or args.shadow.startswith(REMOTE):
        raise UsageError("--engine: a server serves a model of its own, not another server's")
    for name, least, most in (
        ("threads", 0, 256),
        ("max_batch", 1, 65_536),
        ("max_queue", 1, 10_000_000),
        ("max_clients", 1, 1_000_000),
        ("max_connections", 1, 1_000_000),
        ("credit", 1, 1_000),
        ("max_wait_ms", 0, 10_000),
        ("shadow_share", 0, 1),
    ):
        value = getattr(args, name)
        if not least <= value <= most:
            raise UsageError(f"--{name.replace('_', '-')}: expected {least} to {most}, got {value}")


def run_swap(args: argparse.Namespace) -> int:
    """Let another model answer; returns once it does."""
    outcome = _ordered(args.control, Command("swap", args.name), SWAP_S)
    print(f"{outcome.model} answers now")
    return 0


def run_status(args: argparse.Namespace) -> int:
    """Print how a server does."""
    status = _ordered(args.control, Command("status"), 10.0).status
    if status is None:
        raise EngineError(f"{args.control}: answered without a status; run the same release at both ends")
    if args.json:
        print(msgspec.json.encode(status).decode())
        return 0
    door = "" if status.accepting else ", as many as are let in"
    print(f"{status.model} on {status.backend} at {status.address}, up {status.uptime_s:.0f} s")
    print(f"clients {status.clients} ({status.connections} connections{door}), waiting {status.waiting},"
          f" running {status.running}")  # fmt: skip
    for name, count in sorted(status.counts.items()):
        print(f"  {name:24} {count}")
    for task, found in sorted(status.shadow.items()):
        print(f"shadow {status.shadow_model or '(gone)'} {task}: {found.rows} rows, {found.labels} decided otherwise,"
              f" mean |dp| {found.mean:.4f}, most {found.most:.4f}")  # fmt: skip
    return 0


def _ordered(control: str, command: Command, timeout_s: float) -> Outcome:
    from engines.remote import command as order  # pyzmq, as above

    try:
        outcome = msgspec.json.decode(order(control, msgspec.json.encode(command), timeout_s), type=Outcome)
    except msgspec.MsgspecError as error:
        raise EngineError(f"{control}: is no engine server: {error}") from error
    if outcome.error:
        raise EngineError(outcome.error)
    return outcome


def run_keys(args: argparse.Namespace) -> int:
    """Make keys, and say what goes where."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", args.client):
        raise UsageError(f"--client: expected a plain name of letters, digits, - and _, got {args.client!r}")
    from engines.remote import new_keys  # pyzmq, as above

    for path in new_keys(args.folder, args.client):
        print(path)
    sys.stderr.write(
        f"server: affect engine serve --curve-keys {args.folder} ...; client: copy {args.folder}/for-{args.client} to"
        " its machine over a safe way and set engine.keys to it\n"
    )
    return 0
