"""Whether a segment's writer is gone: by its lock, and where the lock says nothing, by what is known."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eventbus_subscribers import segment as segment_module
from eventbus_subscribers.segment import Segment

from eventbus.history import EventLog, is_being_written, pid_space, prune

DEAD = 4_194_305  # more than any process's id
NO_LOCKS = [errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS]
OTHER_ERRORS = [errno.EBADF, errno.EIO, errno.ESTALE, errno.EINTR]


def torn(directory: Path, *, days: float = 0, pid: int = DEAD, **header: Any) -> Path:
    """Make a segment, with a torn line, that was begun and last written to this many days ago."""
    start = datetime.now(UTC) - timedelta(days=days)
    path = directory / "events" / f"{start:%Y%m%dT%H%M%S.%fZ}-{pid}-0123456789ab.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode({"event_type": "segment_started", **header}) + b'\n{"seq":1,"ev')
    os.utime(path, (start.timestamp(), start.timestamp()))
    return path


def is_touched(directory: Path) -> tuple[bool, bool]:
    """Return whether pruning and repairing touch the log's only segment."""
    would_remove = bool(prune(directory, older_than=timedelta(0), max_bytes=0, dry_run=True))
    return would_remove, bool(EventLog(directory).repair())


def flock_fails(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Have the lock calls fail; the last error is repeated."""
    left = list(numbers)

    def fail(*_: object) -> None:
        number = left.pop(0) if len(left) > 1 else left[0]
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)


def flock_of_nfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have locks need descriptors as on NFS: an exclusive one for writing, a shared one for reading."""
    real: Callable[[int, int], None] = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        refused = os.O_RDONLY if operation & fcntl.LOCK_EX else os.O_WRONLY
        if access == refused:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("where", ["local", "NFS"])
def test_a_live_writer_is_never_touched(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer on any host is seen by its lock, whatever its process id and the modification time are."""
    if where == "NFS":
        flock_of_nfs(monkeypatch)
    path = torn(tmp_path, days=40)
    writer = os.open(path, os.O_WRONLY | os.O_APPEND)
    fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for modified_at in (0.0, 1.0, time.time() - 1e7):
        os.utime(path, (modified_at, modified_at))
        assert is_being_written(path)
        assert is_touched(tmp_path) == (False, False)
    os.close(writer)
    assert not is_being_written(path)
    assert is_touched(tmp_path) == (True, True)


_WRITER = """
import sys, time
from pathlib import Path
from eventbus_subscribers.segment import Segment
segment = Segment(Path(sys.argv[1]), "0123456789ab", 1)
print(segment.path, flush=True)
time.sleep(60)
"""


def test_a_killed_writer_is_gone_at_once(tmp_path: Path) -> None:
    """`is_being_written` is true for a live process, and false once it is killed or the file is removed."""
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        path = Path(writer.stdout.readline().strip())
        assert is_being_written(path)
        writer.kill()
    assert not is_being_written(path)
    path.unlink()
    assert not is_being_written(path)


def test_processes_that_look_at_once_do_not_take_each_other_for_the_writer(tmp_path: Path) -> None:
    """While one process looks for the writer, another one sees that there is none."""
    path = torn(tmp_path, days=2)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert not is_being_written(path)


def test_a_writer_gets_its_lock_although_a_process_is_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that looks for the writer just when it begins does not keep it from its lock."""
    real = fcntl.flock
    flock_fails(monkeypatch, errno.EAGAIN)

    def stop_looking(_: float) -> None:
        monkeypatch.setattr(fcntl, "flock", real)

    monkeypatch.setattr(segment_module, "_sleep", stop_looking)
    written = Segment(tmp_path, "0123456789ab", 1)
    assert is_being_written(written.path)
    written.close()


@pytest.mark.parametrize("number", NO_LOCKS)
def test_without_locks_a_writer_elsewhere_is_gone_after_a_day(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without locks, a process id of another host or container says nothing."""
    flock_fails(monkeypatch, number)
    assert is_touched(tmp_path / "new") == (False, False)
    torn(tmp_path / "new", days=0.9, pid_space="elsewhere")
    assert is_touched(tmp_path / "new") == (False, False)
    torn(tmp_path / "old", days=1.1, pid_space="elsewhere")
    assert is_touched(tmp_path / "old") == (True, True)


@pytest.mark.parametrize("number", NO_LOCKS + OTHER_ERRORS)
def test_without_locks_a_writer_here_is_known_by_its_process(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a writer of this host and container, the process decides, whatever the modification time is."""
    flock_fails(monkeypatch, number)
    path = torn(tmp_path / "dead", days=0.01, pid_space=pid_space())
    assert not is_being_written(path)
    assert is_touched(tmp_path / "dead") == (True, True)
    live = Segment(tmp_path / "live", "0123456789ab", 1)
    live.append(b'{"seq":1,"ev')
    for modified_at in (0.0, 1.0, time.time() + 1e7):
        os.utime(live.path, (modified_at, modified_at))
        assert is_being_written(live.path)
        assert is_touched(tmp_path / "live") == (False, False)
    live.close()


@pytest.mark.parametrize("number", OTHER_ERRORS)
def test_a_lock_call_that_fails_is_no_evidence(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where asking for the lock fails, a segment of another host is left alone, however old it is."""
    flock_fails(monkeypatch, number)
    path = torn(tmp_path, days=40, pid_space="elsewhere")
    assert is_being_written(path)
    assert is_touched(tmp_path) == (False, False)


def test_a_free_lock_means_nothing_if_the_writer_got_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer whose lock call failed says so in the header, and is known by its process."""
    with monkeypatch.context() as patch:
        flock_fails(patch, errno.ENOLCK)
        written = Segment(tmp_path, "0123456789ab", 1)
    written.append(b'{"seq":1,"ev')
    assert is_being_written(written.path)
    assert is_touched(tmp_path) == (False, False)
    written.close()


def test_what_cannot_be_opened_may_be_written(tmp_path: Path) -> None:
    """`is_being_written` never raises: a link or another kind of file counts as being written."""
    path = tmp_path / "20260101T000000.000000Z-1-b.jsonl"
    path.symlink_to(tmp_path)
    assert is_being_written(path)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """When the writer is gone, a child that it forked and that lives on is not taken for it."""
    written = Segment(tmp_path, "0123456789ab", 1)
    (reading, writing), (is_running, runs) = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writing)
        os.write(runs, b"x")
        os.read(reading, 1)
        os._exit(0)
    try:
        os.read(is_running, 1)
        assert is_being_written(written.path)
        written.close()
        assert not is_being_written(written.path)
    finally:
        for descriptor in (writing, reading, is_running, runs):
            os.close(descriptor)
        os.waitpid(pid, 0)
