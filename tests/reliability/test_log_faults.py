"""File systems that fail, in every way at every moment: only the statistics show it, and it heals."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import random
import resource
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from eventbus_subscribers.json_persister import JsonPersister

from eventbus import Event, EventBus, NodeCompleted, NodeProgress, SkillStarted, WorkflowStarted
from eventbus.history import EventLog

BUS_ID = "0123456789ab"
FUNCTIONS = [
    "open",
    "write",
    "fdatasync",
    "fsync",
    "mkdir",
    "stat",
    "fstat",
    "close",
    "listdir",
    "flock",
]
ERRORS = [errno.ENOSPC, errno.EIO, errno.EROFS]
BATCHES = 9


class Fault:
    """Makes a function fail in the persister's thread, from its n-th call on, once or until healed.

    Attributes:
        calls: The number of calls there.
    """

    def __init__(self, name: str, at: int, *, number: int | None, once: bool) -> None:
        self._name = name
        self._at = at
        self._number = number
        self._once = once
        self._module: Any = fcntl if name == "flock" else os
        self._real: Callable[..., Any] = getattr(self._module, name)
        self._healed = False
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, or fail."""
        if not threading.current_thread().name.startswith("eventbus-json-persister"):
            return self._real(*args, **kwargs)
        self.calls += 1
        if self._healed or self.calls < self._at or (self._once and self.calls > self._at):
            return self._real(*args, **kwargs)
        if self._name == "close":
            self._real(*args, **kwargs)  # a failed close has closed the descriptor
        if self._number is None:  # a short write, then a full disk
            if len(args[1]) > 1 and self.calls == self._at:
                return self._real(args[0], args[1][: len(args[1]) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise OSError(self._number, os.strerror(self._number))

    def heal(self) -> None:
        """Stop failing."""
        self._healed = True

    @contextmanager
    def planted(self) -> Generator[None]:
        """Replace the function with the failing one."""
        setattr(self._module, self._name, self)
        try:
            yield
        finally:
            setattr(self._module, self._name, self._real)


def event(number: int) -> NodeCompleted:
    # Every fourth event is a failure, so that it is synced at once.
    return NodeCompleted(workflow_id="w", node_id=BUS_ID, attempt=number, success=bool(number % 4))


async def store_through(fault: Fault, directory: Path) -> JsonPersister:
    """Store 9 batches of 2; the fault heals before the last three."""
    persister = JsonPersister(directory, segment_bytes=1_500, keep_bytes=1)
    await persister.start(cast("EventBus", SimpleNamespace(id=BUS_ID)))
    with fault.planted():
        for batch in range(BATCHES):
            if batch == BATCHES - 3:
                fault.heal()
            await persister.handle_batch([event(2 * batch + 1), event(2 * batch + 2)])
        assert not persister.statistics().degraded
        await persister.stop()
    return persister


def calls_without_fault(name: str, directory: Path) -> int:
    fault = Fault(name, 10**9, number=errno.EIO, once=True)
    anyio.run(store_through, fault, directory)
    return fault.calls


FAULTS = [
    *(
        pytest.param(name, number, id=f"{name} {errno.errorcode[number]}")
        for name in FUNCTIONS
        for number in ERRORS
    ),
    pytest.param("write", None, id="write short"),
]


@pytest.fixture
def quick_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory where syncing takes no time, if the system has one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as directory:
        yield Path(directory)


@pytest.mark.parametrize("once", [True, False], ids=["once", "until healed"])
@pytest.mark.parametrize(("name", "number"), FAULTS)
def test_every_call_fails(
    name: str, number: int | None, once: bool, quick_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A call to the file system that fails, once or for long, raises nothing, and all events are stored once.

    The file parses, and each cause is logged once.
    """
    calls = calls_without_fault(name, quick_disk / "without")
    assert calls
    for at in range(1, calls + 1):
        directory = quick_disk / str(at)
        caplog.clear()
        fault = Fault(name, at, number=number, once=once)
        persister = anyio.run(store_through, fault, directory)
        snapshot = persister.statistics()
        assert (snapshot.written, snapshot.pending, snapshot.lost) == (2 * BATCHES, 0, 0)
        log = EventLog(directory)
        assert [record.seq for record in log.records()] == list(range(1, 2 * BATCHES + 1)), (name, at)
        assert number is None or not log.damage()
        warnings = [record.getMessage().split(":")[0] for record in caplog.records]
        assert len(warnings) == len(set(warnings))


def test_a_warning_comes_again_after_20_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault that lasts is logged every 20 seconds, not at every attempt."""
    now = [1_000.0]
    monkeypatch.setattr("eventbus.delivery.rate_limited_log.time", SimpleNamespace(monotonic=lambda: now[0]))

    async def fail_for_a_minute() -> None:
        persister = JsonPersister(tmp_path)
        await persister.start(cast("EventBus", SimpleNamespace(id=BUS_ID)))
        for number in range(1, 61):
            now[0] += 1
            await persister.handle_batch([event(number)])
        fault.heal()
        await persister.stop()

    fault = Fault("write", 1, number=errno.ENOSPC, once=False)
    with fault.planted():
        anyio.run(fail_for_a_minute)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3


# Real file systems.


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that other users can reach; pytest's own is for its user only."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o711)
        yield place


@pytest.fixture
def small_disk(open_path: Path) -> Iterator[Path]:
    """A file system of 128 kB."""
    place = open_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k,mode=0777", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: a real full disk. Only root can mount a small one")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def in_another_process(
    function: Callable[[], None], *, uid: int | None = None, meanwhile: Callable[[], None] | None = None
) -> None:
    """Run a function in a forked process, as another user if asked to; it must not raise."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            function()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    if meanwhile is not None:
        meanwhile()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


USERS = [
    pytest.param(None, id="as it is"),
    pytest.param(
        65_534,
        id="unprivileged",
        marks=pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root can become another user"),
    ),
]


def progress(number: int) -> NodeProgress:
    return NodeProgress(workflow_id="w", node_id=BUS_ID, attempt=number, message="x" * 1_000)


@pytest.mark.parametrize("uid", USERS)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_full_disk(uid: int | None, small_disk: Path) -> None:
    """On a full disk every event is kept until there is room, then stored once, in order."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 60_000)
    ballast.chmod(0o666)

    def fill_and_heal() -> None:
        async def run() -> None:
            persister = JsonPersister(small_disk / "log", keep_bytes=0)
            await persister.start(cast("EventBus", SimpleNamespace(id=BUS_ID)))
            for number in range(1, 91, 3):
                await persister.handle_batch([progress(number + i) for i in range(3)])
            snapshot = persister.statistics()
            assert snapshot.degraded
            assert 0 < snapshot.written < 90
            assert snapshot.written + snapshot.pending == 90
            ballast.write_bytes(b"")
            await persister.handle_batch([progress(91)])
            assert not persister.statistics().degraded
            await persister.stop()

        anyio.run(run)

    in_another_process(fill_and_heal, uid=uid)
    assert [record.seq for record in EventLog(small_disk / "log").records()] == list(range(1, 92))


@pytest.mark.parametrize("uid", USERS)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_limit_to_the_size_of_files(uid: int | None, open_path: Path) -> None:
    """If files may not grow beyond a limit, segments end before it, and nothing is lost."""
    place = open_path / "any"
    place.mkdir(mode=0o777)
    place.chmod(0o777)

    def store() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

        async def run() -> None:
            persister = JsonPersister(place / "log", keep_bytes=0)
            await persister.start(cast("EventBus", SimpleNamespace(id=BUS_ID)))
            for number in range(1, 101):
                await persister.handle_batch([progress(number)])
            await persister.stop()
            assert persister.statistics().pending == 0

        anyio.run(run)

    in_another_process(store, uid=uid)
    assert [record.seq for record in EventLog(place / "log").records()] == list(range(1, 101))
    assert len(list((place / "log" / "events").iterdir())) >= 5


@pytest.mark.skipif(
    os.geteuid() != 0, reason="NOT TESTED: needs a user whom permissions stop, and one who changes them"
)
@pytest.mark.parametrize("what", ["read-only", "missing", "a file"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_directory_that_cannot_be_used(what: str, open_path: Path) -> None:
    """With a read-only or missing directory the persister is degraded until it can be used; then all is
    stored.
    """
    place = open_path / "place"
    if what == "read-only":
        place.mkdir(mode=0o555)
    elif what == "a file":
        place.write_bytes(b"mine")
    reading, writing = os.pipe()

    def store() -> None:
        async def run() -> None:
            persister = JsonPersister(place / "log")
            await persister.start(cast("EventBus", SimpleNamespace(id=BUS_ID)))
            await persister.handle_batch([event(1)])
            assert persister.statistics().degraded
            os.write(writing, b"x")
            with anyio.fail_after(60):
                while persister.statistics().pending:  # noqa: ASYNC110 - it heals by itself
                    await anyio.sleep(0.01)
            await persister.stop()

        anyio.run(run)

    def allow() -> None:
        os.read(reading, 1)
        if what == "a file":
            assert place.read_bytes() == b"mine"
            place.unlink()
        place.mkdir(exist_ok=True)
        place.chmod(0o777)

    in_another_process(store, uid=65_534, meanwhile=allow)
    os.close(reading)
    os.close(writing)
    assert [record.seq for record in EventLog(place / "log").records()] == [1]


@pytest.mark.skipif(
    os.geteuid() != 0, reason="NOT TESTED: needs a directory of another user, and one who may only cross it"
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_parent_that_may_be_crossed_but_not_listed(open_path: Path) -> None:
    """A log whose parent is another's, of mode 0711, or that is not listed itself, is written to."""
    (open_path / "log" / "events").mkdir(parents=True)
    for path, mode in ((open_path / "log", 0o711), (open_path / "log" / "events", 0o733)):
        path.chmod(mode)

    def store() -> None:
        async def run() -> None:
            persister = JsonPersister(open_path / "log")
            await persister.start(cast("EventBus", SimpleNamespace(id=BUS_ID)))
            await persister.handle_batch([event(1)])
            await persister.stop()
            assert persister.statistics().written == 1

        anyio.run(run)

    in_another_process(store, uid=65_534)
    assert [record.seq for record in EventLog(open_path / "log").records()] == [1]


# Names from outside.

PIECES = [
    "../",
    "/",
    "etc",
    "passwd",
    "\0",
    "\u202e",
    "x" * 300,
    "..",
    "~",
    "\n",
    "\r",
    " ",
    "%2e",
    "\ud800",
    "C:\\",
    "é",
]


@pytest.mark.parametrize(
    "count", [pytest.param(2_000, id="quick"), pytest.param(10_000, id="nightly", marks=pytest.mark.nightly)]
)
def test_hostile_names(count: int, seed: int, tmp_path: Path) -> None:
    """With 10,000 hostile names of buses, sessions, workflows, skills and nodes, no file leaves its
    directory.
    """
    rng = random.Random(seed)
    (tmp_path / "foreign").write_bytes(b"mine")
    hostile = ["".join(rng.choices(PIECES, k=rng.randrange(1, 6))) for _ in range(count)]

    async def store() -> None:
        for first in range(0, len(hostile), 100):
            names = hostile[first : first + 100]
            persister = JsonPersister(tmp_path / "log", keep_bytes=0)
            await persister.start(cast("EventBus", SimpleNamespace(id=names[0])))
            events: list[Event] = []
            for name in names:
                events.append(NodeCompleted(workflow_id=name, node_id=name, run_id=name, session_id=name))
                events.append(SkillStarted(skill_name=name, invocation_id=name, session_id=name))
                events.append(WorkflowStarted(workflow_id=name, nodes=(name,), session_id=name))
            await persister.handle_batch(events)
            await persister.stop()
            assert persister.statistics().written == 300

    before = {path for path in tmp_path.rglob("*") if "log" not in path.parts}
    anyio.run(store)
    assert {path for path in tmp_path.rglob("*") if "log" not in path.parts} == before
    found = list((tmp_path / "log").rglob("*"))
    assert len(found) == count // 100 + 1  # and the folder
    assert all(path.resolve().is_relative_to(tmp_path / "log" / "events") for path in found)
    assert (tmp_path / "foreign").read_bytes() == b"mine"
    assert sum(1 for _ in EventLog(tmp_path / "log").records()) == 3 * count
