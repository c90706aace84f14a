"""What a span costs that is sent while things happen, and what that costs the publisher.

The collector is a process of its own, so that its processor time is not counted.
"""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale, now
from eventbus import Event, EventBus, NodeCompleted, Subscriber

_is_installed = False
with suppress(ModuleNotFoundError):  # of any part: other packages bring some of them
    importlib.import_module("eventbus_subscribers.otel_spans")
    _is_installed = True
if TYPE_CHECKING or _is_installed:
    from eventbus_subscribers import OtelSpans

__all__ = ["CONTESTS"]

_BATCH = 512  # the SDK's: a smaller rest would wait for five seconds
_COLLECTOR = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


class _Nothing(Subscriber[Event]):
    """Discards batches."""

    capacity: int = 32_768  # as OtelSpans

    async def handle_batch(self, events: Any) -> None:
        """Discard events."""


def _nodes(count: int) -> list[Event]:
    return [
        NodeCompleted(
            session_id="0123456789ab",
            workflow_id="crackerjack",
            run_id="ba9876543210",
            node_id=f"node-{number}",
            duration_seconds=number / 1_000,
        )
        for number in range(count)
    ]


def _collector(stack: AsyncExitStack) -> str:
    process = stack.enter_context(
        subprocess.Popen([sys.executable, "-c", _COLLECTOR], stdout=subprocess.PIPE, text=True)
    )
    stack.callback(process.kill)
    assert process.stdout is not None
    return f"http://127.0.0.1:{process.stdout.readline().strip()}"


def _all_sent(spans: OtelSpans, count: int) -> Callable[[], Awaitable[None]]:
    """Return a function that waits until this many more spans are sent than when it was called last."""
    expected = 0

    async def wait() -> None:
        nonlocal expected
        expected += count
        while spans.statistics().sent < expected:  # noqa: ASYNC110 - no event reports it
            await anyio.sleep(0.002)

    return wait


def _processor_time(bus: EventBus, events: list[Event], finish: Callable[[], Awaitable[object]]) -> Round:
    async def take() -> Samples:
        began = now()
        for event in events:
            bus.publish(event)
        await bus.drain()
        await finish()
        return [(now().processor - began.processor) / len(events)]

    return take


def _paced(bus: EventBus, events: list[Event]) -> Round:
    """Time each publish, at 1,000 events a second."""

    async def take() -> Samples:
        taken: list[float] = []
        for event in events:
            began = time.perf_counter_ns()
            bus.publish(event)
            taken.append(time.perf_counter_ns() - began)
            await anyio.sleep(0.001)
        return taken

    return take


async def _send(stack: AsyncExitStack, scale: Scale) -> Rounds:
    events = _nodes(_BATCH * max(2, scale.events // _BATCH))
    spans = OtelSpans(_collector(stack))
    nothing = stack.enter_context(EventBus([_Nothing()], history=0))
    sending = stack.enter_context(EventBus([spans], history=0))
    return {
        "a handler that does nothing": _processor_time(nothing, events, anyio.lowlevel.checkpoint),
        "OtelSpans": _processor_time(sending, events, _all_sent(spans, len(events))),
    }


async def _publish(stack: AsyncExitStack, scale: Scale) -> Rounds:
    events = _nodes(int(1_000 * scale.seconds))
    silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # it never accepts
    subscribers: dict[str, Subscriber[Any]] = {
        "a handler that does nothing": _Nothing(),
        "OtelSpans": OtelSpans(_collector(stack)),
        "OtelSpans, and the collector hangs": OtelSpans(f"http://127.0.0.1:{silent.getsockname()[1]}"),
    }
    return {
        name: _paced(stack.enter_context(EventBus([each], history=0)), events)
        for name, each in subscribers.items()
    }


def _contests() -> list[Contest]:
    if not _is_installed:
        print("SKIPPED: opentelemetry is not installed: sending spans is not measured", file=sys.stderr)
        return []
    return [
        Contest("send spans, processor time", "ns", _send, rounds=15),
        Contest("publish while spans are sent, 1,000 a second", "ns", _publish, rounds=15),
    ]


CONTESTS = _contests()
