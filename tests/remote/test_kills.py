"""Kill the server and the forwarder, again and again, while a program publishes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus
from tests.remote.nats_server import NatsServer
from tests.remote.shipped_logs import assert_shipped, node, ship, wait_until
from tests.remote.test_ship_command import start

EVENTS_PER_SECOND = 1_500


@contextmanager
def publishing(directory: Path) -> Generator[list[int]]:
    """Publish events in a thread while the block runs; yield a list of their count."""
    ending, count = threading.Event(), [0]

    def publish() -> None:
        with EventBus([JsonPersister(directory, segment_bytes=200_000)]) as bus:
            while not ending.wait(0.01):
                for _ in range(EVENTS_PER_SECOND // 100):
                    assert bus.publish(node(count[0], f"s{count[0] % 5}"))
                    count[0] += 1

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield count
    finally:
        ending.set()
        thread.join()


def kill_again_and_again(server: NatsServer, directory: Path, kills: int, pause: float) -> int:
    """Kill the server and the forwarder by turns while events are published; return their number."""
    chance = random.Random(kills)
    log = directory / "log"
    forwarder = start(server, directory)
    try:
        with publishing(log) as count:
            wait_until(lambda: server.count() > 0)
            for number in range(kills):
                time.sleep(chance.uniform(0, pause))  # any moment will do
                if number % 2:
                    server.kill()
                    time.sleep(chance.choice([0, pause / 2]))
                    server.start()
                else:
                    forwarder.kill()
                    forwarder.communicate()
                    forwarder = start(server, directory)
    finally:
        forwarder.kill()
        forwarder.communicate()
    ship(log, server.settings)  # what is left
    return count[0]


def test_some_kills(mortal_server: NatsServer, tmp_path: Path) -> None:
    """Whatever is killed, nothing is lost, doubled within the window, or out of a writer's order."""
    kill_again_and_again(mortal_server, tmp_path, 4, 0.2)
    assert_shipped(mortal_server, tmp_path / "log")


@pytest.mark.nightly
@pytest.mark.parametrize("kills", [50])
def test_many_kills(kills: int, mortal_server: NatsServer, tmp_path: Path) -> None:
    """The same, for 50 kills at any moment."""
    count = kill_again_and_again(mortal_server, tmp_path, kills, 2)
    print(f"{kills} kills, {count} events published, {mortal_server.count()} in the stream")
    assert mortal_server.count() == count
    assert_shipped(mortal_server, tmp_path / "log")
