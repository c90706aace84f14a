"""How a skill, a run, a node or a session ended: one word each, in code, in JSON and on the screen.

succeeded    it did its work
failed       it did not
cancelled    it was interrupted, or given up without an error
skipped      there was nothing left to do
open         it is still going
unfinished   it never ended, and its writer is gone
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from eventbus.events.vocabulary import NodeCompleted, SkillCompleted, WorkflowCompleted

__all__ = ["DETACHED", "Outcome", "is_detached", "outcome_of", "skill_outcome", "status_outcome"]

Outcome: TypeAlias = Literal["succeeded", "failed", "cancelled", "skipped", "open", "unfinished"]

DETACHED: Final = "detached"
"""The key that is true in the metadata of a skill's start if another process will publish its end."""

_OF_STATUS: dict[str, Outcome] = {
    "ok": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "skipped": "skipped",
}
_INTERRUPTIONS = frozenset(
    {"Cancelled", "CancelledError", "GeneratorExit", "KeyboardInterrupt", "SystemExit"}
)


def is_detached(started: Any) -> bool:
    """Return True for the start of a skill that is open although its writer is gone.

    The commands of a shell or an agent are short processes, and the skill goes on between them.
    """
    metadata: Any = getattr(started, "metadata", None)  # an object folded like an event may have none
    return bool(metadata) and metadata.get(DETACHED) is True


def outcome_of(event: NodeCompleted | WorkflowCompleted | SkillCompleted) -> Outcome:
    """Return the outcome that an event of an end reports.

    A skill that ended without being completed failed if an exception ended it, and was cancelled if
    that only interrupts, or if there was none.
    """
    if isinstance(event, SkillCompleted):
        return skill_outcome(event.completed, event.error_type)
    return status_outcome(event.status)


def status_outcome(status: str) -> Outcome:
    """Return the outcome that a node or a run reports by its status."""
    return _OF_STATUS.get(status, "failed")  # a status of a later version is not a success


def skill_outcome(completed: bool, error_type: str | None) -> Outcome:
    """Return the outcome of a skill invocation that has ended."""
    if completed:
        return "succeeded"
    return "failed" if error_type and error_type not in _INTERRUPTIONS else "cancelled"
