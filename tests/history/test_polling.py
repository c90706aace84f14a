"""A reader that looks at a followed log at its own pace, or with timeouts."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from eventbus import StreamStateError
from eventbus.history import EventLog
from tests.history.followed import take_numbers
from tests.history.log_examples import Segments, append, stored


@pytest.mark.anyio
async def test_a_poll_returns_what_was_appended(tmp_path: Path, segment: Segments) -> None:
    """A poll returns what was appended since the last read, each record once, and does not wait for any."""
    path = segment(stored(1))
    async with EventLog(tmp_path).follow() as following:
        assert await following.poll() == []
        append(path, stored(2), stored(3))
        with anyio.fail_after(5):
            assert [record.seq for record in await following.poll()] == [2, 3]
        assert await following.poll() == []
        assert following.position == {path.name: path.stat().st_size - 1}
        append(path, stored(4))
        assert await take_numbers(following, 1) == [4]


@pytest.mark.anyio
async def test_a_poll_continues_after_a_cancelled_read(tmp_path: Path, segment: Segments) -> None:
    """What a cancelled read has found is returned by the next poll, and a poll does not wait for its end."""
    path = segment(b"")
    async with EventLog(tmp_path).follow() as following:
        with anyio.move_on_after(0.02):
            await anext(following)
        with anyio.fail_after(5):
            assert await following.poll() == []
        append(path, stored(1))
        seqs: list[int] = []
        with anyio.fail_after(5):
            while not seqs:
                seqs = [record.seq for record in await following.poll()]
        assert seqs == [1]


@pytest.mark.anyio
async def test_reads_with_timeouts_leave_nothing_waiting(tmp_path: Path, segment: Segments) -> None:
    """A reader whose reads time out a hundred times leaves no calls behind that wait for the thread."""
    path = segment(b"")
    async with EventLog(tmp_path).follow() as following:
        for _ in range(100):
            with anyio.move_on_after(0.001):
                await anext(following)
        with anyio.fail_after(10):
            while following._thread._calls.qsize() > 1:  # noqa: ASYNC110 - no event reports it
                await anyio.sleep(0.001)
        append(path, stored(1))
        assert await take_numbers(following, 1) == [1]


@pytest.mark.anyio
async def test_a_poll_needs_an_open_tail(tmp_path: Path) -> None:
    """Outside of its block a poll is refused, as any read is."""
    following = EventLog(tmp_path).follow()
    with pytest.raises(StreamStateError):
        await following.poll()
