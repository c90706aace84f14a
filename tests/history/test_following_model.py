"""_Following against a model: whatever happens to files and directories, each record comes once."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from eventbus.history import Damage
from eventbus.history.directory_watch import DirectoryWatch
from eventbus.history.reading import Record
from eventbus.history.selection import Selection
from tests.history.log_examples import START, append, header, progress, segment_path, stored
from tests.history.mounting import may_mount, mount, remount, unmount
from tests.history.real_writer import RealWriter

_BUSES = ("b0", "b1", "b2")
_ERRORS = (errno.EACCES, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ESTALE)
_ROUND = 45  # polls: each segment is looked at once in 40

buses = st.sampled_from(_BUSES)
choices = st.integers(0, 10**6)
Key = tuple[str, int]


@contextmanager
def failing(name: str, number: int) -> Generator[None]:
    """Let a function of `os` fail for each path of a log."""
    real: Callable[..., Any] = getattr(os, name)

    def fails(path: Any, *args: Any, **kwargs: Any) -> Any:
        if "events" in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, fails)
        yield


@contextmanager
def without_descriptors() -> Generator[None]:
    """Let this process open no file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Following(RuleBasedStateMachine):
    """A log to which anything happens, and one that follows it."""

    filters: ClassVar[dict[str, Any]] = {}
    sessions: ClassVar[tuple[str, ...]] = ("s0", "s1")
    real: ClassVar[RealWriter]

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="follow-"))
        if may_mount():
            mount(self.root)
        self.log, self.away = self.root / "log", self.root / "away"
        self.away.mkdir()
        self.numbers: Counter[str] = Counter()
        self.segments = 0
        self.current: dict[str, Path] = {}
        self.received: Counter[Key] = Counter()
        self.reported: list[Damage] = []
        self.watch = self.new_watch("beginning")

    def new_watch(self, start: Any) -> DirectoryWatch:
        watch = DirectoryWatch(self.log, start, Selection(**self.filters), True, self.reported.append)
        watch.begin()
        return watch

    # What is on the disk.

    def files(self) -> list[Path]:
        return sorted((self.log / "events").glob("*.jsonl")) if (self.log / "events").is_dir() else []

    def chosen(self, choice: int) -> Path | None:
        files = self.files()
        return files[choice % len(files)] if files else None

    def lines(self, bus: str, count: int) -> bytes:
        first = self.numbers[bus] + 1
        self.numbers[bus] += count
        return b"".join(self.line(number) for number in range(first, first + count))

    def line(self, number: int) -> bytes:
        return stored(number, progress(number, session_id=f"s{number % 2}"))

    def on_disk(self) -> set[Key]:
        found: set[Key] = set()
        for path in self.files():
            bus = path.stem.rpartition("-")[2]
            for line in path.read_bytes().split(b"\n"):
                try:
                    fields = json.loads(line)
                except ValueError:
                    continue
                if "seq" in fields and fields["session_id"] in self.sessions:
                    found.add((bus, fields["seq"]))
        return found

    # What writers do.

    @rule(bus=buses, count=st.integers(1, 4))
    def write(self, bus: str, count: int) -> None:
        path = self.current.get(bus)
        if path is None or not path.exists():
            self.rotate(bus)
            path = self.current[bus]
        if path.exists():
            content = path.read_bytes()
            append(path, b"" if not content or content.endswith(b"\n") else b"\n", self.lines(bus, count))

    @rule(bus=buses)
    def rotate(self, bus: str) -> None:
        self.segments += 1
        path = segment_path(self.log, bus, 1, START + timedelta(seconds=self.segments * 37 % 101))
        if not path.exists():
            path.write_bytes(header(bus, 1, self.numbers[bus] + 1))
            self.current[bus] = path

    @rule(bus=buses, cut=st.integers(1, 150), count=st.integers(1, 2), polls=st.integers(0, 2))
    def write_in_two_parts(self, bus: str, cut: int, count: int, polls: int) -> None:
        self.write(bus, count)
        path = self.current.get(bus)
        if path is not None and path.exists():
            line = self.lines(bus, 1)
            append(path, line[:cut])
            self.poll(polls)
            append(path, line[cut:])

    @rule(bus=buses, cut=st.integers(1, 100), nuls=st.booleans())
    def kill(self, bus: str, cut: int, nuls: bool) -> None:
        path = self.current.pop(bus, None)
        if path is not None and path.exists():
            append(path, self.lines(bus, 1)[:cut], bytes(100 * nuls))

    @rule(count=st.integers(1, 50), cut=st.integers(0, 8_000) | st.none())
    def write_really(self, count: int, cut: int | None) -> None:
        """Let another process persist events, and maybe be killed amid its write."""
        if not self.real.is_alive:
            self.segments += 1
            bus = f"{self.segments:012x}"
            self.numbers[bus] = 1_000_000  # the numbers below are the process's own
            self.real.start(self.log, bus)
        if cut is None:
            self.real.write(count)
        else:
            self.real.be_killed(count, cut)

    # What others do to files and directories.

    @precondition(lambda _: may_mount())
    @rule(bus=buses, polls=st.integers(0, 3), begins_again=st.booleans())
    def read_only_for_a_while(self, bus: str, polls: int, begins_again: bool) -> None:
        """Remount the file system read only, as the kernel does after an I/O error."""
        try:
            remount(self.root, read_only=True)
        except OSError:
            return  # a process has a file open for writing
        try:
            with suppress(OSError):
                self.write(bus, 1)
            if begins_again:
                self.begin_again()
            self.poll(polls)
        finally:
            remount(self.root, read_only=False)

    @precondition(lambda _: may_mount())
    @rule(what=st.sampled_from(["log", "events"]), polls=st.integers(0, 3))
    def hidden_by_a_mount(self, what: str, polls: int) -> None:
        """Mount another file system over the directory for a while."""
        directory = self.log if what == "log" else self.log / "events"
        if directory.is_dir():
            mount(directory)
            self.poll(polls)
            unmount(directory)

    @rule(choice=choices)
    def delete(self, choice: int) -> None:
        if path := self.chosen(choice):
            path.unlink()

    @rule(choice=choices)
    def move_away(self, choice: int) -> None:
        if path := self.chosen(choice):
            path.rename(self.away / path.name)

    @rule()
    def move_back(self) -> None:
        if (self.log / "events").is_dir():
            for path in self.away.iterdir():
                path.rename(self.log / "events" / path.name)

    @rule(what=st.sampled_from(["log", "events"]), polls=st.integers(0, 3))
    def directory_away(self, what: str, polls: int) -> None:
        directory = self.log if what == "log" else self.log / "events"
        if directory.is_dir():
            directory.rename(self.root / "hidden")
            self.poll(polls)
            (self.root / "hidden").rename(directory)

    @rule()
    def another_directory(self) -> None:
        """Put a copy of the directory in its place."""
        if (self.log / "events").is_dir():
            shutil.copytree(self.log / "events", self.root / "copy")
            shutil.rmtree(self.log / "events")
            (self.root / "copy").rename(self.log / "events")

    @rule()
    def become_a_link(self) -> None:
        """Let the log's directory be a link, and change where it leads."""
        self.segments += 1
        target = self.root / f"target{self.segments}"
        if self.log.is_symlink():
            shutil.copytree(self.log.resolve(), target)
            self.log.unlink()
        elif self.log.is_dir():
            self.log.rename(target)
        else:
            return
        self.log.symlink_to(target)

    @rule(choice=choices, more=st.integers(0, 2), in_place=st.booleans(), keep=st.booleans())
    def replace(self, choice: int, more: int, in_place: bool, keep: bool) -> None:
        """Replace a file by one that has all, or none, of its records and some new ones."""
        if path := self.chosen(choice):
            bus = path.stem.rpartition("-")[2]
            old = path.read_bytes()
            old = old[: old.rfind(b"\n") + 1] if keep else header(bus, 1, 1)
            content = old + self.lines(bus, more)
            if in_place:
                path.write_bytes(content)
            else:
                (self.root / "new").write_bytes(content)
                (self.root / "new").replace(path)

    @rule(choice=choices)
    def replace_by_as_long(self, choice: int) -> None:
        """Write other records of the same length in the place of a file's records."""
        if path := self.chosen(choice):
            bus = path.stem.rpartition("-")[2]
            lines = path.read_bytes().split(b"\n")
            for place, line in enumerate(lines):
                new = self.line(self.numbers[bus] + 1)[:-1]
                if line.startswith(b'{"seq"') and len(new) == len(line):
                    self.numbers[bus] += 1
                    lines[place] = new
            self.poll(_ROUND)  # as earlier lines are not compared if the file has also grown
            time.sleep(0.02)  # so that the file system's clock shows it
            path.write_bytes(b"\n".join(lines))
            self.poll(_ROUND)

    @rule(choice=choices, share=st.floats(0, 1))
    def truncate(self, choice: int, share: float) -> None:
        if path := self.chosen(choice):
            os.truncate(path, int(path.stat().st_size * share))

    @rule(choice=choices, link=st.booleans())
    def second_name(self, choice: int, link: bool) -> None:
        if path := self.chosen(choice):
            self.segments += 1
            start, _, rest = path.name.partition("-")
            second = path.with_name(f"{start[:9]}{self.segments % 10**6:06d}.000000Z-{rest}")
            if not second.exists():
                second.hardlink_to(path) if link else shutil.copy2(path, second)

    @rule(choice=choices, seconds=st.sampled_from([1, 2**31]))
    def touch(self, choice: int, seconds: int) -> None:
        if path := self.chosen(choice):
            os.utime(path, (seconds, seconds))

    # What the follower does.

    @rule(count=st.integers(1, 3))
    def poll(self, count: int) -> None:
        for _ in range(count):
            self.received.update(map(key_of, self.watch.poll()))
        assert not [key for key, times in self.received.items() if times > 1]

    @rule(name=st.sampled_from(["open", "stat", "listdir"]), error=st.sampled_from(_ERRORS))
    def poll_while_it_fails(self, name: str, error: int) -> None:
        with failing(name, error):
            self.poll(2)

    @rule()
    def poll_without_descriptors(self) -> None:
        with without_descriptors():
            self.poll(2)

    @rule()
    def begin_again(self) -> None:
        """Let another follower begin with the history."""
        self.received.clear()
        self.watch = self.new_watch("beginning")

    @rule()
    def catch_up(self) -> None:
        """Each record that is on the disk is received."""
        wanted = self.on_disk()
        for _ in range(4 * _ROUND):
            if not wanted - self.received.keys():
                break
            self.poll(1)
        assert not wanted - self.received.keys()

    def teardown(self) -> None:
        """At the end all is well again, so each record in the log was received, once."""
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.root)
            if may_mount():
                stack.callback(unmount, self.root)
            if self.real.is_alive:
                stack.callback(self.real.be_killed, 1, 0)
            self.move_back()
            self.catch_up()
            self.poll(_ROUND)


class _FilteredFollowing(_Following):
    """The same with a filter, which decodes matching lines only."""

    filters: ClassVar[dict[str, Any]] = {"session_id": "s1"}
    sessions: ClassVar[tuple[str, ...]] = ("s1",)


def key_of(record: Record) -> Key:
    return record.bus_id, record.seq


@pytest.fixture(autouse=True)
def _directories_are_listed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventbus.history.directory_watch._LIST_SECONDS", 0)


@pytest.mark.parametrize("machine", [_Following, _FilteredFollowing])
@pytest.mark.parametrize(
    "runs", [20, pytest.param(1_000, marks=pytest.mark.nightly)], ids=["quick", "nightly"]
)
def test_each_record_is_received_once_whatever_happens_to_the_files(
    machine: type[_Following], runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and directories are moved, replaced, truncated and unreadable: each record comes once."""
    if not may_mount():
        warnings.warn("mounting is not allowed here: the rules with mounts are left out", stacklevel=1)
    with RealWriter() as real:
        monkeypatch.setattr(_Following, "real", real, raising=False)
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=runs,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=[
                    HealthCheck.too_slow,
                    HealthCheck.data_too_large,
                    HealthCheck.filter_too_much,
                ],
            ),
        )
