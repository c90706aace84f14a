"""Group events by a partition key, so that a session is known from the events of one key.

The key of an event is its session; of an event without a session, its run or its skill invocation.
Runs without a session and without an id differ only in their order, so all such runs of one workflow
have the same key, and several buckets (see `eventbus.correlation`) are known from it.

Links between sessions are events of their session, and have one key more, under which all of them are found.

A key is text that can be stored: its ids are spelled (see `eventbus.ground.session_names`).
"""

from __future__ import annotations

from typing import Any

from eventbus.correlation import UNATTRIBUTED
from eventbus.ground.session_names import spell, unspell

__all__ = ["LINKS", "has_several_sessions", "partition_key", "partition_key_of_session", "session_id_of"]

LINKS = "links:"
"""The key of all `SessionLinked`, beside that of their session."""
_SESSION, _RUN, _SKILL, _WORKFLOW = "session:", "run:", "skill:", "workflow:"


def partition_key(event: Any) -> str | None:
    """Return an event's key; None for an event that belongs to no session, run or invocation."""
    key = _key_of(event)
    return None if key is None else spell(key)


def _key_of(event: Any) -> str | None:
    if event.session_id:
        return f"{_SESSION}{event.session_id}"
    workflow_id = getattr(event, "workflow_id", None)
    if workflow_id is not None:
        return f"{_RUN}{event.run_id}" if event.run_id else f"{_WORKFLOW}{workflow_id}"
    invocation_id = getattr(event, "invocation_id", None)
    return None if invocation_id is None else f"{_SKILL}{invocation_id}"


def partition_key_of_session(name: str) -> str:
    """Return the key of the events of a session or bucket."""
    if not name.startswith(UNATTRIBUTED):
        return spell(f"{_SESSION}{name}")
    key = spell(name.removeprefix(UNATTRIBUTED))
    return key.rpartition("@")[0].rpartition("#")[0] if key.startswith(_WORKFLOW) else key


def has_several_sessions(key: str) -> bool:
    """Return True if several buckets may be known from the events of a key."""
    return key.startswith(_WORKFLOW)


def session_id_of(key: str) -> str | None:
    """Return the session id in a key; None for the keys of buckets."""
    return unspell(key.removeprefix(_SESSION)) if key.startswith(_SESSION) else None
