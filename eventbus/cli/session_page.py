"""One session as one HTML page: made from the log, so that every old session has one.

It needs no network, no script and no font, and opens from a mail as from a web server. Its figures are
those of ``eventbus show``; the chart shows when each skill, run and node ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from eventbus.cli.humanize import duration, local_time, of_attempt, quantity
from eventbus.cli.session_screen import Look, tally, verdict
from eventbus.cli.timeline import EventLines
from eventbus.correlation import CorrelatedSession
from eventbus.events import Event
from eventbus.events.printable import printable
from eventbus.ground.session_names import spell
from eventbus.views import NodeView, RunView, SessionView, SkillView
from eventbus.views.session_view import ViewOutcome

__all__ = ["session_page"]

_MAX_EVENTS = 5_000
_MAX_BARS = 500
_MAX_MESSAGE = 2_000
_MAX_LABEL = 26
_OUTCOMES = ("succeeded", "failed", "cancelled", "skipped", "open", "unfinished")
_BAD = ("failed", "unfinished", "cancelled")
_LABELS, _CHART, _ROW, _AXIS = 200, 900, 20, 20  # of the chart, in its own units
_TICKS = 5
_SHORTEST = 1e-3  # seconds
_FAR = 0.9  # of the chart: a bar that ends there has its number before it


class _Row(NamedTuple):
    """A skill, a run or an attempt at a node."""

    name: str
    outcome: ViewOutcome
    began: datetime | None
    seconds: float | None
    depth: int
    details: str


def session_page(view: SessionView, session: CorrelatedSession, events: Sequence[Event]) -> str:
    """Return a page about a session.

    Args:
        view: Its skills, runs and nodes.
        session: Its figures.
        events: Its events in order; of more than 5,000, the first are listed.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("eventbus.cli").joinpath("session_page.html").read_text("utf-8"))
    rows = list(_rows(view))
    bars, ticks = _chart(rows, view)
    lines = EventLines()
    listed = [line for event in events[:_MAX_EVENTS] if (line := lines.line(event)) is not None]
    more = f", of them the first {_MAX_EVENTS:,} are listed" if len(events) > _MAX_EVENTS else ""
    headline = verdict(view, session, Look())
    lost = quantity(session.events_lost, "event")
    return template.render(
        title=headline,
        verdict=headline,
        outcome=session.outcome,
        outcomes=_OUTCOMES,
        session=printable(spell(session.session_id), scrubbed=False),
        began=local_time(session.start_time),
        skills=", ".join(map(printable, session.skill_names)),
        tally=tally(view, session),
        lost=f"Up to {lost} lost; the figures may be too low." if session.events_lost else "",
        failures=[_failure(node) for node in view.nodes() if node.outcome in _BAD],
        bars=bars,
        ticks=ticks,
        chart={"width": _LABELS + _CHART + 60, "height": len(bars) * _ROW + _AXIS},
        rows=[_cells(row, view) for row in rows],
        event_count=f"{quantity(len(events), 'event')}{more}",
        events=listed,
    )


def _rows(view: SessionView) -> Iterator[_Row]:
    for skill in view.skills.values():
        yield _Row(_skill_name(skill), skill.outcome, skill.began, skill.seconds, 0, _skill_details(skill))
    for run in view.runs.values():
        yield _Row(printable(run.workflow_id), run.outcome, run.began, run.seconds, 0, _run_details(run))
        for node in run.nodes():
            yield _Row(
                of_attempt(node.node_id, node.attempt),
                node.outcome,
                node.began,
                node.seconds,
                1,
                _node_details(node),
            )


def _skill_name(skill: SkillView) -> str:
    return f"skill {printable(skill.skill_name)}"


def _skill_details(skill: SkillView) -> str:
    then = f"then {', '.join(map(printable, skill.follow_up_actions))}" if skill.follow_up_actions else ""
    return ", ".join(filter(None, (_text(skill.path), _text(skill.error_type), then)))


def _run_details(run: RunView) -> str:
    code = "" if run.exit_code is None else f"exit code {run.exit_code}"
    return ", ".join(filter(None, (code, _text(run.error_type))))


def _node_details(node: NodeView) -> str:
    failed = len(node.hooks_that("failed"))
    hooks = f"{len(node.hooks)} hooks, {failed} failed" if node.hooks else ""
    passes = f"{node.passes} passes" if node.passes > 1 else ""
    return ", ".join(filter(None, (_text(node.error_type), hooks, passes)))


def _failure(node: NodeView) -> dict[str, str]:
    hooks = [
        printable(hook.name) + ("" if hook.seconds is None else f" {duration(hook.seconds)}")
        for hook in node.hooks_that("failed")
    ]
    return {
        "name": of_attempt(node.node_id, node.attempt),
        "outcome": node.outcome,
        "error": _text(node.error_type),
        "hooks": ", ".join(hooks),
        "message": printable(node.error_message, _MAX_MESSAGE) if node.error_message else "",
        "took": _took(node.seconds),
    }


def _cells(row: _Row, view: SessionView) -> dict[str, object]:
    since = (row.began - view.began).total_seconds() if row.began and view.began else None
    return {
        "name": row.name,
        "is_part": row.depth > 0,
        "outcome": row.outcome,
        "outcome_class": row.outcome.replace(" ", "-"),
        "began": "-" if since is None else f"+{duration(max(0.0, since))}",
        "took": _took(row.seconds),
        "details": row.details,
    }


def _chart(
    rows: Sequence[_Row], view: SessionView
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return the bars of what ran, and the marks of the axis."""
    if view.began is None or view.ended is None:
        return [], []
    total = (view.ended - view.began).total_seconds()
    # What has not ended reaches to the last event.
    spans = [
        (row, since, row.seconds if row.seconds is not None else max(0.0, total - since))
        for row in rows
        if row.began is not None
        for since in [max(0.0, (row.began - view.began).total_seconds())]
    ][:_MAX_BARS]
    whole = max([_SHORTEST, *(since + seconds for _, since, seconds in spans)])
    bars: list[dict[str, object]] = []
    for number, (row, since, seconds) in enumerate(spans):
        x, width = since / whole * _CHART, max(1.0, seconds / whole * _CHART)
        is_far = x + width > _CHART * _FAR
        bars.append(
            {
                "y": number * _ROW,
                "x": round(_LABELS + x, 1),
                "width": round(width, 1),
                "indent": row.depth * 12,
                "label": _short(row.name),
                "name": row.name,
                "outcome": row.outcome,
                "took": _took(row.seconds),
                "text_x": round(_LABELS + (x - 4 if is_far else x + width + 4), 1),
                "anchor": "end" if is_far else "start",
            }
        )
    ticks: list[dict[str, object]] = [
        {"x": round(_LABELS + part / _TICKS * _CHART, 1), "text": duration(whole * part / _TICKS)}
        for part in range(_TICKS + 1)
    ]
    return bars, ticks


def _short(name: str) -> str:
    return name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 1]}…"


def _took(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _text(value: str | None) -> str:
    return printable(value) if value else ""
