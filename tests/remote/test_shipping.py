"""Ship a log: everything, in order, once; and what may go wrong on the way."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from eventbus_subscribers import JsonPersister, LiveCorrelator

from eventbus import (
    EventBus,
    EventsLost,
    RemoteError,
    SessionLinked,
    SkillCompleted,
    SkillStarted,
    WorkflowStarted,
)
from eventbus.history.shipped import read_shipped, shipped_file
from eventbus.remote.connection import connect, jetstream
from eventbus.remote.forwarder import Forwarder
from eventbus.remote.position import ShippingLock
from eventbus.remote.remote_settings import RemoteSettings
from eventbus.remote.shipping import Shipment, Shipper
from tests.remote.nats_server import NatsServer, free_port, run_in_loop
from tests.remote.shipped_logs import assert_shipped, node, ship, wait_until, write_log
from tests.vocabulary import PATIENCE_SECONDS, Tick

pytestmark = pytest.mark.usefixtures("nats_py")


def wait_for_shipped(forwarder: Forwarder, count: int) -> None:
    """Wait until this many events are acknowledged."""
    wait_until(lambda: forwarder.statistics().shipped >= count)


# Without faults.


def test_a_log_is_shipped(server: NatsServer, tmp_path: Path) -> None:
    """Everything that the log holds is shipped once, each writer's records in their order."""
    for first in (0, 1_000, 2_000):
        write_log(tmp_path, 1_000, first)
    statistics = ship(tmp_path, server.settings).statistics()
    assert (statistics.shipped, statistics.duplicates, statistics.pending) == (3_000, 0, 0)
    assert statistics.is_complete
    assert_shipped(server, tmp_path)
    message = server.stored()[0]
    assert message.subject == "eventbus.s0.node_started"
    assert message.headers["Eventbus-Host"]


def test_the_position_is_kept(server: NatsServer, tmp_path: Path) -> None:
    """The next forwarder goes on where the last one ended."""
    write_log(tmp_path, 100)
    ship(tmp_path, server.settings)
    write_log(tmp_path, 50, 100)
    assert ship(tmp_path, server.settings).statistics().shipped == 50
    assert ship(tmp_path, server.settings).statistics().shipped == 0
    assert_shipped(server, tmp_path)


def test_an_empty_log(server: NatsServer, tmp_path: Path) -> None:
    """A log that does not exist yet is one that is shipped completely."""
    assert ship(tmp_path / "none", server.settings).statistics().shipped == 0


def test_derived_events_stay(server: NatsServer, tmp_path: Path) -> None:
    """Events of skills and workflows, links and losses are shipped; what is derived from them is not."""
    with EventBus([JsonPersister(tmp_path), LiveCorrelator()]) as bus:
        for event in (
            SkillStarted(session_id="s", skill_name="a"),
            WorkflowStarted(session_id="s", workflow_id="ci"),
            SessionLinked(session_id="s", other="t"),
            Tick(n=1),
        ):
            bus.publish(event)
        bus.publish(EventsLost(count=1, first_seq=1, last_seq=1))
    ship(tmp_path, server.settings)
    names = {each.subject.rpartition(".")[2] for each in server.stored()}
    assert names == {"skill_started", "workflow_started", "session_linked", "events_lost"}
    assert_shipped(server, tmp_path)


def test_further_types(server: NatsServer, tmp_path: Path) -> None:
    """Events of further types are shipped if the settings name them."""
    with EventBus([JsonPersister(tmp_path)]) as bus:
        bus.publish(Tick(n=1, session_id="s"))
    ship(tmp_path, msgspec.structs.replace(server.settings, types=("tick",)))
    assert [each.subject for each in server.stored()] == ["eventbus.s.tick"]


@pytest.mark.parametrize("restarts", [False, True])
def test_left_out_records_are_counted(restarts: bool, server: NatsServer, tmp_path: Path) -> None:
    """A message says how many records directly before it are not shipped, also across a restart."""
    with EventBus([JsonPersister(tmp_path)]) as bus:
        for event in (node(1), Tick(), Tick()):
            bus.publish(event)
        if restarts:
            wait_until(lambda: len(list(_lines(tmp_path))) == 3)
            ship(tmp_path, server.settings)
        for event in (Tick(), node(2), node(3)):
            bus.publish(event)
    ship(tmp_path, server.settings)
    assert [each.headers.get("Eventbus-Left-Out") for each in server.stored()] == [None, "3", None]
    assert read_shipped(tmp_path).left_out == {}  # type: ignore[union-attr]


def _lines(directory: Path) -> list[bytes]:
    return [
        line
        for path in (directory / "events").glob("*.jsonl")
        for line in path.read_bytes().splitlines()
        if line.startswith(b'{"seq":')
    ]


@pytest.mark.anyio
async def test_a_forwarder_in_the_program(server: NatsServer, tmp_path: Path) -> None:
    """A `Forwarder` ships while its block runs, and the rest when it is left, under asyncio and trio."""
    forwarder = Forwarder(tmp_path, server.settings)
    async with forwarder, EventBus([JsonPersister(tmp_path)]) as bus:
        for n in range(100):
            bus.publish(node(n))
    assert forwarder.statistics().is_complete
    assert_shipped(server, tmp_path)


@pytest.mark.anyio
@pytest.mark.parametrize("delay", [0, 0.005, 0.02, 0.05, 0.1])
async def test_cancelled_anywhere(delay: float, server: NatsServer, tmp_path: Path) -> None:
    """A cancelled `async with` ends at once, and leaves no thread; the next forwarder ships the rest."""
    write_log(tmp_path, 3_000)
    with anyio.move_on_after(delay):
        async with Forwarder(tmp_path, server.settings, close_timeout=60):
            await anyio.sleep(delay / 2)
    wait_until(lambda: not own_threads())
    ship(tmp_path, server.settings)
    assert_shipped(server, tmp_path)


def test_no_thread_is_left(server: NatsServer, tmp_path: Path) -> None:
    """A `with` block leaves no thread behind."""
    write_log(tmp_path, 10)
    with Forwarder(tmp_path, server.settings):
        assert own_threads()
    wait_until(lambda: not own_threads())


def own_threads() -> list[str]:
    """Return the names of the threads of forwarders."""
    names = [each.name for each in threading.enumerate()]
    return [name for name in names if name.startswith("eventbus-forwarder")]


# Faults of the server.


def test_the_server_is_killed(mortal_server: NatsServer, tmp_path: Path) -> None:
    """A server that is killed and comes back loses nothing, doubles nothing, and keeps the order."""
    server = mortal_server
    with Forwarder(tmp_path, server.settings, close_timeout=PATIENCE_SECONDS) as forwarder:
        for first in (0, 2_000, 4_000):
            write_log(tmp_path, 2_000, first)
            wait_for_shipped(forwarder, first + 1)
            server.restart()
    assert forwarder.statistics().is_complete
    assert forwarder.statistics().connections > 1
    assert_shipped(server, tmp_path)


def test_the_server_hangs(mortal_server: NatsServer, tmp_path: Path) -> None:
    """A server that does not reply is left, and gets what it did not acknowledge again, in order."""
    server = mortal_server
    settings = msgspec.structs.replace(server.settings, ack_seconds=0.2)
    with Forwarder(tmp_path, settings, close_timeout=PATIENCE_SECONDS) as forwarder:
        write_log(tmp_path, 10)
        wait_for_shipped(forwarder, 10)
        server.pause()
        write_log(tmp_path, 2_000, 10)
        wait_until(lambda: "no acknowledgement for 0.2 s" in forwarder.statistics().problem)
        server.resume()
        wait_for_shipped(forwarder, 2_010)
    assert_shipped(server, tmp_path)


def test_events_are_refused(server: NatsServer, tmp_path: Path) -> None:
    """Events that the server refuses are shipped when it takes them again, in order; the log says so once."""
    _change_stream(server, max_msgs=100, discard="new")
    write_log(tmp_path, 3_000)
    with Forwarder(tmp_path, server.settings, close_timeout=PATIENCE_SECONDS) as forwarder:
        wait_until(lambda: "maximum messages exceeded" in forwarder.statistics().problem)
        assert server.count() == 100
        _change_stream(server, max_msgs=-1)
    assert forwarder.statistics().is_complete
    assert_shipped(server, tmp_path)


def test_events_that_are_too_large(
    server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that is too large for the stream is left out and reported; those behind it are shipped."""
    _change_stream(server, max_msg_size=2_000)
    with EventBus([JsonPersister(tmp_path)]) as bus:
        for n in range(100):
            bus.publish(
                SkillCompleted(session_id="s", skill_name="a", metadata={"x": "x " * 2_000 * (n == 50)})
            )
    statistics = ship(tmp_path, server.settings).statistics()
    assert (statistics.shipped, statistics.refused) == (99, 1)
    assert server.count() == 99
    assert [
        f"too large for the server, and left out: {bus.id}" in each.getMessage() for each in caplog.records
    ] == [True]


def test_events_that_are_too_large_for_the_server(binary: str, tmp_path: Path) -> None:
    """The same holds for an event that is larger than any message that the server takes."""
    server = NatsServer(binary, tmp_path / "nats", "max_payload: 4000")
    server.start()
    try:
        server.make_stream()
        with EventBus([JsonPersister(tmp_path / "log")]) as bus:
            for n in range(10):
                bus.publish(SkillCompleted(skill_name="a", metadata={"x": ["x y z " * 100] * 6 * (n == 5)}))
        statistics = ship(tmp_path / "log", server.settings).statistics()
        assert (statistics.shipped, statistics.refused) == (9, 1)
    finally:
        server.kill()


def test_no_stream(server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a stream one warning says how to make one, and everything is shipped when it is there."""
    server.delete_stream()
    write_log(tmp_path, 100)
    with Forwarder(tmp_path, server.settings, close_timeout=PATIENCE_SECONDS) as forwarder:
        wait_until(lambda: bool(caplog.records))
        server.make_stream()
    assert forwarder.statistics().is_complete
    assert [each.getMessage() for each in caplog.records] == [
        f"the forwarder: {server.url} has no stream EVENTBUS. Make it with `eventbus ship --create`"
    ]
    assert_shipped(server, tmp_path)


@pytest.mark.parametrize(("size", "count"), [(100_000, 84), (10, 1_024)])
def test_what_waits_is_bounded(size: int, count: int, server: NatsServer) -> None:
    """While the server is away at most a window of events waits, and at most 8 MiB of them."""

    async def accept(_: object) -> None:
        raise AssertionError("there is no connection")

    async def fill() -> int:
        shipper = Shipper(server.settings, accept, lambda _shipment, _seq: None)
        with anyio.move_on_after(0.05):
            while True:
                await shipper.put(Shipment(place=("a", 1), writer="a-1", subject="a", payload=b"x" * size))
        return len(shipper)

    assert run_in_loop(fill) == count


def test_no_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that is away costs a program one warning, and the time that leaving the block may take."""
    write_log(tmp_path, 100)
    with Forwarder(
        tmp_path, RemoteSettings(url=f"nats://127.0.0.1:{free_port()}"), close_timeout=0.3
    ) as forwarder:
        wait_until(lambda: "cannot connect" in forwarder.statistics().problem)
    assert not forwarder.statistics().is_complete
    assert len(caplog.records) == 1
    assert not shipped_file(tmp_path).exists() or read_shipped(tmp_path).segments == {}  # type: ignore[union-attr]


def _change_stream(server: NatsServer, **changes: object) -> None:
    async def change() -> None:
        async with connect(server.settings) as nats:
            stream = jetstream(nats, server.settings)
            config = (await stream.stream_info(server.settings.stream)).config
            await stream.update_stream(config.evolve(**changes))

    run_in_loop(change)


@pytest.mark.parametrize(
    "place", ["nats.aio.client.Client.subscribe", "eventbus.history.directory_watch.DirectoryWatch.poll"]
)
def test_whatever_is_raised(
    place: str,
    server: NatsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception that nobody expects costs a warning, and the forwarder begins again."""
    write_log(tmp_path, 10)
    really_do = _resolved(place)
    calls: list[object] = []

    def fail_once(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise LookupError("of a library")
        return really_do(*arguments, **options)

    monkeypatch.setattr("eventbus.remote.forwarding._LOCK_SECONDS", 0.01)
    monkeypatch.setattr(place, fail_once)
    ship(tmp_path, server.settings)
    assert_shipped(server, tmp_path)
    assert ["of a library" in each.getMessage() for each in caplog.records] == [True]


def _resolved(place: str) -> Any:
    module, cls, method = place.rsplit(".", 2)
    return getattr(getattr(importlib.import_module(module), cls), method)


# A stream that lacks what was acknowledged.


def _replace(server: NatsServer) -> None:
    server.delete_stream()
    server.make_stream()


def _replace_by_a_longer_one(server: NatsServer) -> None:
    server.make_stream()
    other = server.folder / "other host"
    write_log(other, 200, 1_000)
    ship(other, server.settings)


@pytest.mark.parametrize("how", [_replace, _replace_by_a_longer_one])
def test_the_stream_is_replaced(
    how: Callable[[NatsServer], None], server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the stream is another one, everything that the log holds is shipped again, and that is said."""
    shutil.rmtree(server.folder / "other host", ignore_errors=True)
    write_log(tmp_path, 100)
    ship(tmp_path, server.settings)
    how(server)
    ship(tmp_path, server.settings)
    others = [server.folder / "other host"] if how is _replace_by_a_longer_one else []
    assert_shipped(server, tmp_path, *others)
    assert [each.getMessage() for each in caplog.records] == [
        "the forwarder: the stream is another one, or was set back: it ships everything again"
    ]


def test_the_stream_is_replaced_meanwhile(server: NatsServer, tmp_path: Path) -> None:
    """A forwarder that runs notices it with the next event."""
    with Forwarder(tmp_path, server.settings, close_timeout=PATIENCE_SECONDS) as forwarder:
        write_log(tmp_path, 100)
        wait_for_shipped(forwarder, 100)
        server.make_stream()
        write_log(tmp_path, 10, 100)
    assert forwarder.statistics().is_complete
    assert_shipped(server, tmp_path)


def test_the_stream_is_replaced_while_nothing_happens(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forwarder that runs notices it without an event, too."""
    monkeypatch.setattr("eventbus.remote.shipping._CHECK_SECONDS", 0.05)
    write_log(tmp_path, 100)
    with Forwarder(tmp_path, server.settings) as forwarder:
        wait_for_shipped(forwarder, 100)
        server.make_stream()
        wait_for_shipped(forwarder, 200)
    assert_shipped(server, tmp_path)


@pytest.mark.parametrize("grows_again", [False, True])
def test_the_stream_is_set_back(grows_again: bool, mortal_server: NatsServer, tmp_path: Path) -> None:
    """A stream that was set back gets everything again, even if other hosts have made it longer since."""
    server, log, other = mortal_server, tmp_path / "log", tmp_path / "other"
    write_log(log, 10)
    ship(log, server.settings)
    server.kill()
    shutil.copytree(server.folder / "js", tmp_path / "copy")
    server.start()
    write_log(log, 100, 10)
    ship(log, server.settings)
    assert server.count() == 110
    server.kill()
    shutil.rmtree(server.folder / "js")
    shutil.copytree(tmp_path / "copy", server.folder / "js")
    server.start()
    assert server.count() == 10
    if grows_again:
        write_log(other, 200, 1_000)
        ship(other, server.settings)
    ship(log, server.settings)
    assert_shipped(server, log, *([other] if grows_again else []))


def test_purged_messages_are_not_shipped_again(server: NatsServer, tmp_path: Path) -> None:
    """What the stream has removed by its limits, or was purged of, is not shipped again."""
    write_log(tmp_path, 100)
    ship(tmp_path, server.settings)

    async def purge() -> None:
        async with connect(server.settings) as nats:
            await jetstream(nats, server.settings).purge_stream(server.settings.stream)

    run_in_loop(purge)
    write_log(tmp_path, 10, 100)
    assert ship(tmp_path, server.settings).statistics().shipped == 10


# Faults of the forwarder's own.


@pytest.mark.parametrize("content", [b"", b"{", b'{"stream":"EVENTBUS","segments":{"a":"b"}}', b"\0" * 100])
def test_a_torn_position(
    content: bytes, server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a damaged position everything is shipped again; the server leaves out what it has got lately."""
    write_log(tmp_path, 100)
    ship(tmp_path, server.settings)
    shipped_file(tmp_path).write_bytes(content)
    statistics = ship(tmp_path, server.settings).statistics()
    assert (statistics.shipped, statistics.duplicates) == (100, 100)
    assert_shipped(server, tmp_path)
    assert len(caplog.records) == 1


def test_a_position_in_another_stream(server: NatsServer, tmp_path: Path) -> None:
    """A position counts for the stream of its name."""
    write_log(tmp_path, 10)
    ship(tmp_path, server.settings)
    position = read_shipped(tmp_path)
    assert position is not None
    shipped_file(tmp_path).write_bytes(msgspec.json.encode(msgspec.structs.replace(position, stream="X")))
    assert ship(tmp_path, server.settings).statistics().duplicates == 10


def test_the_position_cannot_be_saved(
    server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the position cannot be saved, that is said, and everything is shipped all the same."""
    write_log(tmp_path, 10)
    shipped_file(tmp_path).mkdir()
    assert ship(tmp_path, server.settings).statistics().shipped == 10
    assert "cannot save its position: " in caplog.records[-1].getMessage()
    assert_shipped(server, tmp_path)


def test_damage_in_the_log(server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damage in the log costs a warning; the records around it are shipped."""
    write_log(tmp_path, 10)
    (segment,) = (tmp_path / "events").iterdir()
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:5], b"damage\n", *lines[5:]]))
    assert ship(tmp_path, server.settings).statistics().shipped == 10
    assert ["skipped 6 bytes" in each.getMessage() for each in caplog.records] == [True]


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A forked child that outlives the forwarder's process does not keep others from shipping."""
    script = (
        "import os, sys, pathlib\n"
        "from eventbus.remote.position import ShippingLock\n"
        "lock = ShippingLock(pathlib.Path(sys.argv[1]))\n"
        "assert lock.take()\n"
        "if not os.fork():\n"
        "    sys.stdin.read()\n"
        "    os._exit(0)\n"
        "os._exit(0)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE)
    assert parent.wait(PATIENCE_SECONDS) == 0
    lock = ShippingLock(tmp_path)
    wait_until(lock.take)
    lock.release()
    assert parent.stdin is not None
    parent.stdin.close()


def test_a_forwarder_is_used_once(server: NatsServer, tmp_path: Path) -> None:
    """A forwarder that was started cannot be started again."""
    with (
        Forwarder(tmp_path, server.settings) as forwarder,
        pytest.raises(RemoteError, match="started before"),
    ):
        forwarder.start()


def test_one_forwarder_per_log(server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While another process ships a log, a forwarder waits, and ships when that one has ended."""
    write_log(tmp_path, 10)
    lock = ShippingLock(tmp_path)
    assert lock.take()
    with Forwarder(tmp_path, server.settings, close_timeout=PATIENCE_SECONDS) as forwarder:
        wait_until(lambda: bool(caplog.records))
        assert "another process ships this log" in forwarder.statistics().problem
        assert not ShippingLock(tmp_path).take()
        lock.release()
    assert forwarder.statistics().shipped == 10


def test_nothing_remote_comes_back(server: NatsServer, tmp_path: Path) -> None:
    """Remote events on a bus with a persister are not shipped again."""
    from eventbus import mark_as_remote

    with Forwarder(tmp_path, server.settings), EventBus([JsonPersister(tmp_path), LiveCorrelator()]) as bus:
        for n in range(20):
            bus.publish(mark_as_remote(SkillStarted(session_id=f"s{n}", skill_name="a")))
            bus.publish(mark_as_remote(WorkflowStarted(session_id=f"s{n}", workflow_id="ci")))
    assert server.count() == 0
