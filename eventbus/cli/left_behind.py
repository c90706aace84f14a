"""What a session began or planned and never ended: its open skills, runs, nodes and hooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from eventbus.events import (
    Event,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    NodeStarted,
    SkillCompleted,
    SkillEvent,
    SkillStarted,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
)
from eventbus.events.printable import printable

__all__ = ["LeftBehind", "left_behind", "of_attempt"]

_Key = tuple[str, ...]


class LeftBehind(NamedTuple):
    """What a session left behind, as names for people.

    Attributes:
        begun: Skills, runs, nodes and hooks that began and did not end.
        not_run: Planned nodes that had no attempt.
    """

    begun: list[str]
    not_run: list[str]


def left_behind(events: Iterable[Event]) -> LeftBehind:
    """Return what the events of a session began or planned and did not end."""
    begun: dict[_Key, str] = {}
    planned: dict[_Key, str] = {}
    ended: set[_Key] = set()
    for event in events:
        if isinstance(event, SkillEvent | WorkflowEvent):
            _note(event, begun, planned, ended)
    return LeftBehind([name for key, name in begun.items() if key not in ended], list(planned.values()))


def of_attempt(node_id: str, attempt: int) -> str:
    """Return the name of an attempt at a node."""
    return printable(node_id) if attempt == 1 else f"{printable(node_id)}, attempt {attempt}"


def _note(
    event: SkillEvent | WorkflowEvent, begun: dict[_Key, str], planned: dict[_Key, str], ended: set[_Key]
) -> None:
    match event:
        case SkillStarted():
            begun["skill", event.invocation_id] = f"skill {printable(event.skill_name)}"
        case SkillCompleted():
            ended.add(("skill", event.invocation_id))
        case WorkflowStarted():
            _begin_run(event, begun, planned, ended)
        case WorkflowCompleted():
            ended.add(_run(event))
        case NodeEvent():
            _note_node(event, begun, planned, ended)
        case _:
            pass


def _begin_run(
    event: WorkflowStarted, begun: dict[_Key, str], planned: dict[_Key, str], ended: set[_Key]
) -> None:
    run = _run(event)
    if event.run_id is None:  # without an id, each start is another run
        ended.discard(run)
    begun[run] = f"workflow {printable(event.workflow_id)}"
    planned.update({(*run, node_id): printable(node_id) for node_id in event.nodes})


def _note_node(event: NodeEvent, begun: dict[_Key, str], planned: dict[_Key, str], ended: set[_Key]) -> None:
    node = (*_run(event), event.node_id)
    planned.pop(node, None)
    attempt = (*node, str(event.attempt))
    if isinstance(event, NodeStarted):
        begun[attempt] = of_attempt(event.node_id, event.attempt)
        ended.discard(attempt)
    elif isinstance(event, NodeCompleted):
        ended.add(attempt)
    elif isinstance(event, NodeProgress) and "hook" in event.metadata:
        hook = (*attempt, str(event.metadata["hook"]))
        begun[hook] = f"{of_attempt(event.node_id, event.attempt)}: {printable(event.metadata['hook'])}"
        (ended.discard if event.metadata.get("status") == "running" else ended.add)(hook)


def _run(event: WorkflowEvent) -> _Key:
    return ("run", event.workflow_id, event.run_id or "")
