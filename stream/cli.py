"""The command line: `affect VERB`. Each group of verbs is a file in `stream/commands`; this is their roof."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from importlib.metadata import version
from typing import NoReturn

from engines.errors import AffectError
from stream.commands import (
    audit,
    capture,
    dashboards,
    doctor,
    engine,
    letters,
    models,
    policy,
    research,
    run,
    signals,
    sink,
    topics,
    zoo,
)

EPILOG = """examples:
  affect demo                                            watch trained models turn a scenario into moving signals
  affect replay posts.jsonl.gz --domain market --out signals.jsonl
  affect score --task emtract7 < posts.jsonl
  affect signals tail --log sqlite:///affect.db
"""


class _Parser(argparse.ArgumentParser):
    """Wrong use ends in one clear line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message} (see {self.prog} --help)\n")
        raise SystemExit(2)


def build_parser() -> argparse.ArgumentParser:
    """The whole command tree."""
    parser = _Parser(
        prog="affect",
        description="Streaming affect analysis: posts in, rolling emotion signals out, each with its uncertainty.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"affect {version('affectstream')}")
    parser.add_argument("--verbose", action="store_true", help="log what the engine does to stderr")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for group in (
        run,
        models,
        zoo,
        engine,
        signals,
        letters,
        research,
        sink,
        topics,
        dashboards,
        policy,
        audit,
        capture,
        doctor,
    ):
        group.add(verbs)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0 done, 1 failed, 2 wrong use, 78 refused by the policy."""
    args = build_parser().parse_args(argv)
    # Rows and records live long and form no circles: looking for some every 700 of them took a seventh of a replay.
    gc.set_threshold(50_000, 20, 20)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        return int(args.run(args))
    except AffectError as error:
        sys.stderr.write(f"affect {args.verb}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): not a failure; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
