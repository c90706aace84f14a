"""What ended, as the spans of a trace. Pure, and without OpenTelemetry: these are descriptions of spans.

A span's id is a hash of what it is about, so that each process, and the export from the log, gives the
same thing the same id without knowing of the others: the trace is the session, and the parent of a node
is its run, whoever sends them. Rejected: random ids, which one process would have to hand to the next; a
span for the session, the parent of all, which nobody can end and which viewers would miss.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias

import msgspec

from eventbus.correlation.inferred_runs import AttemptKey
from eventbus.correlation.span import before, finite_seconds
from eventbus.events import NodeCompleted, SkillCompleted, WorkflowCompleted
from eventbus.events.outcomes import Outcome, outcome_of
from eventbus.events.printable import printable
from eventbus.ground.session_names import spell
from eventbus.views.span_conventions import ERROR_OF_NO_TYPE, Kind, attributes_of, result_of

__all__ = [
    "EndEvent",
    "NodeSubject",
    "RunSubject",
    "SkillSubject",
    "Span",
    "SpanEvent",
    "State",
    "Subject",
    "TraceParent",
    "describe",
    "nanoseconds",
    "state_of",
]

EndEvent: TypeAlias = SkillCompleted | WorkflowCompleted | NodeCompleted
"""The events that end a skill, a run and a node."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_NANOSECOND = 2**63 - 1
_MAX_TEXT = 1_000
_TRACE_BYTES, _SPAN_BYTES = 16, 8
_traceparent = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)


class TraceParent(NamedTuple):
    """The span of another program that began this one, as in the variable ``TRACEPARENT``.

    Attributes:
        trace_id: Its trace, which takes the place of the session's own.
        span_id: Its id: the parent of skills and runs.
        is_sampled: False if its trace is not recorded.
    """

    trace_id: int
    span_id: int
    is_sampled: bool = True

    @classmethod
    def parse(cls, text: str) -> TraceParent | None:
        """Return what a text in W3C's format names; None if it is not in that format."""
        found = _traceparent.fullmatch(text.strip())
        if found is None or (text.startswith("00") and found[4]):
            return None
        return cls(int(found[1], 16), int(found[2], 16), bool(int(found[3], 16) & 1))


class SkillSubject(NamedTuple):
    """An invocation of a skill, as what a span is about."""

    session: str | None
    skill_name: str
    invocation_id: str

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it different from all others."""
        return "skill", self.session, self.invocation_id


class RunSubject(NamedTuple):
    """A run: of one without an id, `first_seen` is the time of its first event."""

    session: str | None
    workflow_id: str
    run_id: str | None
    first_seen: str | None = None

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it different from all others."""
        return "run", *self

    @property
    def name(self) -> str:
        """Its id, or a name in place of one."""
        return self.run_id or f"{self.workflow_id}@{self.first_seen}"


class NodeSubject(NamedTuple):
    """An attempt at a node of a run."""

    run: RunSubject
    node_id: str
    attempt: AttemptKey

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes it different from all others."""
        return "node", *self.run, self.node_id, self.attempt

    @property
    def name(self) -> str:
        """A name that no other attempt of the run has."""
        attempt = self.attempt if isinstance(self.attempt, int) else ".".join(map(str, self.attempt))
        return f"{self.node_id}#{attempt}"


Subject: TypeAlias = SkillSubject | RunSubject | NodeSubject


class State(NamedTuple):
    """How a skill, a run or a node stands.

    Attributes:
        began: When it began.
        ended: When it ended; of what has not, the time of the last event around it.
        outcome: How it ended.
        error_type: The type of the exception that ended it.
        error_message: The exception's message.
        details: Further facts.
    """

    began: datetime
    ended: datetime
    outcome: Outcome
    error_type: str | None = None
    error_message: str | None = None
    details: Mapping[str, Any] = {}


class SpanEvent(NamedTuple):
    """Something that happened in a span, at a time in nanoseconds since 1970."""

    name: str
    time: int
    attributes: Mapping[str, Any]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a span. Times are nanoseconds since 1970; texts are printable.

    Attributes:
        trace_id: The id of its trace, 16 bytes.
        span_id: Its id, 8 bytes.
        parent_id: The span above it; None for the first of a trace.
        is_parent_foreign: True if the parent is a span of another program.
        is_sampled: False if its trace is not recorded.
        kind: What it is about.
        name: Its name.
        began: When it began.
        ended: When it ended.
        is_error: True if it failed or never ended.
        message: What it failed with; empty if it did not.
        attributes: Its attributes.
        events: What happened in it.
    """

    trace_id: int
    span_id: int
    parent_id: int | None
    is_parent_foreign: bool
    is_sampled: bool
    kind: Kind
    name: str
    began: int
    ended: int
    is_error: bool
    message: str
    attributes: dict[str, Any]
    events: tuple[SpanEvent, ...] = ()


def state_of(event: EndEvent, began: datetime | None = None) -> State:
    """Return the state that an end reports.

    Args:
        event: The end.
        began: When it began, if that is known: for an end without a duration.
    """
    details: dict[str, Any] = {}
    if isinstance(event, SkillCompleted):
        details = {
            "workflow_path": event.workflow_path and _text(event.workflow_path),
            "follow_up_actions": tuple(map(_text, event.follow_up_actions)) or None,
        }
    elif isinstance(event, WorkflowCompleted):
        code = event.metadata.get("exit_code")
        details = {"exit_code": code if type(code) is int and abs(code) < 2**63 else None}
    seconds = event.duration_seconds
    return State(
        (began or event.timestamp) if seconds is None else before(event.timestamp, finite_seconds(seconds)),
        event.timestamp,
        outcome_of(event),
        event.error_type,
        event.error_message if isinstance(event, NodeCompleted) else None,
        details,
    )


def describe(
    subject: Subject,
    state: State,
    *,
    root: TraceParent | None = None,
    parent: SkillSubject | None = None,
    events: tuple[SpanEvent, ...] = (),
) -> Span:
    """Return the span of a skill, a run or an attempt at a node.

    Args:
        subject: What it is about.
        state: How that stands.
        root: The span of another program that began this one.
        parent: The skill that a run belongs to, if that is known.
        events: What happened in it.
    """
    kind, name, facts = _kind_name_and_facts(subject)
    above = subject.run if isinstance(subject, NodeSubject) else parent
    is_error = state.outcome in ("failed", "unfinished")
    error = _error(state) if is_error else None
    ended = nanoseconds(state.ended)
    return Span(
        trace_id=_trace_id(subject) if root is None else root.trace_id,
        span_id=_hash(_SPAN_BYTES, *subject.identity),
        parent_id=_hash(_SPAN_BYTES, *above.identity) if above else root.span_id if root else None,
        is_parent_foreign=above is None and root is not None,
        is_sampled=root is None or root.is_sampled,
        kind=kind,
        name=name,
        began=min(nanoseconds(state.began), ended),
        ended=ended,
        is_error=is_error,
        message=_text(state.error_message or state.error_type or state.outcome) if is_error else "",
        attributes=attributes_of(
            kind,
            {
                "kind": kind,
                "outcome": state.outcome,
                "result": result_of(state.outcome),
                "error": error,
                **state.details,
                **facts,
            },
        ),
        events=events,
    )


def nanoseconds(time: datetime) -> int:
    """Return a time in nanoseconds since 1970; one before that, or after 2262, as near as can be sent."""
    return min(max(0, (time - _EPOCH) // _MICROSECOND * 1_000), _LAST_NANOSECOND)


def _error(state: State) -> str:
    if state.error_type:
        return _text(state.error_type)
    return ERROR_OF_NO_TYPE if state.outcome == "failed" else state.outcome


def _kind_name_and_facts(subject: Subject) -> tuple[Kind, str, dict[str, Any]]:
    match subject:
        case SkillSubject():
            skill_name = _text(subject.skill_name)
            facts: dict[str, Any] = {
                "skill_name": skill_name,
                "invocation_id": _text(subject.invocation_id),
                "operation": "execute_tool",
            }
            return "skill", f"execute_tool {skill_name}", facts | _session_fact(subject.session)
        case RunSubject():
            return "run", f"RUN {_text(subject.workflow_id)}", {**_run_facts(subject), "action": "RUN"}
        case NodeSubject():
            attempt = subject.attempt
            facts = {
                "node_id": _text(subject.node_id),
                "attempt": attempt if isinstance(attempt, int) else attempt[0],
                "task": _text(subject.name),
            }
            return "node", facts["node_id"], _run_facts(subject.run) | facts


@lru_cache(maxsize=1_024)
def _run_facts(run: RunSubject) -> dict[str, Any]:
    return {
        "workflow_id": _text(run.workflow_id),
        "run_id": run.run_id and _text(run.run_id),
        "run": _text(run.name),
        **_session_fact(run.session),
    }


def _session_fact(session: str | None) -> dict[str, Any]:
    return {"session": _text(spell(session)) if session else None}


def _trace_id(subject: Subject) -> int:
    """Return the trace of a session. What has no session has a trace for each run and each skill."""
    owner = subject.run if isinstance(subject, NodeSubject) else subject
    parts = ("session", owner.session) if owner.session else owner.identity
    return _hash(_TRACE_BYTES, *parts)


@lru_cache(maxsize=4_096)
def _hash(size: int, *parts: object) -> int:
    """Return a number of this size that other parts do not have, and that is not 0."""
    named = [spell(part) if isinstance(part, str) else part for part in parts]
    return int.from_bytes(sha256(msgspec.json.encode(named)).digest()[:size]) or 1


@lru_cache(maxsize=4_096)
def _text(text: str) -> str:
    # A log is scrubbed already, and so are the events that are sent as they happen.
    return printable(text, _MAX_TEXT, scrubbed=False)
