"""`affect signals export | asof | revisions`: what was published, as a file, as of a moment, or version by version."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from operators.window import parse_span
from stream.archive_base import Archive, PublishedRow, RowQuery, row_id_parts
from stream.archive_open import open_postgres
from stream.config import secret
from stream.connect import open_existing
from stream.errors import UsageError
from stream.export_base import RowFormat
from stream.exporting import FORMATS, Export, row_format
from stream.file_archive import FileArchive
from stream.log_archive import LogArchive
from stream.moments import moment
from stream.topology import build_codec

MOST_VERSIONS = 100_000


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verbs below `affect signals`."""
    export = kinds.add_parser("export", help="write rows to a Parquet, CSV or JSON lines file")
    _add_source(export)
    export.add_argument("--file", default=None, metavar="ROWS.jsonl[.gz]", help="rows of a replay, a sink or an export")
    export.add_argument("--out", required=True, metavar="FILE", help="written whole or not at all")
    export.add_argument("--format", choices=FORMATS, default=None, help="default: by the name of FILE")
    export.add_argument("--at", default=None, metavar="TIME", help="as it was known then")
    which = export.add_mutually_exclusive_group()
    which.add_argument("--newest", action="store_true", help="the newest row of each window (the default)")
    which.add_argument("--all-revisions", action="store_true", help="every published row, in order of publication")
    _add_filters(export)
    export.set_defaults(run=run_export)

    asof = kinds.add_parser("asof", help="what was known at a moment: no row published later is looked at")
    _add_source(asof)
    asof.add_argument("--at", required=True, metavar="TIME", help="ISO 8601 (naive = UTC) or epoch milliseconds")
    asof.add_argument("--limit", type=int, default=20, metavar="N", help="the N newest windows (default: 20)")
    asof.add_argument("--json", action="store_true", help="rows as JSON")
    _add_filters(asof)
    asof.set_defaults(run=run_asof)

    revisions = kinds.add_parser("revisions", help="every published version of a row, in order")
    revisions.add_argument("id", metavar="ID", help="signal|entity|window_start|window_end, as tail prints it")
    _add_source(revisions)
    revisions.add_argument("--json", action="store_true", help="rows as JSON")
    revisions.set_defaults(run=run_revisions)


def _add_source(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--log", default=None, metavar="URL", help="sqlite:///PATH or kafka://HOST:PORT of a run")
    kind.add_argument("--postgres", default=None, metavar="ENV", help="name of the environment variable with the "
                      "connection string of the tables `affect sink postgres` fills")  # fmt: skip


def _add_filters(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--signal", action="append", default=[], metavar="NAME", help="only this signal; may be repeated")
    kind.add_argument("--entity", default=None, metavar="NAME", help="only this entity, e.g. ticker:AAPL")
    kind.add_argument("--domain", default=None, metavar="NAME", help="only market, crisis or social")
    kind.add_argument("--window", default=None, metavar="SPAN", help="only windows of this size, e.g. 5m")
    kind.add_argument("--from", dest="since", default=None, metavar="TIME", help="windows that end then or later")
    kind.add_argument("--to", dest="until", default=None, metavar="TIME", help="windows that end before")


def run_export(args: argparse.Namespace) -> int:
    """`affect signals export`."""
    out = Path(args.out)
    name = args.format or out.suffix.removeprefix(".")
    if name not in FORMATS:
        raise UsageError(f"--format: expected one of {', '.join(FORMATS)}; the name {out.name} does not end in one")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: the folder {out.absolute().parent} does not exist")
    if out.is_dir():
        raise UsageError(f"--out {out}: expected a file, got a folder")
    return asyncio.run(_export(args, out, row_format(name)))


async def _export(args: argparse.Namespace, out: Path, form: RowFormat) -> int:
    async with _archive(args, args.file) as archive:
        count = await Export(archive, _query(args), form, args.all_revisions).to_file(out)
    sys.stderr.write(f"{count} rows -> {out}\n")
    return 0


def run_asof(args: argparse.Namespace) -> int:
    """`affect signals asof`."""
    if args.limit < 1:
        raise UsageError(f"--limit: expected at least 1, got {args.limit}")
    return asyncio.run(_asof(args))


async def _asof(args: argparse.Namespace) -> int:
    query = _query(args)
    rows: list[PublishedRow] = []
    async with _archive(args) as archive:
        reach = await archive.reach_ms()
        async for batch in archive.newest(query, latest_first=True):
            rows += batch[: args.limit - len(rows)]
            if len(rows) >= args.limit:
                break
    for row in reversed(rows):
        print(_line(row, args.json))
    if reach is None or (query.known_at_ms is not None and query.known_at_ms < reach):
        since = "holds no row" if reach is None else f"reaches back to {_utc(reach)}"
        sys.stderr.write(f"the {archive.source} {since}: what was known before cannot be told\n")
    return 0


def run_revisions(args: argparse.Namespace) -> int:
    """`affect signals revisions ID`."""
    try:
        row_id_parts(args.id)
    except ValueError as problem:
        raise UsageError(f"ID: {problem}") from None
    return asyncio.run(_revisions(args))


async def _revisions(args: argparse.Namespace) -> int:
    kept: deque[PublishedRow] = deque(maxlen=MOST_VERSIONS)
    async with _archive(args) as archive:
        async for batch in archive.versions(RowQuery(row_id=args.id)):
            kept.extend(batch)
    for row in kept:
        print(_line(row, args.json))
    if not kept:
        sys.stderr.write(f"the {archive.source} holds no version of {args.id}\n")
        return 1
    return 0


@asynccontextmanager
async def _archive(args: argparse.Namespace, file: str | None = None) -> AsyncIterator[Archive]:
    """The one source that was named."""
    if sum(given is not None for given in (args.log, args.postgres, file)) != 1:
        raise UsageError("give one source: --log URL or --postgres ENV (export: or --file ROWS.jsonl)")
    if file is not None:
        yield FileArchive(Path(file))
    elif args.postgres is not None:
        yield open_postgres(secret(args.postgres, "--postgres") or "")
    else:
        log = open_existing(args.log)
        try:
            yield LogArchive(log, build_codec())
        finally:
            await log.close()


def _query(args: argparse.Namespace) -> RowQuery:
    return RowQuery(
        signals=frozenset(args.signal),
        entity=args.entity,
        domain=args.domain,
        window_ms=None if args.window is None else parse_span(args.window),
        from_ms=_moment("--from", args.since),
        to_ms=_moment("--to", args.until),
        known_at_ms=_moment("--at", args.at),
    )


def _moment(option: str, text: str | None) -> int | None:
    try:
        return None if text is None else moment(text)
    except ValueError as problem:
        raise UsageError(f"{option}: {problem}") from None


def _line(row: PublishedRow, as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(row).decode()
    value = "null" if row.value is None else f"{row.value:+.3f} [{row.lo:+.3f}, {row.hi:+.3f}]"
    known = "unknown when" if row.recorded_ms is None else _utc(row.recorded_ms)
    return f"{known}  {row.status:11} r{row.revision} {value:26} n={row.n:<6} {row.row_id}"


def _utc(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03}"
