"""Read what all hosts have shipped: once, in order, and on behind whatever happens to the server."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from eventbus_subscribers import JsonPersister, LiveCorrelator

from eventbus import Event, EventBus, NodeEvent, NodeStarted, RemoteError, SkillStarted, StreamStateError
from eventbus.events import encode
from eventbus.events.provenance import is_remote
from eventbus.remote import Forwarder, RemoteEvents, RemoteSettings
from eventbus.remote.connection import connect, jetstream
from eventbus.remote.subjects import subject_of
from tests.remote.conftest import Certificates
from tests.remote.nats_server import NatsServer, run_in_loop
from tests.remote.shipped_logs import node, ship, write_log
from tests.vocabulary import PATIENCE_SECONDS, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nats_py")]


def ids(events: list[Event]) -> list[int]:
    return [int(each.node_id) for each in events if isinstance(each, NodeEvent)]


def assert_no_thread() -> None:
    """Assert that the reader's thread ends: its loop has ended when the block is left."""
    for thread in threading.enumerate():
        if thread.name == "eventbus-reader-nats":
            thread.join(1)
            assert not thread.is_alive()


async def take(events: RemoteEvents, count: int) -> list[Event]:
    """Return the next events."""
    found: list[Event] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        while len(found) < count:
            found.append(await anext(events))
    return found


async def written(directory: Path, count: int, first: int, server: NatsServer) -> None:
    """Write a log and ship it, as another host would."""
    await anyio.to_thread.run_sync(write_log, directory, count, first)
    await anyio.to_thread.run_sync(ship, directory, server.settings)


def put_payload(server: NatsServer, subject: str, payload: bytes, event_id: str, **headers: str) -> None:
    """Put a message into the stream, as a forwarder would behind the duplicate window."""

    async def send() -> None:
        async with connect(server.settings) as nats:
            stream = jetstream(nats, server.settings)
            await stream.update_stream(
                name="EVENTBUS", subjects=["eventbus.>"], max_age=30 * 86_400, duplicate_window=0.1
            )
            await anyio.sleep(0.15)
            await stream.publish(subject, payload, headers={"Nats-Msg-Id": event_id, **headers})

    run_in_loop(send)


def put(server: NatsServer, event_id: str, event: Event, **headers: str) -> None:
    """Put an event into the stream, as a host's forwarder would."""
    put_payload(server, subject_of(event), encode(event), event_id, **headers)


async def test_all_events_from_the_beginning(server: NatsServer, tmp_path: Path) -> None:
    """Every event of the stream comes once, in its writer's order, marked as remote."""
    await written(tmp_path, 1_500, 0, server)
    async with RemoteEvents(server.settings, start="beginning") as events:
        found = await take(events, 1_500)
        assert ids(found) == list(range(1_500))
        assert all(map(is_remote, found))
        await written(tmp_path, 10, 1_500, server)
        assert ids(await take(events, 10)) == list(range(1_500, 1_510))
        assert events.statistics().received == 1_510
        assert events.statistics().missing == events.statistics().duplicates == 0
    assert_no_thread()


async def test_now_begins_with_what_is_shipped_next(server: NatsServer, tmp_path: Path) -> None:
    """Reading begins with what is shipped from the entry on."""
    await written(tmp_path, 10, 0, server)
    async with RemoteEvents(server.settings) as events:
        await written(tmp_path, 10, 10, server)
        assert ids(await take(events, 10)) == list(range(10, 20))


async def test_one_session(server: NatsServer, tmp_path: Path) -> None:
    """The server selects one session of many, and some types."""
    await written(tmp_path, 300, 0, server)
    async with RemoteEvents(server.settings, start="beginning", session_id="s1") as events:
        assert ids(await take(events, 100)) == list(range(1, 300, 3))
    put(server, "abc-7-1", SkillStarted(session_id="s1", skill_name="x"))
    async with RemoteEvents(server.settings, start="beginning", types=SkillStarted) as events:
        assert [type(each) for each in await take(events, 1)] == [SkillStarted]


async def test_position(server: NatsServer, tmp_path: Path) -> None:
    """Another reader goes on at the position of an earlier one."""
    await written(tmp_path, 10, 0, server)
    async with RemoteEvents(server.settings, start="beginning") as events:
        await take(events, 10)
        with anyio.move_on_after(0.05):
            await anext(events)
        position = events.position
    assert position is not None
    assert position.seq == 10
    await written(tmp_path, 5, 10, server)
    async with RemoteEvents(server.settings, start=position) as events:
        assert ids(await take(events, 5)) == list(range(10, 15))


async def test_no_echo(server: NatsServer, tmp_path: Path) -> None:
    """Two hosts that ship and read: the stream holds what was published, and each bus has had all of it."""
    seen: dict[str, list[int]] = {"a": [], "b": []}
    async with anyio.create_task_group() as tasks:
        buses = {name: EventBus([JsonPersister(tmp_path / name), LiveCorrelator()]) for name in "ab"}

        async def host(name: str, started: anyio.Event) -> None:
            bus = buses[name]
            with Forwarder(tmp_path / name, server.settings), bus:
                bus.subscribe(lambda event: seen[name].append(int(event.node_id)), NodeStarted)
                async with RemoteEvents(server.settings) as events:
                    started.set()
                    await events.publish_to(bus)

        for name in "ab":
            started = anyio.Event()
            tasks.start_soon(host, name, started)
            await started.wait()
        for n in range(50):
            buses["a"].publish(node(n))
            buses["b"].publish(node(50 + n))
        with anyio.fail_after(PATIENCE_SECONDS):
            await until(lambda: all(set(range(100)) <= set(each) for each in seen.values()))
        await anyio.sleep(0.2)  # for an echo, which must not come
        tasks.cancel_scope.cancel()
    assert await anyio.to_thread.run_sync(server.count) == 100


# Faults.


async def test_a_killed_server(mortal_server: NatsServer, tmp_path: Path) -> None:
    """A reader goes on behind the last event when the server is back: no gap, no duplicate."""
    await written(tmp_path, 100, 0, mortal_server)
    async with RemoteEvents(mortal_server.settings, start="beginning") as events:
        found = await take(events, 100)
        for first in (100, 200):
            await anyio.to_thread.run_sync(mortal_server.restart)
            await written(tmp_path, 100, first, mortal_server)
            found += await take(events, 100)
    assert ids(found) == list(range(300))


async def test_a_replaced_stream(
    server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that was deleted and made again is read from its beginning, and said; nothing comes twice."""
    await written(tmp_path, 100, 0, server)
    async with RemoteEvents(server.settings, start="beginning") as events:
        found = await take(events, 100)
        with caplog.at_level(logging.WARNING, "eventbus.remote"):
            await anyio.to_thread.run_sync(server.make_stream)
            await written(tmp_path, 20, 100, server)
            found += await take(events, 20)
        assert events.statistics().duplicates == 100
    assert ids(found) == list(range(120))
    assert "read from its beginning" in caplog.text


async def test_a_stream_that_was_set_back(mortal_server: NatsServer, tmp_path: Path) -> None:
    """A stream that was set back, and has grown since, is read from its beginning; nothing comes twice."""
    server, store = mortal_server, mortal_server.folder / "js"
    await written(tmp_path / "log", 50, 0, server)
    await anyio.to_thread.run_sync(server.kill)
    shutil.copytree(store, tmp_path / "older")
    await anyio.to_thread.run_sync(server.start)
    await written(tmp_path / "log", 10, 50, server)
    async with RemoteEvents(server.settings, start="beginning") as events:
        found = await take(events, 60)
        await anyio.to_thread.run_sync(server.kill)
        shutil.rmtree(store)
        shutil.copytree(tmp_path / "older", store)
        await anyio.to_thread.run_sync(server.start)
        await written(tmp_path / "other", 30, 60, server)
        found += await take(events, 30)
    assert ids(found) == list(range(90))


async def test_missing_numbers_are_told(server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """Missing numbers are counted and reported; records of types that are not shipped are not missing."""
    put(server, "abc-7-1", node(1))
    put(server, "abc-7-4", node(4))
    put(server, "abc-7-9", node(9), **{"Eventbus-Left-Out": "4"})
    put(server, "not ours", node(10))
    async with RemoteEvents(server.settings, start="beginning") as events:
        with caplog.at_level(logging.WARNING, "eventbus.remote"):
            assert ids(await take(events, 3)) == [1, 4, 9]
        with anyio.fail_after(PATIENCE_SECONDS):
            await until(lambda: events.statistics().unreadable)
        assert events.statistics().missing == 2


async def test_a_server_that_is_away(binary: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Entering raises nothing because of the server; one warning says why, and closing keeps its deadline."""
    server = NatsServer(binary, tmp_path)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with RemoteEvents(server.settings) as events:
            assert "cannot connect" in events.statistics().problem
    assert len([each for each in caplog.records if "cannot connect" in each.message]) == 1


async def test_a_server_that_hangs(mortal_server: NatsServer) -> None:
    """The block is left within its deadline, though the server hangs."""
    async with RemoteEvents(mortal_server.settings):
        mortal_server.pause()
        began = anyio.current_time()
    assert anyio.current_time() - began < 4


async def test_clear_text_is_refused(server: NatsServer, certificates: Certificates) -> None:
    """A server without TLS is not read where TLS is asked for."""
    settings = RemoteSettings(url=server.url.replace("nats:", "tls:"), ca=certificates.ca)
    async with RemoteEvents(settings) as events:
        assert "cannot connect" in events.statistics().problem
        assert events.statistics().connections == 0
    with pytest.raises(RemoteError, match="clear text"):
        await RemoteEvents(RemoteSettings(url="nats://far.example.com")).__aenter__()


# Its use.


async def test_a_cancelled_reader_loses_nothing(server: NatsServer, tmp_path: Path) -> None:
    """A reader that is cancelled while it waits, at any moment, loses nothing."""
    found: list[Event] = []
    async with (
        RemoteEvents(server.settings, start="beginning") as events,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(written, tmp_path, 300, 0, server)
        while len(found) < 300:
            with anyio.move_on_after(0.003):
                found.append(await anext(events))
    assert ids(found) == list(range(300))


async def test_a_cancelled_block(server: NatsServer) -> None:
    """A block that is cancelled leaves no thread behind."""
    with anyio.move_on_after(0.05):
        async with RemoteEvents(server.settings) as events:
            await anext(events)
    assert_no_thread()


async def test_misuse(server: NatsServer) -> None:
    """Reading outside the block is refused, and so is entering it twice."""
    events = RemoteEvents(server.settings)
    with pytest.raises(StreamStateError):
        await anext(events)
    async with events:
        pass
    with pytest.raises(RemoteError, match="before"):
        await events.__aenter__()


async def test_a_closed_bus_ends_it(server: NatsServer, tmp_path: Path) -> None:
    """Publishing ends when the bus is closed."""
    await written(tmp_path, 10, 0, server)
    bus = EventBus()
    async with bus:
        await bus.aclose()
        async with RemoteEvents(server.settings, start="beginning") as events:
            with anyio.fail_after(PATIENCE_SECONDS):
                assert await events.publish_to(bus) == 0


async def test_messages_that_are_no_events(server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """A message that is no event is left out, counted and reported; what follows is received."""
    good = encode(node(1))
    for n, payload in enumerate((b"", b"[]", b"{}", b"{\n}", good + b"\n" + good, b"{" + b"x" * 100_000), 1):
        put_payload(server, "eventbus.s.node_started", payload, f"abc-7-{n}")
    put_payload(server, "eventbus.s.node_started", good, "../../x-7-7")
    put_payload(server, "eventbus.s.node_started", good, "abc-7-8", **{"Eventbus-Left-Out": "-1"})
    async with RemoteEvents(server.settings, start="beginning") as events:
        assert ids(await take(events, 1)) == [1]
        assert events.statistics().unreadable == 7


async def test_a_slow_handler_holds_back(server: NatsServer, tmp_path: Path) -> None:
    """A reader that is behind holds two batches, and the rest waits at the server."""
    await written(tmp_path, 4_000, 0, server)
    async with RemoteEvents(server.settings, start="beginning") as events:
        await take(events, 1)
        await anyio.sleep(0.3)  # for more, which must not come
        assert events.statistics().received <= 3 * 750
        assert ids(await take(events, 3_999)) == list(range(1, 4_000))
