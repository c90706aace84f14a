"""Kill what can be killed, again and again, while events are published, shipped and read."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus, NodeStarted
from eventbus.history import EventLog
from eventbus.remote import Forwarder, RemoteEvents
from eventbus.remote.mirror import updated_mirror
from tests.remote.nats_server import NatsServer
from tests.remote.shipped_logs import expected, node

pytestmark = [pytest.mark.usefixtures("nats_py"), pytest.mark.nightly]


@pytest.mark.anyio
async def test_kills_of_the_server(mortal_server: NatsServer, tmp_path: Path) -> None:
    """A server that is killed again and again while events come: each is received once, in order."""
    server, found = mortal_server, list[int]()
    count, kills = 10_000, 12
    async with RemoteEvents(server.settings, start="beginning") as events, anyio.create_task_group() as tasks:
        with Forwarder(tmp_path, server.settings), EventBus([JsonPersister(tmp_path)]) as bus:

            async def publish() -> None:
                for n in range(count):
                    bus.publish(node(n))
                    if n % 10 == 0:
                        await anyio.sleep(0.008)

            async def kill() -> None:
                for n in range(kills):
                    await anyio.sleep(random.uniform(0.2, 0.6))
                    await anyio.to_thread.run_sync(server.kill)
                    await anyio.sleep(0.3 * (n % 3))
                    await anyio.to_thread.run_sync(server.start)

            tasks.start_soon(publish)
            tasks.start_soon(kill)
            with anyio.fail_after(90):
                while len(found) < count:
                    event = await anext(events)
                    assert isinstance(event, NodeStarted)
                    found.append(int(event.node_id))
    assert found == list(range(count))
    assert events.statistics().missing == 0


def test_kills_of_a_reader(server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is killed while it copies, and started again: the copy has each record once, in order."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EVENTBUS_NATS_URL", server.url)
    log, is_over = tmp_path / "log", threading.Event()

    def publish() -> None:
        with Forwarder(log, server.settings), EventBus([JsonPersister(log)]) as bus:
            while not is_over.is_set():
                for n in range(50):
                    bus.publish(node(n, f"s{n % 5}"))
                time.sleep(0.02)

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        for _ in range(20):
            reader = subprocess.Popen(
                [sys.executable, "-m", "eventbus", "cat", "-f", "--remote"],
                stdout=subprocess.DEVNULL,
                env=dict(os.environ),
            )
            time.sleep(random.uniform(0.3, 0.8))
            reader.kill()
            reader.wait()
    finally:
        is_over.set()
        publisher.join()
    directory = updated_mirror(server.settings).directory
    wanted = [line for lines in expected(log).values() for _, line in lines]
    copied = [each.line for each in EventLog(directory).records()]
    assert Counter(copied) == Counter(wanted)
    assert copied == wanted  # of one writer: in order
    assert not EventLog(directory).damage()
