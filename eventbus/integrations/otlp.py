"""Give spans to OpenTelemetry: as lines of OTLP JSON, or to a collector. The one home of its SDK.

Import it where spans are written or sent: it needs the extra ``otel``, and takes 0.2 s.

No tracer is used, and no global provider is made or used: a program that uses OpenTelemetry itself keeps
its own. Spans that have ended are handed to the SDK's processor as they are.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import NamedTuple
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.json.file import FileSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event as SdkEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from eventbus import __version__
from eventbus.events.printable import printable
from eventbus.views.spans import Span, TraceParent

__all__ = ["SenderStatistics", "SpanSender", "is_disabled", "json_lines", "trace_parent_here"]

DEFAULT_SERVICE = "eventbus"
_BATCH = 512
_MAX_PROBLEM = 500
_DEFAULT_QUEUE = 2_048
_UNNAMED_SERVICE = "unknown_service"
_TRACES_PATH = "/v1/traces"
_SCOPE = InstrumentationScope("eventbus", __version__)
_FAILED = StatusCode.ERROR
_UNSET = Status(StatusCode.UNSET)
_KINDS = {"run": SpanKind.SERVER}
_SAMPLED, _UNSAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
_exporter_logger = logging.getLogger(OTLPSpanExporter.__module__)


def json_lines(spans: Iterable[Span]) -> Iterator[bytes]:
    """Generate the lines of a file of OTLP JSON; the same spans give the same bytes.

    Nothing about this process gets in: of whom a span tells is in the span.
    """
    stream = StringIO()
    exporter = FileSpanExporter(stream=stream)
    resource = Resource({SERVICE_NAME: DEFAULT_SERVICE})
    for batch in _batches(spans):
        result = exporter.export([_readable(span, resource) for span in batch])
        if result is not SpanExportResult.SUCCESS:  # it has logged why
            raise RuntimeError("OpenTelemetry's exporter cannot write these spans")
        yield stream.getvalue().encode()
        stream.seek(0)
        stream.truncate()


def is_disabled() -> bool:
    """Return True if the user has switched OpenTelemetry's SDK off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def trace_parent_here() -> TraceParent | None:
    """Return the span of the program that began this process, by its environment."""
    return TraceParent.parse(os.environ.get("TRACEPARENT", ""))


class SenderStatistics(NamedTuple):
    """What became of the spans that a sender was given.

    Attributes:
        sent: How many the collector has accepted.
        failed: How many it refused, or could not be reached for.
        dropped: How many were never tried.
        problem: Why the latest one failed, in the words of the exporter; empty if none did.
    """

    sent: int
    failed: int
    dropped: int
    problem: str


class SpanSender:
    """Sends spans to a collector by OTLP over HTTP, in batches, from a thread of the SDK's processor.

    `send` and `close` are called in one thread, `give_up` from any. The processor drops spans that do not
    fit its queue, and does not count them; so here `send` waits until there is room.

    Args:
        endpoint: The collector's address, such as ``http://localhost:4318``; by default that of the
            variables ``OTEL_EXPORTER_OTLP_*``.
        headers: Headers of each request, beside those of the variables.
        service_name: The name of the program; by default that of the variables, else ``eventbus``.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        headers: Mapping[str, str] | None = None,
        service_name: str | None = None,
    ) -> None:
        self.pid: int = os.getpid()
        self._resource = _resource(service_name)
        self._exporter = _CountingExporter(
            OTLPSpanExporter(_traces_address(endpoint), headers=headers, meter_provider=NoOpMeterProvider())
        )
        self._queue_size = _queue_size()
        self._processor = BatchSpanProcessor(
            self._exporter, self._queue_size, meter_provider=NoOpMeterProvider()
        )
        self._given = 0
        self._dropped = 0

    def send(self, spans: Sequence[Span]) -> None:
        """Hand spans to the processor; wait while its queue is full, until `give_up` is called."""
        for number, span in enumerate(spans):
            if not self._exporter.wait_for_room(self._given - self._queue_size):
                self._dropped += len(spans) - number
                return
            self._processor.on_end(_readable(span, self._resource))
            self._given += span.is_sampled

    def close(self) -> None:
        """Send what is queued, for half a minute at most, and end the thread.

        What fails now is not tried again: a collector that is absent does not delay the end of a program.
        """
        self._exporter.try_once()
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def give_up(self) -> None:
        """Send nothing more, and end `send` and `close`, as far as a request that is being made allows."""
        self._exporter.give_up()

    def statistics(self) -> SenderStatistics:
        """Return what became of the spans so far; those that are queued are in none of the figures."""
        exporter = self._exporter
        return SenderStatistics(exporter.sent, exporter.failed, self._dropped, exporter.problem)

    def unsent(self) -> int:
        """Return how many spans were given to it and not accepted by the collector."""
        return self._given + self._dropped - self._exporter.sent


class _CountingExporter(SpanExporter):
    """Counts what the exporter in it is given, and keeps what that logs about failures."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self.sent = self.failed = 0
        self._exporter = exporter
        self._taken = 0
        self._is_over = False
        self._has_room = threading.Condition()
        self._problems = _Problems(self._failed_attempt)
        self._is_last_try = False

    @property
    def problem(self) -> str:
        """Why the latest attempt failed; empty if none did."""
        return self._problems.latest

    def wait_for_room(self, needed: int) -> bool:
        """Wait until more spans than this have been taken from the queue; return False if given up."""
        if self._taken > needed:  # mostly, and without the lock
            return not self._is_over
        with self._has_room:
            self._has_room.wait_for(lambda: self._taken > needed or self._is_over)
        return not self._is_over

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, and count them."""
        with self._has_room:
            self._taken += len(spans)
            self._has_room.notify_all()
        result = SpanExportResult.FAILURE
        if not self._is_over:
            with self._problems:
                result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        else:
            self.failed += len(spans)
        return result

    def try_once(self) -> None:
        """From now on, give up after an attempt that fails, also after one that has failed already."""
        self._is_last_try = True
        if self._problems.has_one:
            self.give_up()

    def _failed_attempt(self) -> None:
        if self._is_last_try:
            self.give_up()

    def give_up(self) -> None:
        """Begin no further request, and do not try again; from any thread."""
        with self._has_room:
            was_over, self._is_over = self._is_over, True
            self._has_room.notify_all()
        if not was_over:
            self._problems.is_over = True
            self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def shutdown(self) -> None:
        """End, as the processor does after its last batch."""
        self.give_up()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Return True: nothing is kept here."""
        return True


class _Problems(logging.Filter):
    """Keeps what the SDK's exporter logs in a block, instead of letting it be logged.

    It logs every attempt, so a collector that is away would fill the log of the program. What it logs for
    an exporter of the program's own is in another thread, and is logged.

    Attributes:
        latest: The latest message.
        is_over: True if it is not to be replaced: the exporter reports its own end as a failure.
        has_one: True if there was one in the block that is running.

    Args:
        on_problem: Called after each message.
    """

    def __init__(self, on_problem: Callable[[], None]) -> None:
        super().__init__()
        self.latest = ""
        self.is_over = False
        self.has_one = False
        self._on_problem = on_problem
        self._thread = 0

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        _exporter_logger.addFilter(self)

    def __exit__(self, *_: object) -> None:
        self.has_one = False
        _exporter_logger.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a message of this thread."""
        if record.thread != self._thread:
            return True
        if not self.is_over:
            self.latest = printable(record.getMessage(), _MAX_PROBLEM)
            self.has_one = True
            self._on_problem()
        return False


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    flags = _SAMPLED if span.is_sampled else _UNSAMPLED
    parent = None
    if span.parent_id is not None:
        parent = SpanContext(span.trace_id, span.parent_id, span.is_parent_foreign, flags)
    return ReadableSpan(
        span.name,
        context=SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=flags),
        parent=parent,
        resource=resource,
        attributes=span.attributes,
        events=[SdkEvent(each.name, dict(each.attributes), each.time) for each in span.events],
        kind=_KINDS.get(span.kind, SpanKind.INTERNAL),
        status=Status(_FAILED, span.message) if span.is_error else _UNSET,
        start_time=span.began,
        end_time=span.ended,
        instrumentation_scope=_SCOPE,
    )


def _batches(spans: Iterable[Span]) -> Iterator[list[Span]]:
    batch: list[Span] = []
    for span in spans:
        batch.append(span)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _resource(service_name: str | None) -> Resource:
    resource = Resource.create()
    named = str(resource.attributes.get(SERVICE_NAME, _UNNAMED_SERVICE))
    if service_name is None and not named.startswith(_UNNAMED_SERVICE):
        return resource
    return resource.merge(Resource({SERVICE_NAME: service_name or DEFAULT_SERVICE}))


def _traces_address(endpoint: str | None) -> str | None:
    """Return the address that requests go to: that of a collector has no path."""
    if endpoint is None:
        return None
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _TRACES_PATH


def _queue_size() -> int:
    try:
        return max(1, int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", _DEFAULT_QUEUE)))
    except ValueError:
        return _DEFAULT_QUEUE
