"""The loops' manners: trying again, saying it once, and what ends a run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from stream import worker
from stream.errors import Fenced, LogCorrupt, LogUnavailable
from stream.worker import Pulse, steadily


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "RETRY_S", (0.001, 0.002))


def failing(times: int, seen: list[str | None], pulse: Pulse) -> Callable[[], Awaitable[str]]:
    async def act() -> str:
        seen.append(pulse.problem)
        if len(seen) <= times:
            raise LogUnavailable(f"away {len(seen)}")
        return "done"

    return act


@pytest.mark.parametrize("times", [0, 1, 7])
def test_it_tries_until_it_works_and_says_so_once(times: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "affect.worker")
    pulse, seen = Pulse(), []
    assert asyncio.run(steadily(failing(times, seen, pulse), pulse, "commit x")) == "done"
    assert len(seen) == times + 1
    assert seen == [None, *(f"commit x: away {k}" for k in range(1, times + 1))]
    assert pulse.problem is None
    said = [record.getMessage() for record in caplog.records]
    assert said == (["commit x: away 1; retrying", f"commit x: works again after {times} tries"] if times else [])


@pytest.mark.parametrize("error", [LogCorrupt("page 7"), Fenced("newer owner"), ValueError("a bug")])
def test_what_trying_does_not_cure_is_raised_at_once(error: Exception) -> None:
    pulse, calls = Pulse(), []

    async def act() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        asyncio.run(steadily(act, pulse, "read"))
    assert len(calls) == 1


def test_one_loop_that_recovers_does_not_hide_the_trouble_of_another() -> None:
    async def scene() -> None:
        pulse = Pulse()
        away = asyncio.Event()

        async def longer() -> None:
            if not away.is_set():
                raise LogUnavailable("still away")

        long = asyncio.create_task(steadily(longer, pulse, "commit a"))
        await steadily(failing(2, [], pulse), pulse, "commit b")
        assert pulse.problem == "commit a: still away"
        away.set()
        await long
        assert pulse.problem is None

    asyncio.run(scene())


def test_a_fenced_loop_only_loses_its_partition_and_any_other_error_ends_the_run() -> None:
    async def fail(error: Exception) -> None:
        raise error

    async def scene() -> None:
        pulse = Pulse()
        for error in (Fenced("newer owner"), LogCorrupt("page 7"), LogCorrupt("page 8")):
            task = asyncio.create_task(fail(error))
            task.add_done_callback(pulse.watch)
            await asyncio.wait({task})
            await asyncio.sleep(0)
            assert pulse.ended.is_set() == isinstance(error, LogCorrupt)
        assert str(pulse.error) == "page 7"
        assert pulse.problem is not None

    asyncio.run(scene())
