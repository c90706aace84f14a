"""Take records from a log that is followed."""

from __future__ import annotations

import anyio
import pytest

from eventbus.history import Record, Tail


async def take(following: Tail, count: int) -> list[Record]:
    """Return the next records; fail if they do not come."""
    records: list[Record] = []
    with anyio.fail_after(20):
        while len(records) < count:
            records.append(await anext(following))
    return records


async def take_numbers(following: Tail, count: int) -> list[int]:
    return [record.seq for record in await take(following, count)]


async def nothing_more(following: Tail, *, at_least: int = 5) -> bool:
    """Return True if this many polls of the log find no record."""
    poll = following._watch.poll
    polls = 0
    found: list[Record] = []

    def counting() -> list[Record]:
        nonlocal polls
        polls += 1
        return poll()

    async def read() -> None:
        found.append(await anext(following))

    with pytest.MonkeyPatch.context() as patch, anyio.fail_after(20):
        patch.setattr(following._watch, "poll", counting)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            while polls <= at_least and not found:  # noqa: ASYNC110 - no event reports a poll
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    return not found
