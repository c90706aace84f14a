"""A process that is killed while it writes the log: acknowledged records are in the log, whole.

The writers are forked by a small server, which saves starting an interpreter for each, and are killed with a
real signal. A writer reports over a pipe which records are stored, after the write returned.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import anyio
import msgspec
import pytest
from eventbus_subscribers.json_persister import JsonPersister
from eventbus_subscribers.segment import Segment

from eventbus import NodeProgress, encode
from eventbus.history import EventLog
from tests.vocabulary import TooSlowError, attempts

PATIENCE_SECONDS = 900

SERVER = """
import os, random, signal, struct, sys, time
from types import SimpleNamespace
import anyio
from eventbus import NodeProgress
from eventbus_subscribers.json_persister import JsonPersister

directory, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)

async def write(bus_id, acknowledgements, options, size):
    persister = JsonPersister(directory, keep_days=0, keep_bytes=0, **options)
    await persister.start(SimpleNamespace(id=bus_id))
    number = 0
    while True:
        batch = [
            NodeProgress(workflow_id="w", node_id=bus_id, attempt=number + i, message="x" * (i * size % 999))
            for i in range(1, 1 + size)
        ]
        await persister.handle_batch(batch)
        assert persister.statistics().pending == 0
        number += len(batch)
        os.write(acknowledgements, struct.pack("<Q", number))

def be_killed(bus_id):
    sync, segment_bytes = rng.choice(["never", "interval", "always"]), rng.choice([4_096, 2**24])
    options = {"sync": sync, "segment_bytes": segment_bytes}
    size, moment = rng.choice([1, 7, 600]), rng.random() * 0.03
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        try:
            anyio.run(write, bus_id, writing, options, size)
        finally:
            os._exit(1)
    os.close(writing)
    acknowledged = os.read(reading, 8)
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    while more := os.read(reading, 8 * 1_024):
        acknowledged += more
    os.close(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, "it ended by itself"
    print(bus_id, struct.unpack("<Q", acknowledged[-8:])[0], flush=True)

for kill in range(kills):
    be_killed(f"{os.getpid():06x}{kill:06x}")
"""


def written_by(log: EventLog) -> dict[str, list[int]]:
    """Return the numbers of the events in a log, by writer."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for record in log.records():
        assert isinstance(record.event, NodeProgress)
        assert record.event.node_id == record.bus_id
        assert record.event.attempt == record.seq
        found[record.bus_id].append(record.seq)
    return found


def torn_places(log: EventLog) -> Iterator[tuple[Path, int, int]]:
    for damage in log.damage():
        yield damage.path, damage.offset, damage.length


@pytest.mark.parametrize(
    "kills", [pytest.param(24, id="quick"), pytest.param(1_000, id="nightly", marks=pytest.mark.nightly)]
)
def test_kills(kills: int, seed: int, tmp_path: Path) -> None:
    """A process killed at any moment loses no acknowledged record, and only its last line may be torn.

    Two writers at a time, with every sync policy, and with segments that are full after a few records.
    """
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", SERVER, str(tmp_path), str(kills // 2), str(seed + number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    output = [server.communicate(timeout=PATIENCE_SECONDS)[0] for server in servers]
    assert [server.returncode for server in servers] == [0, 0]
    acknowledged = {
        bus_id: int(number) for bus_id, number in (line.split() for line in "".join(output).splitlines())
    }
    assert len(acknowledged) == kills
    log = EventLog(tmp_path)
    written = written_by(log)
    for bus_id, number in acknowledged.items():
        assert written[bus_id][:number] == list(range(1, number + 1))
        assert written[bus_id] == list(range(1, len(written[bus_id]) + 1))
    for path, offset, length in torn_places(log):
        assert offset + length == path.stat().st_size


FOUR = SERVER.replace(
    SERVER[SERVER.index("def be_killed") :],
    """
def wait_for_batches(writers, least):
    names = [f"{number:012x}" for number in range(4)]
    paths = [os.path.join(directory, name) for name in names]
    stored = lambda: sum(os.path.exists(path) and os.path.getsize(path) >= 8 * least for path in paths)
    while stored() < writers:
        time.sleep(0.005)

pids = []
for number in range(4):
    bus_id = f"{number:012x}"
    pid = os.fork()
    if not pid:
        try:
            writing = os.open(os.path.join(directory, bus_id), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            anyio.run(write, bus_id, writing, {"segment_bytes": 100_000}, 50)
        finally:
            os._exit(1)
    pids.append(pid)
wait_for_batches(4, 5)
os.kill(pids.pop(seed % 4), signal.SIGKILL)
wait_for_batches(3, 15)
for pid in pids:
    os.kill(pid, signal.SIGKILL)
for _ in range(4):
    os.wait()
""",
)


def test_four_at_once(seed: int, tmp_path: Path) -> None:
    """Four processes that write at once, one of which is killed, lose and interleave nothing."""
    done = subprocess.run(
        [sys.executable, "-c", FOUR, str(tmp_path), "0", str(seed)], timeout=60, check=False
    )
    assert done.returncode == 0
    written = written_by(EventLog(tmp_path))
    assert len(written) == 4
    for bus_id, numbers in written.items():
        acknowledged = int.from_bytes((tmp_path / bus_id).read_bytes()[-8:], "little")
        assert acknowledged >= 50
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= acknowledged


async def _store(directory: Path, batches: list[list[NodeProgress]]) -> Path:
    persister = JsonPersister(directory, sync="never")
    await persister.start(_bus())
    for batch in batches:
        await persister.handle_batch(batch)
    await persister.stop()
    assert persister.path is not None
    return persister.path


def _bus() -> Any:
    return type("Bus", (), {"id": "0123456789ab"})()


def _progress(number: int) -> NodeProgress:
    return NodeProgress(
        workflow_id="w", node_id="0123456789ab", attempt=number, message="ü\u2028" * (number % 4)
    )


def test_every_crash_prefix(tmp_path: Path) -> None:
    """A segment that is cut at any byte yields every record that is whole in it."""
    writes: list[bytes] = []
    real_write = os.write

    def recorded(fd: int, data: bytes) -> int:
        writes.append(bytes(data))
        return real_write(fd, data)

    with patch.object(os, "write", recorded):
        batches = [[_progress(1)], [_progress(2), _progress(3), _progress(4)], [_progress(5), _progress(6)]]
        path = anyio.run(_store, tmp_path / "whole", batches)
    content = b"".join(writes)
    assert path.read_bytes() == content
    cut = tmp_path / "cut" / "events" / path.name
    cut.parent.mkdir(parents=True)
    for length in range(len(content) + 1):
        cut.write_bytes(content[:length])
        log = EventLog(tmp_path / "cut")
        # The header is not a record; a record that lacks only its line feed may count as whole.
        ended, whole = (max(0, content[:end].count(b"\n") - 1) for end in (length, length + 1))
        found = [record.seq for record in log.records()]
        assert found in (list(range(1, ended + 1)), list(range(1, whole + 1))), length


def test_a_cut_segment_is_never_written_to_again(tmp_path: Path) -> None:
    """The next writer begins a segment of its own: a torn tail is left as it is."""
    log = Segment(tmp_path, "0123456789ab", 1)
    log.append(b'{"seq":1,' + encode(_progress(1))[1:] + b'\n{"seq":2,"event_ty')
    log.close()
    before = log.path.read_bytes()
    anyio.run(_store, tmp_path, [[_progress(1)]])
    assert log.path.read_bytes() == before
    segments = sorted((tmp_path / "events").iterdir())
    assert len(segments) == 2
    assert len(list(EventLog(tmp_path).records())) == 2


FORKS = """
    import os, random, signal, sys, threading, time
    from eventbus import EventBus, NodeProgress
    from eventbus_subscribers.json_persister import JsonPersister

    directory, forks, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    bus = EventBus([JsonPersister(directory, segment_bytes=100_000, keep_bytes=0)])
    published = failed = 0
    done = threading.Event()

    def publish_all_the_time():
        global published
        while not done.is_set():
            for _ in range(20):
                published += 1
                bus.publish(NodeProgress(workflow_id="parent", node_id=bus.id, attempt=published))
            time.sleep(0.000_5)

    def be_a_child():
        signal.alarm(20)
        if rng.random() < 0.5:
            with bus:
                bus.publish(NodeProgress(workflow_id="child", node_id=bus.id, attempt=1))

    with bus:
        thread = threading.Thread(target=publish_all_the_time)
        thread.start()
        for _ in range(forks):
            time.sleep(rng.random() * 0.005)
            pid = os.fork()
            if not pid:
                try:
                    be_a_child()
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            failed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
        done.set()
        thread.join()
    assert bus.report.complete
    print(os.getpid(), published)
    sys.exit(min(failed, 100))
"""


@pytest.mark.parametrize("forks", [40, pytest.param(500, id="nightly", marks=pytest.mark.nightly)])
def test_fork(forks: int, seed: int, tmp_path: Path) -> None:
    """With forks at random moments, a program's records are in its segments once, a child's in the
    child's.
    """
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(FORKS)]
    done = subprocess.run(
        [*command, str(tmp_path), str(forks), str(seed)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parent, published = map(int, done.stdout.split())
    by_pid: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
    for path in sorted((tmp_path / "events").iterdir()):
        for line in path.read_bytes().splitlines()[1:]:
            record = msgspec.json.decode(line)
            by_pid[int(path.name.split("-")[1])].append((record["workflow_id"], record["attempt"]))
    assert by_pid.pop(parent) == [("parent", number) for number in range(1, published + 1)]
    assert len(by_pid) > forks / 8
    assert all(records == [("child", 1)] for records in by_pid.values())


ENDS = {
    "return": ("", 0),
    "exit": ("sys.exit(3)", 3),
    "exception": ("raise ValueError('the end')", 1),
    "SIGINT": ("import signal; os.kill(os.getpid(), signal.SIGINT); time.sleep(30)", -2),
}

ENDING = """
import os, sys, time
from eventbus import EventBus, NodeProgress
from eventbus_subscribers.json_persister import JsonPersister

bus = EventBus([JsonPersister(sys.argv[1])] if {stored} else [])
bus.__enter__()
for number in range(1, 1_001):
    bus.publish(NodeProgress(workflow_id="w", node_id=bus.id, attempt=number))
print(time.monotonic_ns(), flush=True)
{end}
"""


@pytest.mark.alone
@pytest.mark.parametrize("end", ENDS)
def test_ends(end: str, tmp_path: Path) -> None:
    """Every way to end a program stores all 1,000 records, keeps its exit code, and takes at most 200 ms
    more.
    """
    for attempt in attempts():
        with attempt:
            without, stored = (_seconds_to_end(end, tmp_path, stored=stored) for stored in (False, True))
            if stored > without + 0.2:
                raise TooSlowError(f"{stored:.3f} s instead of {without:.3f} s")


def _seconds_to_end(end: str, directory: Path, *, stored: bool) -> float:
    """Return how long a program takes from its last statement to its end; check what it stored."""
    ending, code = ENDS[end]
    place = directory / uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", ENDING.format(end=ending, stored=stored), str(place)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    output, _ = process.communicate(timeout=60)
    took = time.monotonic() - int(output) / 1e9
    assert process.returncode == code
    if stored:
        ((_, numbers),) = written_by(EventLog(place)).items()
        assert numbers == list(range(1, 1_001))
    return took


def test_seqs_rise(tmp_path: Path) -> None:
    """Over many segments of one writer, sequence numbers rise by one, across segments too."""
    with patch("eventbus_subscribers.json_persister._EVENTS_AT_ONCE", 7):
        anyio.run(_store_small, tmp_path)
    numbers = [record.seq for record in EventLog(tmp_path).records()]
    assert len(list((tmp_path / "events").iterdir())) > 10
    assert all(b - a == 1 for a, b in pairwise(numbers))
    assert len(numbers) == 3_000


async def _store_small(directory: Path) -> None:
    persister = JsonPersister(directory, segment_bytes=10_000, keep_bytes=0, sync="never")
    await persister.start(_bus())
    for first in range(1, 3_001, 100):
        await persister.handle_batch([_progress(number) for number in range(first, first + 100)])
    await persister.stop()
    for path in (directory / "events").iterdir():
        assert path.stat().st_size <= 10_000


PUBLISHER = """
import os, struct, sys, time
from mmap import mmap
from eventbus import EventBus, NodeProgress
from eventbus_subscribers import JsonPersister

with open(sys.argv[2], "r+b") as file, EventBus([JsonPersister(sys.argv[1])], history=0) as bus:
    count, shared, number = mmap(file.fileno(), 8), open(os.devnull, "wb", 0), 0
    began = time.perf_counter()
    while True:
        if number < (time.perf_counter() - began) * 10_000:
            number += 1
            text = f"line {number}, module_{number}.py compiled"
            bus.publish(NodeProgress(workflow_id="w", node_id="n", metadata={"number": number, "text": text}))
            count[:] = struct.pack("<Q", number)
            if number % 10 == 0:
                shared.write(b"a short line\\n")
        sum(map(abs, range(50)))
"""


@pytest.mark.alone
def test_a_killed_publisher_loses_only_the_last_moments(tmp_path: Path) -> None:
    """At 10,000 new events a second, a `kill -9` of a busy publisher loses none older than 120 ms."""
    for number, attempt in enumerate(attempts()):
        with attempt:
            published, written = publish_and_be_killed(tmp_path / str(number))
            if written < published:
                raise TooSlowError(f"{published - written} events older than 120 ms are missing")


def publish_and_be_killed(directory: Path) -> tuple[int, int]:
    """Return how many events were published 120 ms before the kill, and how many of all are in the log."""
    directory.mkdir()
    count = directory / "count"
    count.write_bytes(bytes(8))

    def published() -> int:
        (number,) = struct.unpack("<Q", count.read_bytes())
        return int(number)

    with subprocess.Popen([sys.executable, "-c", PUBLISHER, str(directory), str(count)]) as publisher:
        while published() < 2_000:
            assert publisher.poll() is None
            time.sleep(0.002)
        before = published()
        time.sleep(0.12)
        publisher.kill()
    numbers = [record.seq for record in EventLog(directory).records()]
    assert numbers == list(range(1, len(numbers) + 1))
    return before, len(numbers)
