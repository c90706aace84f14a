"""A collector in this process: it decodes what it gets, and can hang or refuse."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import anyio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.vocabulary import PATIENCE_SECONDS


class Received(NamedTuple):
    """A span as a collector sees it."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    is_error: bool
    message: str
    seconds: float
    service: str


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Received]:
    """Return the spans of a request, or of a line of OTLP JSON that was parsed into one."""
    for resource_spans in request.resource_spans:
        service = _attributes(resource_spans.resource.attributes)["service.name"]
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield Received(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    _attributes(span.attributes),
                    [(each.name, _attributes(each.attributes)) for each in span.events],
                    span.status.code == 2,
                    span.status.message,
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    service,
                )


def ids(spans: list[Received]) -> set[tuple[str, str]]:
    return {(each.trace_id, each.span_id) for each in spans}


class Receiver:
    """A collector.

    Attributes:
        url: Its address.
        spans: The spans received so far.
        headers: The headers of each request.
        status: The HTTP status to answer with.
        may_answer: Cleared to hang.
    """

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.was_asked = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    async def has(self, count: int) -> list[Received]:
        """Wait for this many spans."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(self.spans) < count:  # noqa: ASYNC110 - the request comes in another thread
                await anyio.sleep(0.005)
        return self.spans

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.was_asked.set()
                receiver.may_answer.wait()
                receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                if receiver.status == 200 and self.path == "/v1/traces":
                    receiver.spans += spans_of(ExportTraceServiceRequest.FromString(body))
                self.send_response(receiver.status if self.path == "/v1/traces" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
                """Print nothing."""

        return Handler


@contextmanager
def receiving() -> Generator[Receiver]:
    """Run a collector."""
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
