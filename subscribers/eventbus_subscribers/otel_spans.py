"""OtelSpans: send what ends as OpenTelemetry spans, while it happens.

docs/opentelemetry.md lists what is promised. A span is made of the line that the log has for an event, so
it contains what the log contains, and has the id that an export of the log gives it. Spans are made and
handed on in a thread of its own; the SDK's thread sends them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import anyio

from eventbus import (
    FROM_USER,
    DecodeError,
    Event,
    EventsLost,
    OwnThread,
    RateLimitedLog,
    SkillEvent,
    Subscriber,
    WorkflowEvent,
    __distribution__,
    decode,
    scrubbed_lines,
)
from eventbus.views.span_fold import SpanFold, matters_to_spans

try:
    from eventbus.integrations.otlp import SenderStatistics, SpanSender, is_disabled, trace_parent_here
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"otel_spans needs {missing.name}, which is not installed: pip install '{__distribution__}[otel]'",
        name=missing.name,
    ) from missing

if TYPE_CHECKING:
    from eventbus import EventBus

__all__ = ["OtelSpans"]

STOP_SECONDS = 1.5
"""How long `stop` waits for the collector; what it has not accepted by then is lost, and counted."""

_logger = logging.getLogger(__name__)


class OtelSpans(Subscriber[SkillEvent | WorkflowEvent | EventsLost]):
    """Sends each skill, run and attempt at a node that ends as a span, by OTLP over HTTP.

    The variables ``OTEL_*`` of the SDK and its exporter count, and the arguments override them. The span
    that ``TRACEPARENT`` names when the bus starts is the parent of skills and runs.

    Args:
        endpoint: The collector's address, such as ``http://localhost:4318``.
        headers: Headers of each request, such as those with a key.
        service_name: The name under which a viewer shows the program; by default ``eventbus``.

    Attributes:
        lost: Events that never arrived, because the mailbox overflowed.
    """

    capacity: int = 32_768
    name: str | None = "otel_spans"

    def __init__(
        self,
        endpoint: Annotated[str | None, FROM_USER] = None,
        headers: Annotated[dict[str, str] | None, FROM_USER] = None,
        service_name: str | None = None,
    ) -> None:
        self.lost: int = 0
        self._endpoint = endpoint
        self._headers: Mapping[str, str] | None = headers
        self._service_name = service_name
        self._thread = OwnThread("eventbus-otel-spans")
        self._is_off = self._is_used = False
        self._log = RateLimitedLog(_logger, "otel_spans:")
        self._begin()

    def _begin(self) -> None:
        """Begin again: a forked child has neither the threads nor the unsent spans of its parent."""
        self._pid = os.getpid()
        self._sender: SpanSender | None = None
        self._root = trace_parent_here()
        self._fold = SpanFold(self._root)
        self._failed = 0

    def statistics(self) -> SenderStatistics:
        """Return what became of the spans so far; from any thread."""
        sender = self._sender
        return SenderStatistics(0, 0, 0, "") if sender is None else sender.statistics()

    async def start(self, bus: EventBus) -> None:  # noqa: ARG002 - the contract's signature
        """Read the environment."""
        self._begin()
        self._is_used = False
        is_unsampled = self._root is not None and not self._root.is_sampled
        self._is_off = is_unsampled or is_disabled()
        if self._is_off:
            why = "TRACEPARENT is not sampled" if is_unsampled else "OTEL_SDK_DISABLED is true"
            _logger.info("otel_spans: sends nothing, because %s", why)

    async def handle_batch(self, events: Sequence[SkillEvent | WorkflowEvent | EventsLost]) -> None:
        """Send the spans of what ended.

        Args:
            events: At least one, in the bus's order.
        """
        if not self._is_off:
            self._is_used = True
            await self._thread.run(self._send, events)

    async def stop(self) -> None:
        """Send what is queued; after `STOP_SECONDS`, give it up."""
        try:
            if self._is_used:
                with anyio.move_on_after(STOP_SECONDS):
                    await self._thread.run(self._close)
        finally:
            self._thread.end()
            if self._sender is not None:
                self._sender.give_up()
                unsent = self._sender.unsent()
                self._say("not sent: {} span", unsent)

    # In the thread.

    def _send(self, events: Sequence[SkillEvent | WorkflowEvent | EventsLost]) -> None:
        if self._pid != os.getpid():
            self._begin()
        if self._sender is None:
            self._sender = SpanSender(self._endpoint, self._headers, self._service_name)
        lost = sum([event.count for event in events if isinstance(event, EventsLost)])
        self.lost += lost
        self._say("came too fast, and have no spans: {} event", lost)
        spans = map(self._fold.add, _as_logged([event for event in events if matters_to_spans(event)]))
        self._sender.send([span for span in spans if span is not None])
        failed = self._sender.statistics().failed
        self._say("not sent so far: {} span", failed, failed - self._failed)
        self._failed = failed

    def _close(self) -> None:
        # Here, and not by `stop` itself: a call that was cancelled may be making the sender.
        if self._sender is not None:
            self._sender.close()

    def _say(self, what: str, count: int, more: int = 1) -> None:
        """Log a loss, if there is one, and if there is more of it than was logged before."""
        if count and more:
            text = what.format(count) + "s" * (count != 1)
            problem = self.statistics().problem
            self._log.warn(what, f"{text}: {problem}" if problem else text)


def _as_logged(events: Sequence[Event]) -> Iterator[Event]:
    """Generate events as a log has them, without secrets; leave out what a log cannot have."""
    for line in _lines(events):
        with suppress(DecodeError):
            yield decode(line)


def _lines(events: Sequence[Event]) -> list[bytes]:
    try:
        return scrubbed_lines(events).splitlines()
    except Exception:  # noqa: BLE001 - one event must not take the others of its batch away
        return [line for event in events for line in _lines([event])] if len(events) > 1 else []
