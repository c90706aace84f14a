"""JsonPersister under clocks that stand still or jump, limits, and descriptors that others close."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from eventbus_subscribers import blocks, json_persister, storage_policy
from eventbus_subscribers import segment as segment_module
from eventbus_subscribers.json_persister import JsonPersister

from eventbus import Event, NodeCompleted
from eventbus.history import EventLog
from tests.subscribers.examples import bus_with, node


class Frozen(datetime):
    """A clock as test libraries make it: a subclass of `datetime`."""

    moment = (2020, 1, 1)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Frozen:
        """Return the same moment each time."""
        return cls(*cls.moment, tzinfo=tz)


class Last(Frozen):
    """The last moment of all."""

    moment = (9999, 12, 31)


class First(Frozen):
    """The first one."""

    moment = (1, 1, 1)


def fail(number: int) -> Callable[..., Any]:
    def failing(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return failing


async def stored(directory: Path, batches: list[list[Event]], **options: Any) -> JsonPersister:
    persister = JsonPersister(directory, sync="never", keep_bytes=0, **options)
    await persister.start(bus_with())
    for batch in batches:
        await persister.handle_batch(batch)
    await persister.stop()
    return persister


def names(directory: Path) -> list[str]:
    return [
        record.event.node_id
        for record in EventLog(directory).records()
        if isinstance(record.event, NodeCompleted)
    ]


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "events").iterdir())


# Clocks.


@pytest.mark.parametrize("clock", [Frozen, Last, First])
def test_a_clock_that_stands_still_costs_no_record(
    clock: type[Frozen], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments begun at the same instant get names of their own, and readers find them all, in order."""
    monkeypatch.setattr(segment_module, "datetime", clock)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    monkeypatch.setattr(time, "monotonic", lambda: 1e3)
    monkeypatch.setattr(time, "perf_counter", lambda: 1e3)
    events = [node(str(i), timestamp=datetime(2020, 1, 1, tzinfo=UTC)) for i in range(100)]
    persister = anyio.run(lambda: stored(tmp_path, [[event] for event in events], segment_bytes=500))
    assert persister.statistics().written == 100
    assert len(segments(tmp_path)) == len(EventLog(tmp_path).segments()) == 100
    assert names(tmp_path) == [str(i) for i in range(100)]


def test_a_clock_that_raises_degrades_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that a test has replaced with one that fails is a failure like any other."""
    with monkeypatch.context() as patch:
        patch.setattr(segment_module, "datetime", None)
        persister = anyio.run(lambda: stored(tmp_path, [[node("a")]]))
    assert persister.statistics().lost == 1


def test_times_of_a_frozen_clock_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event whose time is of a subclass of `datetime` is stored with that time, alone or among others."""
    monkeypatch.setattr("eventbus.events.codec.datetime", Frozen)
    events: list[Event] = [
        node(str(i), timestamp=Frozen(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) for i in range(40)
    ]
    anyio.run(lambda: stored(tmp_path, [events, events[:1]]))
    times = {event.timestamp for event in EventLog(tmp_path)}
    assert times == {datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC)}
    assert len(names(tmp_path)) == 41


@pytest.mark.anyio
async def test_a_sync_does_not_wait_for_a_frozen_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written events are synced in time, although the program's monotonic clock stands still."""
    monkeypatch.setattr(time, "monotonic", lambda: 1e3)
    monkeypatch.setattr(storage_policy, "SYNC_SECONDS", 0.01)
    synced = anyio.Event()
    loop_token = anyio.lowlevel.current_token()

    def fdatasync(_: int) -> None:
        anyio.from_thread.run_sync(synced.set, token=loop_token)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    persister = JsonPersister(tmp_path)
    await persister.start(bus_with())
    await persister.handle_batch([node("a")])
    with anyio.fail_after(5):
        await synced.wait()
    monkeypatch.undo()
    await persister.stop()


def test_events_that_are_slow_to_scrub_are_written_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When scrubbing takes long, as beside a thread that computes, no event waits for hundreds of others."""
    seconds = itertools.count(0.0, 0.1)
    monkeypatch.setattr(json_persister, "_perf_counter", lambda: next(seconds))
    sizes: list[int] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        sizes.append(data.count(b"\n"))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    batch: list[Event] = [node(str(i)) for i in range(300)]
    persister = anyio.run(lambda: stored(tmp_path, [batch]))
    assert sizes == [1, 256, 44]  # the header, and what was begun before the time was known
    sizes.clear()
    anyio.run(lambda: stored(tmp_path, [batch[:10], batch]))
    assert max(sizes[2:]) == 2
    assert persister.statistics().written == 300


# The books.


def test_what_is_pending_at_the_end_is_lost_and_said_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Records that are not on disk when the persister stops count as lost, as the last line logged says."""
    monkeypatch.chdir(tmp_path)
    Path("f").touch()
    persister = anyio.run(lambda: stored(Path("f"), [[node(str(i)) for i in range(5)]]))
    books = persister.statistics()
    assert (books.written, books.pending, books.lost, books.degraded) == (0, 0, 5, True)
    assert caplog.messages[-1] == "not stored: 5 events (f: Not a directory)"
    assert caplog.records[-1].levelno == logging.ERROR


@pytest.mark.parametrize(
    ("function", "number"),
    [
        (function, number)
        for function in ("open", "mkdir", "write", "fstat")
        for number in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EROFS,
            errno.EIO,
            errno.ESTALE,
            errno.EFBIG,
            errno.EACCES,
        )
    ],
)
def test_the_books_close_wherever_it_fails(
    function: str,
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whichever call fails, written and lost records are all, and at most one file is left behind."""
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail(number))
        persister = anyio.run(lambda: stored(tmp_path / "log", [[node("a")], [node("b")]]))
    books = persister.statistics()
    assert (books.written, books.pending, books.lost) == (0, 0, 2)
    assert caplog.messages[-1] == f"not stored: 2 events ({tmp_path / 'log'}: {os.strerror(number)})"
    assert len(list(tmp_path.glob("log/events/*"))) <= 1


def test_nothing_is_said_when_everything_is_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A log without a loss says nothing at its end."""
    anyio.run(lambda: stored(tmp_path, [[node("a")]]))
    assert caplog.messages == []


def test_an_event_that_cannot_be_encoded_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other events of its batch are stored, and its number is missing."""
    encode: Callable[[list[Event]], bytes] = vars(blocks)["scrubbed_lines"]

    def encode_or_fail(events: list[Event]) -> bytes:
        if any(isinstance(each, NodeCompleted) and each.node_id == "bad" for each in events):
            raise RecursionError("too deep")
        return encode(events)

    monkeypatch.setattr(blocks, "scrubbed_lines", encode_or_fail)
    persister = anyio.run(lambda: stored(tmp_path, [[node("a"), node("bad"), node("b")]]))
    assert [record.seq for record in EventLog(tmp_path).records()] == [1, 3]
    assert names(tmp_path) == ["a", "b"]
    assert (persister.statistics().written, persister.statistics().lost) == (2, 1)
    assert caplog.messages[-1].startswith("not stored: 1 event (")


def test_what_a_hung_disk_still_holds_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the file system does not respond until the deadline of the close, that is said, with the count."""
    let_go, hangs = threading.Event(), threading.Event()

    def hang(*_: object) -> int:
        hangs.set()
        let_go.wait()
        raise OSError(errno.EIO, "gone")

    monkeypatch.setattr(os, "write", hang)

    async def run() -> None:
        persister = JsonPersister(tmp_path)
        await persister.start(bus_with())
        with anyio.move_on_after(0.01):
            await persister.handle_batch([node("a"), node("b")])
        await anyio.to_thread.run_sync(hangs.wait)
        with anyio.move_on_after(0.01):
            await persister.stop()

    anyio.run(run)
    assert caplog.messages[-1] == f"not stored: 2 events ({tmp_path}: the file system does not respond)"
    let_go.set()


# Limits.


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Return a function that limits the size of the files that this process writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [0, 100, 800])
def test_a_limit_below_one_record_makes_one_segment(
    limit: int, tmp_path: Path, file_size_limit: Callable[[int], None]
) -> None:
    """Where no segment may hold a record, one is left, not one for each attempt."""
    batches: list[list[Event]] = [[node(str(i), metadata={"text": "x " * 600})] for i in range(20)]
    file_size_limit(limit)
    persister = anyio.run(lambda: stored(tmp_path, batches))
    file_size_limit(resource.RLIM_INFINITY)
    assert persister.statistics().lost == 20
    assert len(segments(tmp_path)) == 1


def test_a_record_larger_than_a_file_may_be_costs_only_itself(
    tmp_path: Path, file_size_limit: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A record that fits into no segment is lost and counted; those before and behind it are stored."""
    large = node("large", metadata={"text": "x " * 5_000})
    file_size_limit(5_000)
    persister = anyio.run(lambda: stored(tmp_path, [[node("a"), large, node("b"), large], [node("c")]]))
    file_size_limit(resource.RLIM_INFINITY)
    assert names(tmp_path) == ["a", "b", "c"]
    assert (persister.statistics().written, persister.statistics().lost) == (3, 2)
    assert EventLog(tmp_path).damage() == []
    assert caplog.messages[-1].startswith("not stored: 2 events (")


def test_a_limit_that_is_raised_again_loses_nothing(
    tmp_path: Path, file_size_limit: Callable[[int], None]
) -> None:
    """Records that did not fit are stored once they do, in order."""

    async def run() -> None:
        persister = JsonPersister(tmp_path, sync="never")
        await persister.start(bus_with())
        file_size_limit(100)
        await persister.handle_batch([node("a")])
        file_size_limit(resource.RLIM_INFINITY)
        await persister.handle_batch([node("b")])
        await persister.stop()

    anyio.run(run)
    assert names(tmp_path) == ["a", "b"]


def descriptor_of(path: Path) -> int:
    (found,) = (int(each.name) for each in Path("/proc/self/fd").iterdir() if each.resolve() == path)
    return found


def test_a_descriptor_that_others_closed_is_not_written_to(tmp_path: Path) -> None:
    """If a program closes every descriptor and opens files of its own, those are not written to."""
    foreign = tmp_path / "foreign"

    async def run() -> int:
        persister = JsonPersister(tmp_path / "log", sync="never")
        await persister.start(bus_with())
        await persister.handle_batch([node("a")])
        assert persister.path is not None
        number = descriptor_of(persister.path)
        taken = os.open(foreign, os.O_RDWR | os.O_CREAT)
        os.dup2(taken, number)
        os.close(taken)
        await persister.handle_batch([node("b")])
        await persister.stop()
        return number

    descriptor = anyio.run(run)
    os.close(descriptor)  # it was not closed either
    assert foreign.read_bytes() == b""
    assert names(tmp_path / "log") == ["a", "b"]
