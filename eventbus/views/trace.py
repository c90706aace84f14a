"""Sessions as a trace in the JSON format that Perfetto and ``chrome://tracing`` open.

Each session is a process, and each lane of it a thread: one for skills, and for each run one for itself
and as many for its nodes as ran at once. Viewers silently leave out slices that overlap on one thread
without one containing the other, so slices that overlap are put on different lanes. Times are
microseconds from the start of the first session. The same sessions give the same bytes.

See https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (Trace Event Format).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from eventbus.events.printable import printable
from eventbus.ground.session_names import spell
from eventbus.views.session_view import NodeView, RunView, SessionView, SkillView, ViewOutcome

__all__ = ["trace_parts"]

_MICROSECOND = timedelta(microseconds=1)
_MAX_MESSAGE = 500
_COLORS = {"failed": "terrible", "unfinished": "terrible", "cancelled": "bad", "skipped": "grey"}
"""Names of colors that the viewers know; any other outcome gets the color of its name."""


class _Slice(NamedTuple):
    begin: int
    duration: int
    name: str
    outcome: ViewOutcome
    details: dict[str, Any]


def trace_parts(sessions: Iterable[SessionView]) -> Iterator[bytes]:
    """Generate the parts of a trace.

    Args:
        sessions: The views of the sessions, the earliest first. One without events is left out.
    """
    yield b'{"displayTimeUnit":"ms","traceEvents":['
    zero: datetime | None = None
    separator = b"\n"
    pid = 0
    for view in sessions:
        if view.began is None:
            continue
        zero = zero or view.began
        pid += 1
        for event in _session_events(view, pid, zero):
            yield separator + msgspec.json.encode(event)
            separator = b",\n"
    yield b"\n]}\n"


def _session_events(view: SessionView, pid: int, zero: datetime) -> Iterator[dict[str, Any]]:
    name = (
        "without a session" if view.session_id is None else printable(spell(view.session_id), scrubbed=False)
    )
    yield _metadata("process_name", pid, 0, name=f"session {name}")
    for tid, (title, lane) in enumerate(_lanes(view, zero), 1):
        yield _metadata("thread_name", pid, tid, name=title)
        yield _metadata("thread_sort_index", pid, tid, sort_index=tid)
        for each in lane:
            yield from _slice_events(each, pid, tid)


def _lanes(view: SessionView, zero: datetime) -> Iterator[tuple[str, list[_Slice]]]:
    """Generate the title and the slices of each lane, the skills first."""
    for lane in _packed(_skill(each, view, zero) for each in view.skills.values()):
        yield "1 skills", lane
    for number, run in enumerate(view.runs.values(), 2):
        title = f"{number} {printable(run.workflow_id)}"
        yield title, [_run(run, view, zero)]
        for lane in _packed(_node(each, view, zero) for each in run.nodes() if each.began is not None):
            yield f"{title}: nodes", lane


def _packed(slices: Iterable[_Slice]) -> list[list[_Slice]]:
    """Return slices on as few lanes as possible, none of which holds two that overlap."""
    lanes: list[list[_Slice]] = []
    for each in sorted(slices, key=lambda found: (found.begin, -found.duration)):
        free = (lane for lane in lanes if lane[-1].begin + lane[-1].duration <= each.begin)
        lane = next(free, None)
        if lane is None:
            lanes.append([each])
        else:
            lane.append(each)
    return lanes


def _skill(skill: SkillView, view: SessionView, zero: datetime) -> _Slice:
    details = {
        "path": skill.path,
        "follow_up_actions": list(map(printable, skill.follow_up_actions)),
        "error_type": skill.error_type,
    }
    return _slice(skill.began, skill.seconds, view, zero, skill.skill_name, skill.outcome, details)


def _run(run: RunView, view: SessionView, zero: datetime) -> _Slice:
    details = {"exit_code": run.exit_code, "error_type": run.error_type}
    return _slice(run.began, run.seconds, view, zero, run.workflow_id, run.outcome, details)


def _node(node: NodeView, view: SessionView, zero: datetime) -> _Slice:
    details = {
        "attempt": node.attempt if node.attempt != 1 else None,
        "error_type": node.error_type,
        "error_message": node.error_message,
        "hooks_failed": [printable(hook.name) for hook in node.hooks_that("failed")],
    }
    return _slice(node.began or zero, node.seconds, view, zero, node.node_id, node.outcome, details)


def _slice(  # noqa: PLR0917
    began: datetime,
    seconds: float | None,
    view: SessionView,
    zero: datetime,
    name: str,
    outcome: ViewOutcome,
    details: dict[str, Any],
) -> _Slice:
    """Return a slice; what has not ended reaches to the last event of its session."""
    begin = (began - zero) // _MICROSECOND
    if seconds is None:
        duration = max(0, ((view.ended or began) - began) // _MICROSECOND)
    else:
        duration = round(seconds * 1e6)
    given = {key: value for key, value in details.items() if value not in (None, [])}
    shown = {
        key: printable(each, _MAX_MESSAGE) if isinstance(each, str) else each for key, each in given.items()
    }
    return _Slice(begin, duration, printable(name), outcome, {"outcome": outcome, **shown})


def _slice_events(each: _Slice, pid: int, tid: int) -> Iterator[dict[str, Any]]:
    place = {"pid": pid, "tid": tid}
    event = {
        "ph": "X",
        "name": each.name,
        "cat": each.outcome,
        "ts": each.begin,
        "dur": each.duration,
        **place,
    }
    if each.outcome in _COLORS:
        event["cname"] = _COLORS[each.outcome]
    yield {**event, "args": each.details}
    if each.outcome == "failed":
        name = f"{each.name} failed"
        end = each.begin + each.duration
        yield {"ph": "i", "s": "t", "name": name, "cat": "failed", "ts": end, **place, "args": each.details}


def _metadata(kind: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args}
