"""``eventbus export``: write the sessions of a log in the formats of other programs."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from eventbus.cli.arguments import Option
from eventbus.cli.exit_codes import OK, USAGE, CommandError
from eventbus.cli.extras import from_extra
from eventbus.cli.options import LogDirectory, OneSession, choice
from eventbus.cli.output_file import write_output
from eventbus.cli.session_access import find_session, open_history
from eventbus.correlation import CorrelatedSession
from eventbus.history import legacy_formats as formats
from eventbus.history.session_history import SessionHistory
from eventbus.views import SessionView
from eventbus.views.span_fold import session_spans
from eventbus.views.trace import trace_parts

__all__ = ["export"]

_GZIP = 16 + zlib.MAX_WBITS

ExportFormat: TypeAlias = Literal[
    "correlation", "skill-metrics", "workflow-events", "session-buddy", "perfetto", "otlp"
]


def export(
    session: OneSession = None,
    directory: LogDirectory = None,
    form: Annotated[
        ExportFormat,
        choice(get_args(ExportFormat), "--format", help="The program to write for (default: %(default)s)."),
    ] = "correlation",
    output: Annotated[
        Path | None,
        Option(
            type=Path,
            metavar="FILE",
            help="The file to write, whole or not at all; .gz packs it. Default: standard output.",
        ),
    ] = None,
) -> int:
    """Export sessions in the formats of other programs.

    The file of --format perfetto is opened at https://ui.perfetto.dev, or with chrome://tracing. That of
    --format otlp has the spans of OpenTelemetry, a line of JSON for each 512.
    """
    if form == "session-buddy" and output is not None and output.name == formats.SKILL_METRICS_NAME:
        raise CommandError(
            f"{output.name} is the file of the format skill-metrics, whose readers would lose their history",
            "choose another file name",
            USAGE,
        )
    with open_history(directory) as history:
        sessions = _sessions(history, session)
        parts: Iterable[bytes] = (
            _otlp_parts(history, sessions, is_one=session is not None)
            if form == "otlp"
            else _parts(form, history, sessions)
        )
        if output is not None and output.suffix == ".gz":
            parts = _compressed(parts)
        if output is None:
            sys.stdout.flush()
            sys.stdout.buffer.writelines(parts)
        else:
            write_output(output, parts)
    return OK


def _sessions(history: SessionHistory, name: str | None) -> Iterator[CorrelatedSession]:
    if name is None:
        return history.sessions()
    session = history.session(find_session(history, name))
    return iter([session] if session else [])


def _otlp_parts(
    history: SessionHistory, sessions: Iterator[CorrelatedSession], *, is_one: bool
) -> Iterator[bytes]:
    with from_extra("otel", "opentelemetry", "google", "requests", wanted_by="this format"):
        from eventbus.integrations.otlp import json_lines, trace_parent_here  # noqa: PLC0415
    # One session may be that of the job around this command. A whole log is not one job.
    root = trace_parent_here() if is_one else None
    return json_lines(
        span for each in sessions for span in session_spans(history.events(each.session_id), each, root)
    )


def _parts(
    form: Literal["correlation", "skill-metrics", "workflow-events", "session-buddy", "perfetto"],
    history: SessionHistory,
    sessions: Iterator[CorrelatedSession],
) -> Iterable[bytes]:
    match form:
        case "correlation":
            return formats.correlation_parts(sessions)
        case "skill-metrics":
            return formats.skill_metrics_parts(formats.invocations_of(sessions))
        case "session-buddy":
            return formats.session_buddy_parts(formats.invocations_of(sessions))
        case "workflow-events":
            return formats.workflow_events_parts(each for one in sessions for each in one.workflow_events)
        case "perfetto":
            return trace_parts(_view(history, each) for each in sessions)


def _view(history: SessionHistory, session: CorrelatedSession) -> SessionView:
    return SessionView.of(history.events(session.session_id), session)


def _compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Generate parts in gzip's format, without a time: the same parts give the same bytes."""
    compressor = zlib.compressobj(wbits=_GZIP)
    for part in parts:
        yield compressor.compress(part)
    yield compressor.flush()
