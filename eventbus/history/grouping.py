"""Lanes: the events that have to be read together to know one session.

A session's events are a lane; where an event has no session, its run's are, or its skill
invocation's. Runs with neither a session nor an id are told apart by their order, so that all such
of one workflow share a lane, and it holds several of the buckets named in `eventbus.correlation`.
"""

from __future__ import annotations

from typing import Any

from eventbus.correlation import UNATTRIBUTED

__all__ = ["holds_several", "lane_of", "lane_of_name", "session_of_lane"]

_SESSION, _RUN, _SKILL, _WORKFLOW = "session:", "run:", "skill:", "workflow:"


def lane_of(event: Any) -> str | None:
    """Return an event's lane; None for one that belongs to no session, run or invocation."""
    if event.session_id:
        return f"{_SESSION}{event.session_id}"
    workflow_id = getattr(event, "workflow_id", None)
    if workflow_id is not None:
        return f"{_RUN}{event.run_id}" if event.run_id else f"{_WORKFLOW}{workflow_id}"
    invocation_id = getattr(event, "invocation_id", None)
    return None if invocation_id is None else f"{_SKILL}{invocation_id}"


def lane_of_name(name: str) -> str:
    """Return the lane that a session or bucket is known from."""
    if not name.startswith(UNATTRIBUTED):
        return f"{_SESSION}{name}"
    lane = name.removeprefix(UNATTRIBUTED)
    return lane.rpartition("@")[0].rpartition("#")[0] if lane.startswith(_WORKFLOW) else lane


def holds_several(lane: str) -> bool:
    """Whether several buckets are known from one lane."""
    return lane.startswith(_WORKFLOW)


def session_of_lane(lane: str) -> str | None:
    """Return the session whose lane it is, if it is one's."""
    return lane.removeprefix(_SESSION) if lane.startswith(_SESSION) else None
