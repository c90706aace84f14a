"""What a session began or planned and never ended: its open skills, runs, nodes and hooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import starmap
from typing import NamedTuple

from eventbus.cli.humanize import of_attempt
from eventbus.correlation import CorrelatedFigures, OpenItems
from eventbus.events import Event, NodeProgress, SkillEvent, WorkflowEvent
from eventbus.events.printable import printable

__all__ = ["LeftBehind", "left_behind"]


class LeftBehind(NamedTuple):
    """What a session left behind, as names for people.

    Attributes:
        begun: Skills, runs, nodes and hooks that began and did not end.
        not_run: Planned nodes that had no attempt.
    """

    begun: list[str]
    not_run: list[str]


def left_behind(session_id: str, events: Sequence[Event]) -> LeftBehind:
    """Return what a session began or planned and did not end, by its events."""
    correlation = CorrelatedFigures(None, None)
    correlation.add_all(events)
    items = correlation.open_items(session_id)
    begun = [
        *_skills(items, events),
        *_runs(items, events),
        *starmap(of_attempt, items.attempts),
        *_hooks(events),
    ]
    return LeftBehind(begun, list(map(printable, items.not_run)))


def _skills(items: OpenItems, events: Sequence[Event]) -> Iterator[str]:
    names = {each.invocation_id: each.skill_name for each in events if isinstance(each, SkillEvent)}
    for invocation_id in items.invocations:
        yield f"skill {printable(names[invocation_id])}"


def _runs(items: OpenItems, events: Sequence[Event]) -> Iterator[str]:
    names = {each.run_id: each.workflow_id for each in events if isinstance(each, WorkflowEvent)}
    for run in items.runs:
        yield f"workflow {printable(names[run] if isinstance(run, str) else run[0])}"


def _hooks(events: Sequence[Event]) -> Iterator[str]:
    """Yield the hooks of crackerjack that are running; a correlation does not count them."""
    running: dict[tuple[object, ...], str] = {}
    for event in events:
        if isinstance(event, NodeProgress) and "hook" in event.metadata:
            hook = printable(event.metadata["hook"])
            key = event.workflow_id, event.run_id, event.node_id, event.attempt, hook
            running.pop(key, None)
            if event.metadata.get("status") == "running":
                running[key] = f"{of_attempt(event.node_id, event.attempt)}: {hook}"
    yield from running.values()
