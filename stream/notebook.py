"""Five lines in a notebook: posts in, a data frame of signals out. Works inside a running event loop too."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import tempfile
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import msgspec

from engines.errors import MissingExtra
from operators.records import SignalRow
from stream.archive_base import PublishedRow, RowQuery
from stream.connect import open_log
from stream.errors import StreamError, UsageError
from stream.log_archive import LogArchive
from stream.moments import moment
from stream.replaying import replay as replay_log
from stream.replaying import replay_config
from stream.row_columns import MOMENTS
from stream.topology import build_codec

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
Posts = str | os.PathLike[str] | Iterable[Mapping[str, object]]


def replay(
    posts: Posts,
    domain: str,
    *,
    windows: Sequence[str] = ("1m", "5m", "1h", "24h"),
    engine: str = "auto",
    lateness: str = "24h",
    disorder: str = "30s",
) -> pd.DataFrame:
    """Turn posts into a data frame of signals: the final row of every window, sorted by signal, entity and window.

    Args:
        posts: file of JSON lines (plain or .gz), or posts as mappings with `id` and `text` (and `created_at`, ...).
        domain: `market`, `crisis` or `social`.
        windows: `size` or `size/hop`, such as `5m/1m`.
        engine: model to score with; `auto` = the best there is.
        lateness, disorder: how long windows wait for late posts; how far posts may be out of order unremarked.

    Returns:
        One column per field of `SignalRow`; times are timestamps (UTC); unknown is NaN, never 0.

    Raises:
        MissingExtra: pandas is not installed. UsageError: posts or settings that cannot be used.
    """
    _pandas()  # before the work, not after it
    return frame(rows(posts, domain, windows=windows, engine=engine, lateness=lateness, disorder=disorder))


def rows(
    posts: Posts,
    domain: str,
    *,
    windows: Sequence[str] = ("1m", "5m", "1h", "24h"),
    engine: str = "auto",
    lateness: str = "24h",
    disorder: str = "30s",
) -> Iterator[SignalRow]:
    """As `replay`, row by row; needs no pandas. The work is done before the first one."""
    if isinstance(windows, str):
        windows = windows.split(",")
    config = replay_config(domain, engine=engine, windows=windows, lateness=lateness, disorder=disorder)

    async def run(path: Path) -> Iterator[bytes]:
        log = open_log(config.log.url)
        try:
            found, status = await replay_log(log, config, path, bar=True)
        finally:
            await log.close()
        if not status.conserved:
            raise StreamError(f"replay: {status.consumed} posts came in, {status.accounted} are accounted for")
        return found.lines()

    with _file(posts) as path:
        lines = _finished(run(path))
    decode = msgspec.json.Decoder(SignalRow).decode
    return (decode(line) for line in lines)


def signals(
    log: str,
    *,
    signal: str | Iterable[str] = (),
    entity: str | None = None,
    window_ms: int | None = None,
    at: str | int | None = None,
    revisions: bool = False,
) -> pd.DataFrame:
    """A data frame of the signals on a log: the newest row of each window, or every published one.

    Args:
        log: `sqlite:///PATH` or `kafka://HOST:PORT` of a run.
        signal, entity, window_ms: only these.
        at: as it was known then: epoch milliseconds or ISO 8601 (naive = UTC); None = now.
        revisions: every published version, in the order of publication.

    Raises:
        MissingExtra: pandas is not installed. UsageError, LogError: there is no such log, or it cannot be read.
    """
    _pandas()
    try:
        known = None if at is None else moment(str(at))
    except ValueError as problem:
        raise UsageError(f"at: {problem}") from None
    names = frozenset([signal] if isinstance(signal, str) else signal)
    query = RowQuery(signals=names, entity=entity, window_ms=window_ms, known_at_ms=known)

    async def read() -> list[PublishedRow]:
        opened = open_log(log)
        try:
            archive = LogArchive(opened, build_codec())
            read = archive.versions if revisions else archive.newest
            return [row async for batch in read(query) for row in batch]
        finally:
            await opened.close()

    return frame(_finished(read()), PublishedRow)


def frame(given: Iterable[SignalRow], kind: type[SignalRow] = SignalRow) -> pd.DataFrame:
    """A data frame of rows: one column per field of `kind`, times as timestamps (UTC), None as NaN.

    Raises:
        MissingExtra: pandas is not installed.
    """
    pandas = _pandas()
    names = [f.name for f in msgspec.structs.fields(kind)]
    columns: dict[str, list[object]] = {name: [] for name in names}
    for row in given:
        for name, column in columns.items():
            column.append(getattr(row, name))
    made = pandas.DataFrame(columns, columns=names)
    for name in names:
        if name in MOMENTS:
            made[name] = pandas.to_datetime(made[name], unit="ms", utc=True)
    numbers = [f.name for f in msgspec.structs.fields(kind) if f.type in (float, float | None)]
    return made.astype(dict.fromkeys(numbers, "float64"))


def _pandas() -> ModuleType:
    try:
        import pandas as pd
    except ImportError as missing:
        raise MissingExtra(
            f"{missing.name} is not installed: pip install 'affectstream[notebook]' (rows() needs it not)"
        ) from None
    found: ModuleType = pd
    return found


def _finished(work: Coroutine[object, object, T]) -> T:
    """The result of `work`, run in a thread with an event loop of its own: a notebook has one running already.

    An interrupt (the stop button) ends the work, too.
    """
    loop = asyncio.new_event_loop()
    task: asyncio.Task[T] = loop.create_task(_awaited(work))
    over = threading.Event()

    def run() -> T:
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(task)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            over.set()

    with concurrent.futures.ThreadPoolExecutor(1, "affect-notebook") as pool:
        try:  # an interrupt may come while the thread is being made: the pool does not know it then
            return pool.submit(run).result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(task.cancel)
            over.wait(10)
            raise


async def _awaited(work: Coroutine[object, object, T]) -> T:
    return await work


@contextmanager
def _file(posts: Posts) -> Iterator[Path]:
    """A path to `posts`: their own, or that of a temporary file they are written to."""
    if isinstance(posts, str | os.PathLike):
        yield Path(posts)
        return
    with tempfile.TemporaryDirectory(prefix="affect-notebook-") as folder:
        path = Path(folder) / "posts.jsonl"
        with path.open("wb") as out:
            for number, post in enumerate(posts):
                if not isinstance(post, Mapping):
                    raise UsageError(f"posts: expected mappings, got {type(post).__name__} at {number}")
                out.write(msgspec.json.encode(dict(post)) + b"\n")
        yield path
