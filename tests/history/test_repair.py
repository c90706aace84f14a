"""P8: repair moves a torn tail to another file and keeps all complete records; check finds problems."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus
from eventbus.history import EventLog, Repair
from tests.history.log_examples import START, Segments, append, progress, stored


def files(log: EventLog) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((log.directory / "events").iterdir())}


def kinds(log: EventLog) -> list[str]:
    return [problem.kind for problem in log.check()]


def no_fsync(_: int) -> None:
    """Do nothing."""


def test_a_segment_cut_at_any_byte_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut at any byte, it gives all its complete records; repairing twice gives the same bytes as once."""
    monkeypatch.setattr(os, "fsync", no_fsync)  # it takes most of the time, and changes no byte
    source = JsonPersister(tmp_path / "source")
    with EventBus([source]) as bus:
        for number in range(2):
            bus.publish(progress(number))
    assert source.path is not None
    content = source.path.read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    path = tmp_path / "cut" / "events" / source.path.name
    path.parent.mkdir(parents=True, mode=0o700)
    log = EventLog(tmp_path / "cut")
    for cut in range(len(content) + 1):
        for old in path.parent.iterdir():
            old.unlink()
        path.write_bytes(content[:cut])
        # The first line is the header; a record is complete without its line feed.
        complete = [progress(number) for number in range(2) if ends[number + 1] <= cut]
        assert list(log) == complete
        assert log.damage() == []
        log.repair()
        once = files(log)
        assert log.repair() == []
        assert files(log) == once
        assert list(log) == complete
        repaired = once.pop(path.name)
        assert repaired == b"" or repaired.endswith(b"\n")
        kept = b"".join(once.values())
        assert repaired + kept == content[:cut] + (b"\n" if not kept and cut in ends else b"")


def test_torn_bytes_are_kept_beside(tmp_path: Path, segment: Segments) -> None:
    """Torn bytes are kept in a file of mode 0600, named after their place, as the repair reports."""
    path = segment(stored(1) + b'{"seq":2,"ev')
    before = path.read_bytes()
    (repair,) = EventLog(tmp_path).repair()
    kept = path.with_name(f"{path.name}.{len(before) - 12}.torn")
    assert repair == Repair(path=path, offset=len(before) - 12, length=12, kept_in=kept)
    assert kept.read_bytes() == b'{"seq":2,"ev'
    assert path.read_bytes() == before[:-12]
    assert (kept.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o600, 0o600)
    assert kinds(EventLog(tmp_path)) == []


def test_another_tail_at_the_same_place_does_not_replace_the_first(tmp_path: Path, segment: Segments) -> None:
    """Bytes that were kept once are never overwritten."""
    path = segment(stored(1) + b"one")
    log = EventLog(tmp_path)
    for tail in (b"", b"two", b"two"):
        append(path, tail)
        log.repair()
    assert sorted(content for name, content in files(log).items() if name.endswith(".torn")) == [
        b"one",
        b"two",
    ]


def test_a_repair_that_was_interrupted_is_completed(
    tmp_path: Path, segment: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a repair is interrupted before cutting the tail off, repairing again keeps the tail once."""
    path = segment(stored(1) + b"torn")
    log = EventLog(tmp_path)

    def power_cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", power_cut)
        with pytest.raises(KeyboardInterrupt):
            log.repair()
    assert path.read_bytes().endswith(b"torn")
    assert len(log.repair()) == 1
    assert [content for name, content in files(log).items() if name.endswith(".torn")] == [b"torn"]


def test_a_tail_of_nuls_is_moved_whatever_its_length(tmp_path: Path, segment: Segments) -> None:
    """Megabytes of NULs, as a power failure may leave them, are a torn tail like any other."""
    path = segment(stored(1) + b"\0" * 3_000_000)
    (repair,) = EventLog(tmp_path).repair()
    assert repair.length == 3_000_000
    assert repair.kept_in is not None
    assert repair.kept_in.stat().st_size == 3_000_000
    assert path.read_bytes().endswith(stored(1))


def test_a_complete_record_in_the_tail_stays(tmp_path: Path, segment: Segments) -> None:
    """Only the bytes behind a complete record are moved, such as a broken line feed."""
    path = segment(stored(1) + stored(2)[:-1] + b"\x0b")
    (repair,) = EventLog(tmp_path).repair()
    assert repair.length == 1
    assert path.read_bytes().endswith(stored(1) + stored(2))
    assert EventLog(tmp_path).repair() == []


def test_damage_inside_a_segment_is_left_where_it_is(tmp_path: Path, segment: Segments) -> None:
    """A repair does not change damage inside a segment, as readers skip it."""
    segment(stored(1) + b"poison\n" + stored(3))
    log = EventLog(tmp_path)
    before = files(log)
    assert log.repair() == []
    assert files(log) == before


@pytest.mark.anyio
async def test_the_segment_of_a_live_writer_is_left_alone(tmp_path: Path) -> None:
    """An unfinished line is neither changed nor a problem while the bus that writes it is open."""
    persister = JsonPersister(tmp_path)
    log = EventLog(tmp_path)
    async with EventBus([persister]) as bus:
        bus.publish(progress(1))
        await bus.drain()
        assert persister.path is not None
        append(persister.path, b'{"seq":2,"ev')
        before = files(log)
        assert log.repair() == []
        assert files(log) == before
        assert kinds(log) == []
    assert kinds(log) == ["torn tail"]
    assert len(log.repair()) == 1
    assert kinds(log) == []


def test_a_process_id_that_is_used_again_does_not_block_repair(tmp_path: Path, segment: Segments) -> None:
    """The lock on the segment decides, not the process id in its name."""
    segment(stored(1) + b"torn", pid=os.getpid())
    segment(stored(1) + b"torn", pid=1, bus_id="b1")
    assert len(EventLog(tmp_path).repair()) == 2


def test_without_locks_a_live_process_with_that_id_counts_for_a_day(
    tmp_path: Path, segment: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without locks, a process with the id in the name blocks a repair for a day."""

    def no_locks(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    segment(stored(1) + b"torn", pid=dead.pid, bus_id="dead")
    path = segment(stored(1) + b"torn", pid=os.getpid(), bus_id="alive")
    log = EventLog(tmp_path)
    assert [repair.path.name.split("-")[2] for repair in log.repair()] == ["dead.jsonl"]
    yesterday = path.stat().st_mtime - 25 * 60 * 60
    os.utime(path, (yesterday, yesterday))
    assert [repair.path for repair in log.repair()] == [path]


_VICTIM = """
import sys
from eventbus import EventBus, NodeProgress
from eventbus_subscribers import JsonPersister
bus = EventBus([JsonPersister(sys.argv[1])])
with bus:
    for number in range(1_000_000_000):
        filling = {"fill": "x" * 5_000}
        bus.publish(NodeProgress(workflow_id="w", node_id="n", attempt=number, metadata=filling))
        if number == 100:
            print("going", flush=True)
"""


def test_a_killed_writer_leaves_a_log_that_is_repaired_at_once(tmp_path: Path) -> None:
    """The lock of a killed process is released, and all its complete records are read."""
    process = subprocess.Popen([sys.executable, "-c", _VICTIM, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    log = EventLog(tmp_path)
    while not log.segments() or log.segments()[0].size < 1_000_000:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    append(log.segments()[0].path, b'{"seq":')  # a kill rarely tears a line by itself
    before = [record.seq for record in log.records()]
    log.repair()
    assert [record.seq for record in log.records()] == before
    assert "torn tail" not in kinds(log)
    assert "damage" not in kinds(log)


def test_a_segment_that_is_removed_meanwhile_is_not_an_error(
    tmp_path: Path, segment: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention may remove a segment while the log is being repaired."""
    path = segment(stored(1) + b"torn")
    log = EventLog(tmp_path)
    listed = log.segments()
    path.unlink()
    monkeypatch.setattr(log, "segments", lambda: listed)
    assert log.repair() == []


# Checking.


def test_a_sound_log_has_no_problems(tmp_path: Path) -> None:
    """A log that a persister wrote has no problems; neither has a missing log."""
    assert kinds(EventLog(tmp_path / "nowhere")) == []
    with EventBus([JsonPersister(tmp_path / "log")]) as bus:
        for number in range(100):
            bus.publish(progress(number))
    assert kinds(EventLog(tmp_path / "log")) == []


def test_each_problem_has_its_place(tmp_path: Path, segment: Segments) -> None:
    """Permissions, foreign files, headers, damage, torn tails and gaps are found with path and offset."""
    path = segment(stored(1) + b"poison\n" + stored(5) + stored(4) + b"torn", with_header=False)
    path.chmod(0o644)
    (tmp_path / "events" / "notes.txt").write_text("mine")
    newer = segment(
        b'{"event_type":"segment_started","schema_version":2}\n' + stored(1), bus_id="b1", with_header=False
    )
    found = {(problem.kind, problem.path): problem for problem in EventLog(tmp_path).check()}
    assert sorted(found) == sorted(
        [
            ("permissions", path),
            ("foreign file", tmp_path / "events" / "notes.txt"),
            ("no header", path),
            ("damage", path),
            ("gap", path),
            ("torn tail", path),
            ("schema version", newer),
        ]
    )
    content = path.read_bytes()
    places = {kind: (problem.offset, problem.length) for (kind, _), problem in found.items()}
    assert places["damage"] == (content.index(b"poison"), 6)
    assert places["torn tail"] == (content.index(b"torn"), 4)
    assert places["gap"] == (content.index(b'{"seq":5'), len(stored(5)) - 1)
    assert found["gap", path].message == "3 numbers are missing, 1 are out of order, first before 5"
    assert found["permissions", path].message == "other users may use it: its mode is 0644, not 0600"


def test_a_gap_between_segments_is_found_and_retention_makes_none(tmp_path: Path, segment: Segments) -> None:
    """A segment must continue the numbers of the one before it; the first may begin with any number."""
    segment([progress(1)], first_seq=11)
    segment([progress(2)], first_seq=12, start=START + timedelta(hours=1))
    log = EventLog(tmp_path)
    assert kinds(log) == []
    segment([progress(3)], first_seq=14, start=START + timedelta(hours=2))
    assert kinds(log) == ["gap"]
