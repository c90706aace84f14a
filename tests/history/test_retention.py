"""Pruning removes old segments, but none that a process is writing."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import msgspec
import pytest
from eventbus_subscribers.json_persister import JsonPersister
from eventbus_subscribers.segment import Segment

from eventbus import EventBus, NodeProgress
from eventbus.history import PrunedSegment, prune
from eventbus.history.shipped import Shipped, shipped_file

DAY = 86_400.0
DEAD = 4_194_305  # more than any process's id


def segment(directory: Path, number: int, *, days: float, size: int = 100, pid: int = DEAD) -> Path:
    """Make a segment that was last written to this many days ago."""
    path = directory / "events" / f"202601{number:02}T000000.000000Z-{pid}-0123456789ab.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    written_at = time.time() - days * DAY
    os.utime(path, (written_at, written_at))
    return path


def left(directory: Path) -> list[Path]:
    return sorted((directory / "events").iterdir())


def test_by_age(tmp_path: Path) -> None:
    """Segments last written to longer ago than the limit are removed, oldest first; others stay."""
    paths = [segment(tmp_path, number, days=days) for number, days in enumerate([1, 40, 31, 29.9], start=1)]
    pruned = prune(tmp_path, older_than=timedelta(days=30))
    assert [each.path for each in pruned] == [paths[1], paths[2]]
    assert [round(each.age_seconds / DAY) for each in pruned] == [40, 31]
    assert left(tmp_path) == [paths[0], paths[3]]


def test_by_size(tmp_path: Path) -> None:
    """The oldest are removed until the others fit the limit, exactly or not."""
    paths = [segment(tmp_path, number, days=10 - number) for number in range(1, 6)]
    assert [each.path for each in prune(tmp_path, max_bytes=300)] == paths[:2]
    assert prune(tmp_path, max_bytes=300) == []
    assert left(tmp_path) == paths[2:]


def test_a_dry_run_removes_nothing(tmp_path: Path) -> None:
    """A dry run only returns the segments that would be removed."""
    paths = [segment(tmp_path, number, days=40) for number in (1, 2)]
    assert [each.path for each in prune(tmp_path, older_than=timedelta(days=30), dry_run=True)] == paths
    assert left(tmp_path) == paths


def test_without_a_limit_nothing_is_removed(tmp_path: Path) -> None:
    """Without an age or a size, or without a log, nothing is removed."""
    path = segment(tmp_path, 1, days=4_000)
    assert prune(tmp_path) == []
    assert prune(tmp_path / "missing", max_bytes=0) == []
    assert left(tmp_path) == [path]


def test_a_recent_segment_stays(tmp_path: Path) -> None:
    """A segment written to within the last minute stays, even above the limits."""
    path = segment(tmp_path, 1, days=0)
    assert prune(tmp_path, older_than=timedelta(0), max_bytes=0) == []
    assert left(tmp_path) == [path]


def test_nothing_else_is_touched(tmp_path: Path) -> None:
    """Other files, directories and links stay, and so do the targets of links."""
    old = segment(tmp_path, 1, days=40)
    foreign = tmp_path / "foreign"
    old.rename(foreign)
    old.symlink_to(foreign)
    others = [tmp_path / "events" / name for name in ("notes.jsonl", "x.partial", old.name + ".torn")]
    for other in others:
        other.write_bytes(b"mine")
    os.mkfifo(tmp_path / "events" / "20260102T000000.000000Z-1-0123456789ab.jsonl")
    (tmp_path / "events" / "20260103T000000.000000Z-1-0123456789ab.jsonl").mkdir()
    before = left(tmp_path)
    assert prune(tmp_path, older_than=timedelta(0), max_bytes=0) == []
    assert left(tmp_path) == before
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "events").symlink_to(tmp_path / "real")
    segment(tmp_path / "other", 1, days=40)
    (tmp_path / "other" / "events").rename(tmp_path / "real")
    assert prune(tmp_path / "linked", max_bytes=0) == []


WRITER = """
import sys, time
from pathlib import Path
from eventbus_subscribers.segment import Segment

segment = Segment(Path(sys.argv[1]), "0123456789ab", 1)
segment.append(b"{}\\n")
print(segment.path, flush=True)
time.sleep(60)
"""


def test_the_segment_of_a_live_writer_stays(tmp_path: Path) -> None:
    """A segment stays while another process writes it, however old it is, until that is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        path = Path(writer.stdout.readline().strip())
        path = path.rename(path.with_name(f"2025{path.name[4:]}"))
        os.utime(path, (0, 0))
        assert prune(tmp_path, older_than=timedelta(days=1), max_bytes=0) == []
        writer.kill()
    assert [each.path for each in prune(tmp_path, older_than=timedelta(days=1))] == [path]


def test_without_locks_a_live_process_with_that_id_keeps_a_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without locks, a segment stays while a process with the id in its name lives."""

    def refuse(*_: object) -> None:
        raise OSError(95, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    alive = segment(tmp_path, 1, days=40, pid=os.getpid())
    dead = segment(tmp_path, 2, days=40)
    assert [each.path for each in prune(tmp_path, older_than=timedelta(days=1))] == [dead]
    assert left(tmp_path) == [alive]


def test_a_segment_that_cannot_be_removed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that cannot be removed is not returned, and the next one is removed instead."""
    paths = [segment(tmp_path, number, days=10 - number) for number in range(1, 4)]
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path == paths[0]:
            raise PermissionError(1, "no")
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert [each.path for each in prune(tmp_path, max_bytes=200)] == [paths[1]]
    assert left(tmp_path) == [paths[0], paths[2]]


# By the persister.


async def store(directory: Path, *, batches: int = 1, **options: float) -> JsonPersister:
    persister = JsonPersister(directory, sync="never", **options)  # type: ignore[arg-type]
    await persister.start(cast("EventBus", SimpleNamespace(id="0123456789ab")))
    for number in range(batches):
        await persister.handle_batch([NodeProgress(workflow_id="w", node_id="n", attempt=number)])
    await persister.stop()
    return persister


def test_a_persister_prunes_when_it_begins_a_segment(tmp_path: Path) -> None:
    """A persister removes segments older than 30 days when it begins its first one."""
    old, young = segment(tmp_path, 1, days=31), segment(tmp_path, 2, days=29)
    persister = anyio.run(lambda: store(tmp_path))
    assert old not in left(tmp_path)
    assert young in left(tmp_path)
    assert persister.path in left(tmp_path)


def test_a_persister_prunes_with_every_segment(tmp_path: Path) -> None:
    """The limits are applied again with every segment."""
    first = [segment(tmp_path, number, days=40) for number in (1, 2)]
    anyio.run(lambda: store(tmp_path, batches=20, segment_bytes=1_000, keep_days=1))
    assert not set(first) & set(left(tmp_path))
    assert len(left(tmp_path)) > 5


def test_zero_keeps_everything(tmp_path: Path) -> None:
    """A limit of 0 is none."""
    old = segment(tmp_path, 1, days=4_000)
    anyio.run(lambda: store(tmp_path, batches=2, keep_days=0, keep_bytes=0))
    assert old in left(tmp_path)


@pytest.mark.parametrize("options", [{"segment_bytes": 0}, {"keep_days": -1}, {"keep_bytes": -1}])
def test_invalid_limits_are_rejected(options: dict[str, int]) -> None:
    """A negative limit, or a segment size of 0, raises ValueError."""
    with pytest.raises(ValueError, match="must"):
        JsonPersister(**options)  # type: ignore[arg-type]


def test_a_segment_is_locked_as_long_as_it_is_open(tmp_path: Path) -> None:
    """A segment is locked from its creation until it is closed."""
    log = Segment(tmp_path, "0123456789ab", 1)
    with log.path.open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        log.close()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Clocks and modification times.


def test_a_modification_time_before_the_start_is_not_believed(tmp_path: Path) -> None:
    """A time that an archive or an image set does not make a segment old: its last record decides."""
    persister = anyio.run(lambda: store(tmp_path))
    assert persister.path is not None
    os.utime(persister.path, (1, 1))
    renamed = persister.path.rename(persister.path.with_name(f"2025{persister.path.name[4:]}"))
    os.utime(renamed, (1, 1))
    before = left(tmp_path)
    anyio.run(lambda: store(tmp_path))
    assert set(before) < set(left(tmp_path))
    assert prune(tmp_path, older_than=timedelta(days=30)) == []


def test_with_equal_modification_times_the_first_begun_are_the_oldest(tmp_path: Path) -> None:
    """Segments unpacked with one modification time are removed in the order of their starts."""
    paths = [segment(tmp_path, number, days=20_000) for number in range(1, 5)]
    assert [each.path for each in prune(tmp_path, max_bytes=200)] == paths[:2]


def test_a_modification_time_in_the_future_keeps_a_segment(tmp_path: Path) -> None:
    """A segment written to on a clock that is ahead stays until this clock has passed that time."""
    path = segment(tmp_path, 1, days=-1)
    assert prune(tmp_path, older_than=timedelta(0), max_bytes=0) == []
    assert left(tmp_path) == [path]


def test_a_clock_that_a_test_has_set_ahead_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A persister counts ages on the clock of the file system, not on one that its program has replaced."""
    young = segment(tmp_path, 1, days=1)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    anyio.run(lambda: store(tmp_path))
    assert young in left(tmp_path)


def test_two_prunes_at_once_remove_each_segment_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that another process removes meanwhile are not returned, and are no error."""
    paths = [segment(tmp_path, number, days=40) for number in range(1, 4)]
    real = Path.unlink

    def unlink_twice(path: Path, missing_ok: bool = False) -> None:
        if path == paths[0]:
            monkeypatch.setattr(Path, "unlink", real)
            assert [each.path for each in prune(tmp_path, older_than=timedelta(days=1))] == paths
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_twice)
    assert prune(tmp_path, older_than=timedelta(days=1)) == []
    assert left(tmp_path) == []


def test_a_segment_whose_status_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that a server has lost costs only itself."""
    paths = [segment(tmp_path, number, days=40) for number in (1, 2)]
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path == paths[0]:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, follow_symlinks=follow_symlinks)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stat)
        pruned = prune(tmp_path, older_than=timedelta(days=1))
    assert [each.path for each in pruned] == [paths[1]]


# A log that is shipped to a server.


def shipped_log(directory: Path) -> tuple[Path, Path]:
    """Make a log of two old segments, of which only the first is shipped."""
    paths: list[Path] = []
    for number, days in ((1, 50), (2, 40)):
        path = segment(directory, number, days=days)
        lines = (b'{"event_type":"segment_started"}\n', b'{"seq":1,"event_type":"event"}\n')
        path.write_bytes(b"".join(lines))
        written_at = time.time() - days * DAY
        os.utime(path, (written_at, written_at))
        paths.append(path)
    shipped = Shipped(stream="EVENTBUS", segments={paths[0].name: paths[0].stat().st_size - 1})
    shipped_file(directory).write_bytes(msgspec.json.encode(shipped))
    return paths[0], paths[1]


def test_unshipped_segments_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A segment that is not shipped yet is kept up to twice the limits, and then removed with a warning."""
    first, second = shipped_log(tmp_path)
    kept: list[PrunedSegment] = []
    assert [each.path for each in prune(tmp_path, older_than=timedelta(days=30), on_kept=kept.append)] == [
        first
    ]
    assert [(each.path, each.is_shipped) for each in kept] == [(second, False)]
    assert [each.path for each in prune(tmp_path, max_bytes=40)] == []
    assert not caplog.records
    removed = prune(tmp_path, max_bytes=10)
    assert [(each.path, each.is_shipped) for each in removed] == [(second, False)]
    assert [each.getMessage() for each in caplog.records] == [
        f"removed 1 segments ({removed[0].size} bytes) that were not shipped yet"
    ]


def test_unshipped_segments_get_too_old(tmp_path: Path) -> None:
    """A segment that is not shipped is removed when it is twice as old as the limit."""
    shipped_log(tmp_path)
    assert len(prune(tmp_path, older_than=timedelta(days=21))) == 1
    assert [each.is_shipped for each in prune(tmp_path, older_than=timedelta(days=19))] == [False]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"stream":"EVENTBUS"}'])
def test_a_position_that_says_nothing(content: bytes, tmp_path: Path) -> None:
    """A position that is damaged, or says that nothing is shipped, spares all segments."""
    shipped_log(tmp_path)
    shipped_file(tmp_path).write_bytes(content)
    assert prune(tmp_path, older_than=timedelta(days=30)) == []
    shipped_file(tmp_path).unlink()
    assert len(prune(tmp_path, older_than=timedelta(days=30))) == 2


def test_a_segment_without_further_records_is_shipped(tmp_path: Path) -> None:
    """A torn tail, damage and a header are nothing to be shipped."""
    first, second = shipped_log(tmp_path)
    with second.open("r+b") as file:
        file.truncate(len(b'{"event_type":"segment_started"}\n'))
    with first.open("ab") as file:
        file.write(b'damage\n{"seq":2,"event_')
    written_at = time.time() - 40 * DAY
    for path in (first, second):
        os.utime(path, (written_at, written_at))
    assert len(prune(tmp_path, older_than=timedelta(days=30))) == 2
