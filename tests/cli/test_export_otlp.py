"""``eventbus export --format otlp``: a file that a collector reads, whole, and the same every time."""

from __future__ import annotations

import gzip
import json
import stat
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExportResult

from eventbus.events import Event, NodeCompleted, SessionLinked, WorkflowStarted
from eventbus.testing import quality_session
from tests.cli.test_show import FAILED, NOON, RUN, at, log_of
from tests.subscribers.otlp_receiver import Received, ids, spans_of

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
FOREIGN = f"00-{'1' * 32}-{'2' * 16}-01"


@pytest.fixture(autouse=True)
def _no_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACEPARENT", raising=False)


def read(lines: bytes) -> list[Received]:
    """Read lines of OTLP JSON as a collector does: ids are hexadecimal there, but not in protobuf's JSON."""
    requests = [
        ParseDict(_with_bytes(json.loads(line)), ExportTraceServiceRequest()) for line in lines.splitlines()
    ]
    return [span for request in requests for span in spans_of(request)]


def _with_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_bytes(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: b64encode(bytes.fromhex(each)).decode()
        if name in ("traceId", "spanId", "parentSpanId")
        else _with_bytes(each)
        for name, each in value.items()
    }


def exported(cli: Program, *arguments: object, **environment: str) -> list[Received]:
    done = cli("export", "--format", "otlp", *arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return read(done.stdout.encode())


def assert_no_orphans(spans: list[Received]) -> None:
    assert len(ids(spans)) == len(spans)
    assert {(span.trace_id, span.parent_id) for span in spans if span.parent_id} <= ids(spans)


def test_a_session_is_a_trace(cli: Program, tmp_path: Path) -> None:
    """A collector reads a skill with its run, the run's nodes, and the hooks of those as events."""
    spans = exported(cli, "--dir", log_of(tmp_path, *quality_session("a"), *FAILED))
    assert_no_orphans(spans)
    (skill,) = [span for span in spans if span.attributes["eventbus.kind"] == "skill"]
    runs = {
        span.attributes["session.id"]: span for span in spans if span.attributes["eventbus.kind"] == "run"
    }
    assert runs["a"].parent_id == skill.span_id
    assert runs["04f049c0"].parent_id == ""
    assert runs["a"].trace_id != runs["04f049c0"].trace_id
    (hooks,) = [span for span in spans if span.is_error and span.attributes["eventbus.kind"] == "node"]
    assert hooks.message.startswith("codespell found 3 misspellings")
    assert [name for name, _ in hooks.events] == [
        "hook codespell", "hook ruff", "hook codespell", "hook ruff", "hook mdformat"
    ]  # fmt: skip
    assert hooks.seconds == pytest.approx(55.5)
    assert {span.service for span in spans} == {"eventbus"}


def test_the_file_is_the_same_every_time(cli: Program, tmp_path: Path) -> None:
    """Exporting twice gives identical bytes, packed or not, in a file that only its owner reads."""
    log = log_of(tmp_path / "log", *quality_session("a"), *FAILED)
    for name in ("one.jsonl", "two.jsonl", "one.gz", "two.gz"):
        done = cli(
            "export", "--format", "otlp", "--dir", log, "--output", tmp_path / name, OTEL_SERVICE_NAME="x"
        )
        assert done.returncode == 0
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    plain, packed = ((tmp_path / f"one.{each}").read_bytes() for each in ("jsonl", "gz"))
    assert plain == (tmp_path / "two.jsonl").read_bytes()
    assert packed == (tmp_path / "two.gz").read_bytes()
    assert gzip.decompress(packed) == plain
    assert len(read(plain)) == 9


def test_a_large_session(cli: Program, tmp_path: Path) -> None:
    """There is a line for each 512 spans, over the sessions."""
    log = log_of(tmp_path, *(event for n in range(100) for event in quality_session(f"s{n}")))
    done = cli("export", "--format", "otlp", "--dir", log)
    assert len(done.stdout.splitlines()) == 2
    assert len(read(done.stdout.encode())) == 600
    assert_no_orphans(read(done.stdout.encode()))


def test_one_session_and_a_foreign_parent(cli: Program, tmp_path: Path) -> None:
    """TRACEPARENT counts for one session, and not for a whole log."""
    log = log_of(tmp_path, *quality_session("aaa"), *FAILED)
    (root,) = [
        span for span in exported(cli, "--dir", log, "aa", TRACEPARENT=FOREIGN) if span.parent_id == "2" * 16
    ]
    assert root.trace_id == "1" * 32
    assert root.attributes["session.id"] == "aaa"
    assert ids(exported(cli, "--dir", log, TRACEPARENT=FOREIGN)) == ids(exported(cli, "--dir", log))


def test_a_writer_that_is_gone(cli: Program, tmp_path: Path) -> None:
    """A run that its process did not end is an error, and its nodes have it as their parent."""
    spans = exported(cli, "--dir", log_of(tmp_path, *FAILED[:-1]))
    assert_no_orphans(spans)
    (run,) = [span for span in spans if span.attributes["eventbus.kind"] == "run"]
    assert run.attributes["eventbus.outcome"] == "unfinished"
    assert run.is_error
    assert run.seconds == pytest.approx(55.7)


def test_linked_sessions_keep_their_traces(cli: Program, tmp_path: Path) -> None:
    """Sessions that are joined have a trace each, as live."""
    job: dict[str, Any] = {"session_id": "job", "workflow_id": "w", "run_id": "1"}
    given: list[Event] = [
        *quality_session("a"),
        WorkflowStarted(**job, timestamp=NOON),
        NodeCompleted(**job, node_id="n", timestamp=NOON + timedelta(seconds=1)),
        SessionLinked(session_id="a", other="job", timestamp=NOON),
    ]
    spans = exported(cli, "--dir", log_of(tmp_path, *given), "a")
    assert_no_orphans(spans)
    assert len({span.trace_id for span in spans}) == 2


def test_events_without_a_session(cli: Program, tmp_path: Path) -> None:
    """They have a trace for each run."""
    given = [NodeCompleted(workflow_id="w", run_id=each, node_id="n", timestamp=NOON) for each in "12"]
    spans = exported(cli, "--dir", log_of(tmp_path, *given))
    assert_no_orphans(spans)
    assert len({span.trace_id for span in spans}) == 2
    assert len(spans) == 4


def test_without_the_extra(cli: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one error, which says how to install it, and the file that was there stays."""
    log = log_of(tmp_path / "log", *FAILED)
    (tmp_path / "t.jsonl").write_text("before")
    monkeypatch.delitem(sys.modules, "eventbus.integrations.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.json.file", None)
    done = cli("export", "--format", "otlp", "--dir", log, "--output", tmp_path / "t.jsonl")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "opentelemetry" in line
    assert "pip install 'anyio-eventbus[otel]'" in line
    assert (tmp_path / "t.jsonl").read_text() == "before"


def test_nothing_else_imports_it() -> None:
    """Neither the other formats, nor eventbus, nor the built-in subscribers import OpenTelemetry."""
    code = """
import sys
import eventbus.cli.export, eventbus.cli.app, eventbus.public_names, eventbus_subscribers
from eventbus_subscribers import ConsoleProgress, EventLogger, JsonPersister, LiveCorrelator
from eventbus.settings import Settings
from eventbus.runtime import build_runtime
build_runtime(Settings(directory=sys.argv[1]))
print([name for name in sys.modules if name.startswith(("opentelemetry", "requests"))])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "log"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n", done.stderr


def test_a_failure_of_the_exporter_leaves_no_file(
    cli: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a span cannot be written, no file is."""

    def fail(*_: object) -> SpanExportResult:
        return SpanExportResult.FAILURE

    monkeypatch.setattr("opentelemetry.exporter.otlp.json.file.FileSpanExporter.export", fail)
    log = log_of(tmp_path / "log", *FAILED, NodeCompleted(**RUN, **at(60), node_id="late"))
    with pytest.raises(AssertionError, match="unexpected RuntimeError"):
        cli("export", "--format", "otlp", "--dir", log, "--output", tmp_path / "t.jsonl")
    assert not list(tmp_path.glob("*t.jsonl*"))
