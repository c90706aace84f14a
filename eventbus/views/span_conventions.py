"""The attributes of spans: names of OpenTelemetry's semantic conventions, and our own.

The conventions are not stable, so all their names are here, as they were in semantic conventions 1.44.0
(``cicd.*``, ``error.type``, ``session.id``) and in the GenAI conventions of October 2026 (``gen_ai.*``).
An ``eventbus.*`` attribute is called like the field of the event, and stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from eventbus.events.outcomes import Outcome

__all__ = ["ATTRIBUTES", "ERROR_OF_NO_TYPE", "Kind", "attributes_of", "result_of"]

Kind: TypeAlias = Literal["skill", "run", "node", "hook"]

_COMMON: Final = {
    "session.id": "session",
    "eventbus.kind": "kind",
    "eventbus.outcome": "outcome",
    "error.type": "error",
}
ATTRIBUTES: Final[Mapping[Kind, Mapping[str, str]]] = {
    "skill": {
        **_COMMON,
        "eventbus.skill_name": "skill_name",
        "eventbus.invocation_id": "invocation_id",
        "eventbus.workflow_path": "workflow_path",
        "eventbus.follow_up_actions": "follow_up_actions",
        "gen_ai.operation.name": "operation",
        "gen_ai.tool.name": "skill_name",
        "gen_ai.tool.call.id": "invocation_id",
        "gen_ai.skill.name": "skill_name",
    },
    "run": {
        **_COMMON,
        "eventbus.workflow_id": "workflow_id",
        "eventbus.run_id": "run_id",
        "eventbus.exit_code": "exit_code",
        "cicd.pipeline.name": "workflow_id",
        "cicd.pipeline.run.id": "run",
        "cicd.pipeline.action.name": "action",
        "cicd.pipeline.result": "result",
    },
    "node": {
        **_COMMON,
        "eventbus.workflow_id": "workflow_id",
        "eventbus.run_id": "run_id",
        "eventbus.node_id": "node_id",
        "eventbus.attempt": "attempt",
        "cicd.pipeline.name": "workflow_id",
        "cicd.pipeline.run.id": "run",
        "cicd.pipeline.task.name": "node_id",
        "cicd.pipeline.task.run.id": "task",
        "cicd.pipeline.task.run.result": "result",
    },
    "hook": {
        "eventbus.hook": "hook",
        "eventbus.status": "status",
        "eventbus.duration_seconds": "duration_seconds",
    },
}
"""By the kind of span, or of the event in a span, the names of its attributes and of the facts in them."""

ERROR_OF_NO_TYPE: Final = "_OTHER"
"""The value of ``error.type`` for a failure without an exception."""

_RESULTS: Final[Mapping[Outcome, str]] = {
    "succeeded": "success",
    "failed": "failure",
    "cancelled": "cancellation",
    "skipped": "skip",
    "unfinished": "error",  # "due to the worker being killed", as the conventions put it
}


def attributes_of(kind: Kind, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes with these facts; a fact that is None has none."""
    return {
        attribute: value
        for attribute, fact in ATTRIBUTES[kind].items()
        if (value := facts.get(fact)) is not None
    }


def result_of(outcome: Outcome) -> str | None:
    """Return an outcome as the result of a pipeline; None while it is open."""
    return _RESULTS.get(outcome)
