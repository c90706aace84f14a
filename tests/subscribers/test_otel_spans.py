"""Spans are sent while things happen, and a collector that hangs, refuses or is absent harms nobody."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from eventbus_subscribers import JsonPersister, OtelSpans
from opentelemetry import metrics, trace

from eventbus import (
    Event,
    EventBus,
    NodeCompleted,
    SkillCompleted,
    WorkflowCompleted,
)
from eventbus.history import EventLog
from eventbus.history.session_history import SessionHistory
from eventbus.plugins.finding import find_plugins, load_plugins
from eventbus.settings import load_settings
from eventbus.testing import conformance_test, quality_session
from eventbus.views.span_fold import session_spans
from tests.subscribers.otlp_receiver import Receiver, ids, receiving

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "opentelemetry.md"
SPANS_OF_A_SESSION = 6
PUBLISHER = """
import os, sys, time
from eventbus import EventBus, NodeCompleted, WorkflowCompleted, WorkflowStarted
from eventbus_subscribers import OtelSpans
run = {"session_id": "shared", "workflow_id": "ci", "run_id": "1"}
with EventBus([OtelSpans()]) as bus:
    bus.publish(WorkflowStarted(**run))
    bus.publish(NodeCompleted(**run, node_id=sys.argv[1], duration_seconds=1.0))
    if sys.argv[2] == "end":
        bus.publish(WorkflowCompleted(**run, duration_seconds=2.0))
    else:
        print("begun", flush=True)
        time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OTEL_", "TRACEPARENT"))]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def nobody() -> str:
    """Return an address where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def nodes(count: int, session: str = "s") -> list[NodeCompleted]:
    return [
        NodeCompleted(session_id=session, workflow_id="ci", run_id="1", node_id=f"n{n}", duration_seconds=0.1)
        for n in range(count)
    ]


async def send(subscriber: OtelSpans, *events: Event) -> None:
    async with EventBus([subscriber]) as bus:
        for event in events:
            assert bus.publish(event)


@pytest.fixture(scope="module")
def shared_receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture(autouse=True)
def _address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _no_variables: None) -> None:
    if request.node.originalname == "test_conformance":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", request.getfixturevalue("shared_receiver").url)


test_conformance = conformance_test(OtelSpans)


async def test_what_ends_is_sent(receiver: Receiver) -> None:
    """Each skill, run and attempt at a node that ends is sent once, as one span."""
    subscriber = OtelSpans(receiver.url, service_name="nightly")
    await send(subscriber, *quality_session())
    names = [span.name for span in receiver.spans]
    assert sorted(names) == [
        "RUN crackerjack", "comprehensive_hooks", "execute_tool crackerjack-run", "fast_hooks", "publish",
        "tests",
    ]  # fmt: skip
    assert {span.service for span in receiver.spans} == {"nightly"}
    assert len({span.trace_id for span in receiver.spans}) == 1
    assert subscriber.statistics() == (SPANS_OF_A_SESSION, 0, 0, "")


def test_the_example_of_the_documentation(receiver: Receiver) -> None:
    """The example sends a skill, a run and a node, and says nothing."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    command = [sys.executable, "-W", "error", "-c", block]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {span.name for span in receiver.spans} == {"execute_tool crackerjack-run", "RUN ci", "tests"}


async def test_the_log_has_the_same_ids(receiver: Receiver, tmp_path: Path) -> None:
    """An export of the log gives a thing the id that its live span has, secrets in its names or not."""
    secret = "sk-ant-api03-" + "a1B2" * 20
    given = [
        *quality_session(failed=["tests"]),
        *nodes(2, session="caf\udce9"),
        NodeCompleted(session_id="t", workflow_id="w", run_id=secret, node_id="me@example.com"),
        NodeCompleted(session_id="t", workflow_id="unnamed", node_id="a"),
        WorkflowCompleted(session_id="t", workflow_id="unnamed"),
        NodeCompleted(workflow_id="w", run_id="without a session", node_id="n"),
        SkillCompleted(skill_name="k"),
    ]
    async with EventBus([OtelSpans(receiver.url), JsonPersister(tmp_path)]) as bus:
        for event in given:
            bus.publish(event)
    with SessionHistory(EventLog(tmp_path)) as history:
        logged = [
            span
            for session in history.sessions()
            for span in session_spans(history.events(session.session_id), session)
            if span.attributes["eventbus.outcome"] != "unfinished"
        ]
    assert ids(receiver.spans) == {(f"{span.trace_id:032x}", f"{span.span_id:016x}") for span in logged}
    assert secret not in str(receiver.spans)
    assert "me@example.com" not in str(receiver.spans)


def test_two_processes_and_one_session_are_one_trace(receiver: Receiver) -> None:
    """The nodes of both processes are children of the run that one of them ends."""
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "10"}
    killed, ended = (
        subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, *arguments], env=environment, stdout=subprocess.PIPE, text=True
        )
        for arguments in (("lint", "wait"), ("tests", "end"))
    )
    with killed, ended:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "begun\n"
        assert ended.wait(30) == 0
        anyio.run(receiver.has, 3)
        killed.kill()
    spans = {span.name: span for span in receiver.spans}
    assert sorted(spans) == ["RUN ci", "lint", "tests"]  # the killed one's open run alone is lost
    assert len({span.trace_id for span in receiver.spans}) == 1
    assert spans["lint"].parent_id == spans["tests"].parent_id == spans["RUN ci"].span_id


async def test_a_burst_is_sent_whole(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """More spans at once than the SDK's queue holds are all sent."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32")
    subscriber = OtelSpans(receiver.url)
    await send(subscriber, *nodes(500))
    assert subscriber.statistics().sent == len(ids(receiver.spans)) == 500


async def test_a_collector_that_hangs(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing goes on as without it, the close ends at its deadline, and nothing is said to be sent."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    receiver.may_answer.clear()
    subscriber = OtelSpans(receiver.url)
    given = nodes(100)
    async with EventBus([subscriber]) as bus:
        began = time.perf_counter()
        for event in given:
            bus.publish(event)
        took = time.perf_counter() - began
        closing = time.monotonic()
        report = await bus.aclose(timeout=0.3)
    assert time.monotonic() - closing < 1.0
    assert took < 0.1
    assert not report.complete
    assert subscriber.statistics().sent == 0
    receiver.may_answer.set()


async def test_the_stop_does_not_wait_for_a_collector_that_hangs(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its stop takes at most 1.5 s, and logs how many spans were not sent."""
    monkeypatch.setattr("eventbus_subscribers.otel_spans.STOP_SECONDS", 0.05)
    receiver.may_answer.clear()
    began = time.monotonic()
    await send(OtelSpans(receiver.url), *nodes(3))
    assert time.monotonic() - began < 2.0
    assert [each.getMessage() for each in caplog.records] == ["otel_spans: not sent: 3 spans"]
    receiver.may_answer.set()


async def test_a_collector_that_is_absent(
    nobody: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is one line in the log, however often the exporter tries, and delays the end by one attempt only."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    subscriber = OtelSpans(nobody)
    began = time.monotonic()
    await send(subscriber, *nodes(20))
    assert time.monotonic() - began < 1.4
    (said,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert said.startswith("otel_spans: not sent: 20 spans: ")
    assert "refused" in said
    assert subscriber.statistics().sent == 0


async def test_a_collector_that_refuses(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """Refused spans are counted, and logged with the reason."""
    receiver.status = 401
    subscriber = OtelSpans(receiver.url, {"x-key": "k"})
    await send(subscriber, *nodes(3))
    assert subscriber.statistics()[:3] == (0, 3, 0)
    assert "401" in subscriber.statistics().problem
    assert caplog.records[-1].getMessage().startswith("otel_spans: not sent: 3 spans: ")
    assert receiver.headers[0]["x-key"] == "k"


async def test_the_variables_of_the_sdk_count(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Address, headers and the service's name come from `OTEL_*` unless they are given."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-from=environment")
    await send(OtelSpans(), *nodes(1))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    await send(OtelSpans(), *nodes(1))
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs")
    await send(OtelSpans(), *nodes(1))
    assert [span.service for span in receiver.spans] == ["eventbus", "mine", "theirs"]
    assert receiver.headers[0]["x-from"] == "environment"


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("TRACEPARENT", f"00-{'1' * 32}-{'2' * 16}-00")]
)
async def test_nothing_is_sent(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A disabled SDK, and a trace that is not sampled, send nothing, and nothing is lost."""
    monkeypatch.setenv(name, value)
    subscriber = OtelSpans(receiver.url)
    await send(subscriber, *nodes(3))
    assert receiver.spans == []
    assert subscriber.statistics() == (0, 0, 0, "")


async def test_a_foreign_parent(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """`TRACEPARENT` is read when the bus starts: its trace is the trace, its span the parent."""
    subscriber = OtelSpans(receiver.url)
    monkeypatch.setenv("TRACEPARENT", f"00-{'1' * 32}-{'2' * 16}-01")
    await send(subscriber, *quality_session())
    assert {span.trace_id for span in receiver.spans} == {"1" * 32}
    assert {span.parent_id for span in receiver.spans if span.attributes["eventbus.kind"] != "node"} == {
        "2" * 16
    }


async def test_no_global_provider_is_made(receiver: Receiver) -> None:
    """The providers of a program that uses OpenTelemetry itself stay as they are."""
    before = trace.get_tracer_provider(), metrics.get_meter_provider()
    await send(OtelSpans(receiver.url), *nodes(1))
    assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == before
    assert len(receiver.spans) == 1


async def test_what_the_programs_own_exporter_logs_is_logged(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages of an exporter of the program's own are not kept from its log."""
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    async with EventBus([OtelSpans(receiver.url)]) as bus:
        for event in nodes(3):
            bus.publish(event)
        await bus.drain()
        logger.warning("of the program's own")
    assert [each.getMessage() for each in caplog.records] == ["of the program's own"]
    assert not logger.filters


async def test_events_that_are_lost(receiver: Receiver) -> None:
    """Events that overflow the mailbox are counted."""
    subscriber = OtelSpans(receiver.url)
    subscriber.capacity = 4
    bus = EventBus([subscriber])
    for event in nodes(10):  # before it runs
        bus.publish(event)
    async with bus:
        pass
    assert subscriber.lost == 6
    assert len(receiver.spans) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_sends_its_own(receiver: Receiver) -> None:
    """A forked child that runs its bus sends its own spans, and none of its parent's."""
    subscriber = OtelSpans(receiver.url)
    bus = EventBus([subscriber])
    with bus:
        bus.publish(nodes(1)[0])
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with bus:  # the child's own copy
                    bus.publish(nodes(2)[1])
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    assert sorted(span.name for span in receiver.spans) == ["n0", "n1"]


def test_it_is_off_by_default(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only settings load it; a project can choose neither the address nor the headers."""
    assert "otel_spans" in load_settings().left_out
    (own,) = [each for each in find_plugins() if each.name == "otel_spans"]
    (tmp_path / "pyproject.toml").write_text(
        '[tool.eventbus]\nenabled = ["otel_spans"]\n[tool.eventbus.plugins.otel_spans]\nendpoint = "http://evil"\n'
    )
    settings = load_settings(tmp_path)
    assert "otel_spans" not in settings.left_out
    (failed,) = load_plugins([own], tables=settings.plugins).failed
    assert "endpoint" in failed.reason
