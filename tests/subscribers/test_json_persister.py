"""JsonPersister stores every event, and a failing file system has no effect on anything else."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from eventbus_subscribers import json_persister, segment, storage_policy
from eventbus_subscribers.json_persister import JsonPersister
from eventbus_subscribers.segment import Segment

from eventbus import (
    Event,
    EventBus,
    SkillCompleted,
    SubscriberError,
    UnknownEvent,
    WorkflowCompleted,
    decode,
    encode,
)
from tests.subscribers.examples import BUS_ID, STARTED, assert_hanging_is_harmless, bus_with, lost, node


def records(path: Path | None) -> list[dict[str, Any]]:
    """Return the records of a segment, without its header."""
    assert path is not None
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[1:-1]]


def names(path: Path | None) -> list[str]:
    return [record["node_id"] for record in records(path)]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that starts a persister; all are stopped at the end."""
    made: list[JsonPersister] = []

    async def start(**options: Any) -> JsonPersister:
        persister = JsonPersister(tmp_path / "log", **options)
        await persister.start(bus_with())
        made.append(persister)
        return persister

    yield start
    for persister in made:
        persister._thread.end()


class Faults:
    """Replaces a function of `os`, and makes it fail on demand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.real = getattr(os, name)
        self.error: int | None = None
        self.short: int | None = None
        self.calls = 0
        self.succeeded = threading.Event()
        monkeypatch.setattr(os, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, or fail."""
        self.calls += 1
        if self.short is not None and len(args) == 2:
            short, self.short = self.short, None
            return self.real(args[0], args[1][:short])
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        self.succeeded.set()
        return self.real(*args, **kwargs)


async def idle_work_after(fault: Faults, persister: JsonPersister) -> None:
    """Wait until the idle thread has called the function and has finished its work."""
    assert await anyio.to_thread.run_sync(fault.succeeded.wait, 5)
    await persister._thread.run(abs, 0)


# What is written.


def test_a_bus_writes_every_event_to_one_segment_of_its_own(tmp_path: Path) -> None:
    """A bus's events are in its one segment, in order, numbered from 1, and decode to equal events."""
    persister = JsonPersister(tmp_path)
    events = [node(f"n{i}", session_id="s") for i in range(1_000)]
    with EventBus([persister]) as bus:
        for event in events:
            assert bus.publish(event)
    assert persister.path is not None
    lines = persister.path.read_bytes().split(b"\n")[1:-1]
    assert [decode(line) for line in lines] == events
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 1_001))
    assert all(line.startswith(b'{"seq":') for line in lines)
    assert list((tmp_path / "events").iterdir()) == [persister.path]
    assert persister.path.name.endswith(f"-{os.getpid()}-{bus.id}.jsonl")


@pytest.mark.anyio
async def test_after_a_drain_the_events_are_in_the_file(tmp_path: Path) -> None:
    """After `drain` every event published before is in the file, while the bus is still running."""
    persister = JsonPersister(tmp_path)
    async with EventBus([persister]) as bus:
        for i in range(100):
            bus.publish(node(str(i)))
        assert await bus.drain()
        assert names(persister.path) == [str(i) for i in range(100)]


@pytest.mark.anyio
async def test_a_segment_begins_with_a_header(started: Any) -> None:
    """The first line describes the file, and decodes to an `UnknownEvent`."""
    persister = await started()
    await persister.handle_batch([node("a")])
    assert persister.path is not None
    header = decode(persister.path.read_bytes().split(b"\n")[0])
    assert isinstance(header, UnknownEvent)
    assert header.unknown_type == "segment_started"
    assert header.session_id is None
    assert header.fields["bus_id"] == BUS_ID
    assert header.fields["pid"] == os.getpid()
    assert header.fields["schema_version"] == segment.SCHEMA_VERSION
    assert header.fields["first_seq"] == 1
    assert header.fields["utc_offset_seconds"] % 60 == 0


@pytest.mark.anyio
async def test_a_loss_leaves_a_gap_of_its_size_in_the_numbers(started: Any) -> None:
    """Where n events were lost n numbers are missing, and the `EventsLost` itself is a record."""
    persister = await started()
    await persister.handle_batch([node("a"), lost(7), node("b")])
    assert [(each["seq"], each["event_type"]) for each in records(persister.path)] == [
        (1, "node_completed"),
        (9, "events_lost"),
        (10, "node_completed"),
    ]


@pytest.mark.anyio
async def test_the_number_comes_first_and_an_events_own_seq_is_kept(started: Any) -> None:
    """An event with a field `seq` keeps it; the record's number is the first field of the line."""

    class Numbered(Event, frozen=True, kw_only=True):
        seq: int

    persister = await started()
    await persister.handle_batch([node("a"), Numbered(seq=77)])
    line = persister.path.read_bytes().split(b"\n")[2]
    assert line.startswith(b'{"seq":2,')
    assert cast("Numbered", decode(line)).seq == 77


@pytest.mark.anyio
async def test_an_unused_bus_leaves_no_file(started: Any, tmp_path: Path) -> None:
    """Without an event nothing is created, not even the directory."""
    persister = await started()
    await persister.stop()
    assert persister.path is None
    assert not (tmp_path / "log").exists()


@pytest.mark.anyio
async def test_a_batch_takes_few_writes(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is written with one call for each 256 events."""
    persister = await started(sync="never")
    await persister.handle_batch([node("first")])
    writes = Faults(monkeypatch, "write")
    await persister.handle_batch([node(str(i)) for i in range(500)])
    assert writes.calls == 2


# Where it is written.


def put(kind: str, place: Path, foreign: Path) -> None:
    if kind == "symlink":
        place.symlink_to(foreign)
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.write_bytes(b"mine")


@pytest.mark.anyio
async def test_directories_are_0700_and_the_file_0600(started: Any, tmp_path: Path) -> None:
    """Only the owner may read the log, whatever the umask allows."""
    old = os.umask(0)
    try:
        persister = await started()
        await persister.handle_batch([node("a")])
    finally:
        os.umask(old)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "log", tmp_path / "log/events")]
    assert modes == [0o700, 0o700]
    assert stat.S_IMODE(persister.path.stat().st_mode) == 0o600


@pytest.mark.anyio
async def test_the_directory_is_looked_up_when_the_bus_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is EVENTBUS_DIR, otherwise .session-buddy; a later chdir changes nothing."""
    monkeypatch.chdir(tmp_path)
    persister = JsonPersister()
    await persister.start(bus_with())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await persister.handle_batch([node("a")])
    await persister.stop()
    assert persister.path is not None
    assert persister.path.parent == tmp_path / ".session-buddy" / "events"
    monkeypatch.setenv("EVENTBUS_DIR", str(tmp_path / "named"))
    await persister.start(bus_with())
    await persister.handle_batch([node("a")])
    await persister.stop()
    assert persister.path.parent == tmp_path / "named" / "events"


@pytest.mark.anyio
@pytest.mark.parametrize("identity", ["../../etc/x", "/etc/x", "a\0b", "x" * 300, "\u202e", ""])
async def test_no_name_from_outside_is_part_of_the_path(tmp_path: Path, identity: str) -> None:
    """The file stays in its directory, whatever the id of the bus."""
    persister = JsonPersister(tmp_path / "log")
    await persister.start(bus_with(identity))
    await persister.handle_batch([node("../../etc/x", session_id="/etc/passwd")])
    await persister.stop()
    assert list((tmp_path / "log" / "events").iterdir()) == [persister.path]


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["log", "log/events"])
@pytest.mark.parametrize("kind", ["symlink", "fifo", "file"])
async def test_an_obstacle_in_a_directorys_place_is_refused_until_it_is_gone(
    started: Any, tmp_path: Path, place: str, kind: str
) -> None:
    """A link, FIFO or file in a directory's place is refused and untouched; without it all is written."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    obstacle = tmp_path / place
    obstacle.parent.mkdir(exist_ok=True)
    put(kind, obstacle, foreign)
    persister = await started()
    with anyio.fail_after(5):
        await persister.handle_batch([node("a")])
    assert persister.statistics().degraded
    assert list(foreign.iterdir()) == []
    if kind == "file":
        assert obstacle.read_bytes() == b"mine"
    obstacle.unlink()
    await persister.handle_batch([node("b")])
    assert names(persister.path) == ["a", "b"]
    assert not persister.statistics().degraded


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["symlink", "fifo", "file"])
async def test_an_obstacle_in_the_segments_place_is_refused(
    started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A link, a FIFO without a reader or a file with the segment's name is neither opened nor touched."""
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"mine")
    real_open = os.open

    def plant(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_CREAT:
            place = tmp_path / "log" / "events" / path
            put(kind, place, foreign)
        return real_open(path, flags, *args, **kwargs)

    persister = await started()
    with monkeypatch.context() as patch, anyio.fail_after(5):
        patch.setattr(os, "open", plant)
        await persister.handle_batch([node("a")])
    assert persister.statistics().degraded
    assert foreign.read_bytes() == b"mine"
    await persister.handle_batch([node("b")])
    assert names(persister.path) == ["a", "b"]


@pytest.mark.anyio
async def test_a_directory_with_an_impossible_name_degrades(tmp_path: Path) -> None:
    """An impossible name is a failure like any other: nothing is raised."""
    persister = JsonPersister(f"{tmp_path}/a\0b")
    await persister.start(bus_with())
    await persister.handle_batch([node("a")])
    assert persister.statistics().degraded
    await persister.stop()


# When the file system fails.


@pytest.mark.anyio
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("function", ["open", "write", "mkdir"])
async def test_after_a_failure_heals_everything_is_stored_once(
    started: Any, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    """Records that cannot be written are kept, and written when it is possible, in order, once."""
    faults = Faults(monkeypatch, function)
    faults.error = number
    persister = await started()
    await persister.handle_batch([node("a"), node("b")])
    snapshot = persister.statistics()
    assert (snapshot.written, snapshot.pending, snapshot.degraded) == (0, 2, True)
    assert snapshot.failed >= 1
    faults.error = None
    await persister.handle_batch([node("c")])
    assert names(persister.path) == ["a", "b", "c"]
    snapshot = persister.statistics()
    assert (snapshot.written, snapshot.pending, snapshot.lost, snapshot.degraded) == (3, 0, 0, False)


@pytest.mark.anyio
async def test_it_tries_again_by_itself(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a failure has healed, pending records are written without a further event."""
    monkeypatch.setattr(storage_policy, "RETRY_SECONDS", 0.01)
    faults = Faults(monkeypatch, "write")
    faults.error = errno.ENOSPC
    persister = await started()
    await persister.handle_batch([node("a")])
    faults.error = None
    await idle_work_after(faults, persister)
    assert names(persister.path) == ["a"]


@pytest.mark.anyio
async def test_it_does_not_try_again_at_once(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed batch is tried once; the next attempt is made a second later, not when the thread is idle."""
    faults = Faults(monkeypatch, "write")
    faults.error = errno.ENOSPC
    persister = await started()
    await persister.handle_batch([node("a")])
    await persister._thread.run(abs, 0)  # the thread has been idle before this call
    assert faults.calls == 1


@pytest.mark.anyio
async def test_it_tries_again_when_it_stops(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pending records are tried once more at the end."""
    faults = Faults(monkeypatch, "write")
    faults.error = errno.ENOSPC
    persister = await started()
    await persister.handle_batch([node("a")])
    faults.error = None
    await persister.stop()
    assert names(persister.path) == ["a"]


@pytest.mark.anyio
async def test_a_line_torn_by_a_full_disk_stands_alone_and_is_written_whole(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a short write of any length, each record is in the file exactly once."""
    persister = await started(sync="never")
    await persister.handle_batch([node("first")])
    faults = Faults(monkeypatch, "write")
    batch = [node("a"), node("b")]
    size = len(b"".join(b'{"seq":10,' + json_line[1:] + b"\n" for json_line in map(encode, batch)))
    expected = ["first"]
    for short in range(size - 2):
        faults.short, faults.error = short, errno.ENOSPC
        await persister.handle_batch(batch)
        faults.short, faults.error = None, None
        await persister.handle_batch([node("healed")])
        expected += ["a", "b", "healed"]
    found: list[str] = []
    torn = 0
    for line in persister.path.read_bytes().split(b"\n")[1:-1]:
        try:
            found.append(json.loads(line)["node_id"])
        except ValueError:
            torn += 1
    assert found == expected
    assert 0 < torn <= size


@pytest.mark.anyio
async def test_a_short_write_is_continued(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short write without a failure after it tears no line."""
    persister = await started(sync="never")
    faults = Faults(monkeypatch, "write")
    faults.short = 5
    await persister.handle_batch([node("a"), node("b")])
    assert names(persister.path) == ["a", "b"]
    faults.short = 5
    await persister.handle_batch([node("c")])
    assert names(persister.path) == ["a", "b", "c"]


@pytest.mark.anyio
async def test_pending_records_are_bounded_and_the_oldest_are_lost(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond its bounds the oldest records are lost and counted, and their numbers are missing."""
    monkeypatch.setattr(json_persister, "MAX_PENDING_LINES", 10)
    faults = Faults(monkeypatch, "write")
    faults.error = errno.ENOSPC
    persister = await started()
    for i in range(25):
        await persister.handle_batch([node(str(i))])
    assert (persister.statistics().pending, persister.statistics().lost) == (10, 15)
    monkeypatch.setattr(json_persister, "MAX_PENDING_BYTES", 500)
    await persister.handle_batch([node("last")])
    assert persister.statistics().pending < 4
    faults.error = None
    await persister.stop()
    assert records(persister.path)[-1]["seq"] == 26
    snapshot = persister.statistics()
    assert snapshot.written + snapshot.lost == 26


@pytest.mark.anyio
async def test_one_warning_per_cause(
    started: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred failures with one cause log one warning; another cause logs another."""
    faults = Faults(monkeypatch, "write")
    persister = await started()
    for number in (errno.ENOSPC, errno.EIO):
        faults.error = number
        for _ in range(100):
            await persister.handle_batch([node("a")])
    warnings = [record for record in caplog.records if record.name == "eventbus.persister"]
    assert [record.levelno for record in warnings] == [logging.WARNING] * 2
    assert "No space left" in warnings[0].getMessage()
    faults.error = None


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["deleted", "renamed", "replaced", "directory deleted"])
async def test_a_replaced_file_is_noticed_at_the_next_batch(started: Any, tmp_path: Path, how: str) -> None:
    """When the segment is no longer in its place, another is begun; the file in its place is untouched."""
    persister = await started(sync="never")
    await persister.handle_batch([node("a")])
    first = persister.path
    if how == "renamed":
        first.rename(tmp_path / "rotated")
    else:
        first.unlink()
    if how == "replaced":
        first.write_bytes(b"mine")
    if how == "directory deleted":
        first.parent.rmdir()
    await persister.handle_batch([node("b")])
    assert persister.path != first
    assert names(persister.path) == ["b"]
    assert records(persister.path)[0]["seq"] == 2
    if how == "replaced":
        assert first.read_bytes() == b"mine"


# Syncing.


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("event", "at_once"),
    [
        (node("a", status="failed"), True),
        (WorkflowCompleted(workflow_id="ci"), True),
        (SkillCompleted(skill_name="x"), True),
        (node("a"), False),
        (STARTED, False),
    ],
)
async def test_failures_and_ends_are_synced_at_once(
    started: Any, monkeypatch: pytest.MonkeyPatch, event: Event, at_once: bool
) -> None:
    """Under "interval" only a failure or an end is synced before the batch is done."""
    syncs = Faults(monkeypatch, "fdatasync")
    persister = await started()
    await persister.handle_batch([node("first"), event])
    assert syncs.calls == at_once
    await persister.stop()
    assert syncs.calls == 1


@pytest.mark.anyio
async def test_the_interval_syncs_without_further_events(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written events are synced once, when the interval has passed."""
    monkeypatch.setattr(storage_policy, "SYNC_SECONDS", 0.01)
    syncs = Faults(monkeypatch, "fdatasync")
    persister = await started()
    await persister.handle_batch([node("a")])
    await idle_work_after(syncs, persister)
    assert syncs.calls == 1
    await persister.stop()
    assert syncs.calls == 1


@pytest.mark.anyio
@pytest.mark.parametrize(("policy", "calls"), [("always", 3), ("never", 0)])
async def test_the_other_policies(
    started: Any, monkeypatch: pytest.MonkeyPatch, policy: str, calls: int
) -> None:
    """Under "always" each batch is synced; under "never" none is, not even at the end."""
    syncs = Faults(monkeypatch, "fdatasync")
    persister = await started(sync=policy)
    for _ in range(3):
        await persister.handle_batch([node("a", status="failed")])
    await persister.stop()
    assert syncs.calls == calls


def test_an_unknown_policy_is_refused() -> None:
    """An unknown policy raises ValueError."""
    with pytest.raises(ValueError, match="interval"):
        JsonPersister(sync=cast("Any", "sometimes"))


@pytest.mark.anyio
async def test_a_failed_sync_is_not_repeated_on_the_same_file(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync another segment is begun, and syncing rests, so that few segments are made."""
    syncs = Faults(monkeypatch, "fdatasync")
    syncs.error = errno.EIO
    persister = await started(sync="always")
    await persister.handle_batch([node("a")])
    first = persister.path
    assert persister.statistics().degraded
    for name in "bcd":
        await persister.handle_batch([node(name)])
    assert syncs.calls == 1
    assert names(first) == ["a"]
    assert names(persister.path) == ["b", "c", "d"]


@pytest.mark.anyio
@pytest.mark.parametrize("policy", ["interval", "always"])
async def test_after_a_failed_sync_the_next_segment_is_synced_without_further_events(
    started: Any, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Events written while syncing rests after a failure are synced when the rest is over."""
    monkeypatch.setattr(storage_policy, "SYNC_REST_SECONDS", 0.1)
    monkeypatch.setattr(storage_policy, "SYNC_SECONDS", 0.01)
    syncs = Faults(monkeypatch, "fdatasync")
    syncs.error = errno.EIO
    persister = await started(sync=policy)
    await persister.handle_batch([node("a", status="failed")])
    syncs.error = None
    await persister.handle_batch([node("b", status="failed")])
    await idle_work_after(syncs, persister)
    assert syncs.calls == 2


# Isolation.


def test_a_hung_disk_blocks_neither_other_subscribers_nor_the_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a write hangs, other subscribers receive every event, and close returns at its deadline."""
    let_go = threading.Event()

    def hang(*_: Any) -> int:
        let_go.wait()
        raise OSError(errno.EIO, "gone")

    monkeypatch.setattr(os, "write", hang)
    assert_hanging_is_harmless(JsonPersister(tmp_path), let_go)


@pytest.mark.anyio
async def test_one_persister_serves_one_bus_at_a_time(started: Any) -> None:
    """It cannot be started for a second bus; once stopped, it writes the next bus's own segment."""
    persister = await started()
    with pytest.raises(SubscriberError):
        await persister.start(bus_with("fedcba987654"))
    await persister.handle_batch([node("a")])
    first = persister.path
    await persister.stop()
    await persister.start(bus_with("fedcba987654"))
    await persister.handle_batch([node("b")])
    await persister.stop()
    assert names(first) == ["a"]
    assert [(each["seq"], each["node_id"]) for each in records(persister.path)] == [(1, "b")]


@pytest.mark.anyio
async def test_in_another_process_another_segment_is_begun(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fork between batches the child does not write the parent's pending records."""
    faults = Faults(monkeypatch, "write")
    persister = await started()
    await persister.handle_batch([node("parent")])
    parents = persister.path
    faults.error = errno.ENOSPC
    await persister.handle_batch([node("pending")])
    faults.error = None
    pid = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: pid)
    await persister.handle_batch([node("child")])
    assert f"-{pid}-" in persister.path.name
    assert names(parents) == ["parent"]
    assert [(each["seq"], each["node_id"]) for each in records(persister.path)] == [(1, "child")]


def open_under(directory: Path) -> list[Path]:
    """Return what this process has open there; other tests' descriptors come and go meanwhile."""
    descriptors = Path("/proc/self/fd").iterdir()
    return [target for each in descriptors if (target := each.resolve()).is_relative_to(directory)]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Opening, failing to open, and closing leave no descriptor open."""
    for _ in range(3):
        Segment(tmp_path / "log", BUS_ID, 1).close()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "events").symlink_to(tmp_path)
    for place in (tmp_path / "file", tmp_path / "bad"):
        with pytest.raises(OSError, match="director"):
            Segment(place, BUS_ID, 1)
    assert open_under(tmp_path) == []


def test_a_line_without_only_its_line_feed_is_not_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short write that ends before the line feed has stored the record, which is not written again."""
    log = Segment(tmp_path, BUS_ID, 1)
    assert log.append(b"{}\n") == (3, None)
    faults = Faults(monkeypatch, "write")
    faults.short, faults.error = 4, errno.ENOSPC
    stored, error = log.append(b"[11]\n[22]\n")
    assert error is not None
    assert (stored, error.errno) == (5, errno.ENOSPC)
    faults.error = None
    assert log.append(b"[22]\n") == (5, None)
    log.close()
    assert log.path.read_bytes().split(b"\n")[1:] == [b"{}", b"[11]", b"[22]", b""]


UNCLOSED = """
import sys
from eventbus import EventBus, NodeCompleted
from eventbus_subscribers.json_persister import JsonPersister

bus = EventBus([JsonPersister(sys.argv[1])])
bus.__enter__()
for number in range(1000):
    bus.publish(NodeCompleted(workflow_id="ci", node_id=str(number)))
{end}
"""


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise RuntimeError", 1), ("raise KeyboardInterrupt", -2)]
)
def test_a_program_that_ends_without_closing_stores_everything(tmp_path: Path, end: str, code: int) -> None:
    """A program that ends in any way keeps its exit code, and every event is stored."""
    command = [sys.executable, "-c", UNCLOSED.format(end=end), str(tmp_path)]
    assert subprocess.run(command, timeout=30, capture_output=True, check=False).returncode == code
    (path,) = (tmp_path / "events").iterdir()
    assert names(path) == [str(number) for number in range(1_000)]


WRITER = """
import os, sys
from types import SimpleNamespace
import anyio
import anyio.to_thread
from eventbus import NodeCompleted
from eventbus_subscribers.json_persister import JsonPersister

async def main():
    persister = JsonPersister(sys.argv[1])
    await persister.start(SimpleNamespace(id="0123456789ab"))
    number = 0
    while True:
        batch = [NodeCompleted(workflow_id="ci", node_id=str(number + i)) for i in range(1, 8)]
        await persister.handle_batch(batch)
        number += len(batch)
        os.write(1, b"%d\\n" % number)

anyio.run(main)
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A killed writer's acknowledged records are in its file, of which only the last line may be torn."""
    for round_ in range(8):
        directory = tmp_path / str(round_)
        with subprocess.Popen([sys.executable, "-c", WRITER, directory], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(3 + round_ * 17):
                child.stdout.readline()
            child.send_signal(signal.SIGKILL)
            acknowledged = [*child.stdout.read().split()][-1:]
            child.wait()
        last = int(acknowledged[0]) if acknowledged else (3 + round_ * 17) * 7
        (path,) = (directory / "events").iterdir()
        stored = [int(name) for name in names(path)]
        assert stored == list(range(1, len(stored) + 1))
        assert len(stored) >= last
