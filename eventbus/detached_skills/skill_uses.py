"""One use of a skill, as far as the log knows it, and the events that begin and end it in two processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from eventbus.events import SkillCompleted, SkillEvent, SkillFollowedUp, SkillStarted
from eventbus.events.follow_ups import missing_actions
from eventbus.history.writer_lock import pid_space
from eventbus.session import new_id

__all__ = [
    "SkillUse",
    "completion",
    "is_of_this_terminal",
    "missing_actions",
    "new_start",
    "of_use",
    "use_of",
]

_BOOT, _MONOTONIC, _TERMINAL = "boot", "monotonic", "terminal"
_EventT = TypeVar("_EventT", bound=SkillEvent)


class SkillUse(NamedTuple):
    """One invocation, as far as the log knows it.

    Attributes:
        started: Its start.
        ended: Its end; None while it is open.
        follow_ups: Its follow-up actions with events of their own, in order.
    """

    started: SkillStarted
    ended: SkillCompleted | None = None
    follow_ups: tuple[str, ...] = ()

    @property
    def actions(self) -> tuple[str, ...]:
        """All follow-up actions."""
        mine = self.ended.follow_up_actions if self.ended else ()
        return (*mine, *missing_actions(self.follow_ups, mine))


def new_start(
    skill_name: str,
    workflow_path: str | None,
    session_id: str,
    metadata: dict[str, Any],
    invocation_id: str | None = None,
) -> SkillStarted:
    """Return a start, with the clock that `completion` measures its duration on, and the terminal."""
    clock = {_BOOT: pid_space(), _MONOTONIC: round(time.monotonic(), 6), _TERMINAL: _terminal()}
    return SkillStarted(
        session_id=session_id,
        skill_name=skill_name,
        workflow_path=workflow_path,
        invocation_id=invocation_id or new_id(),
        metadata={**metadata, **clock},
    )


def completion(
    started: SkillStarted,
    completed: bool = True,
    follow_up_actions: Sequence[str] = (),
    error_type: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> SkillCompleted:
    """Return the end of an invocation, now."""
    return of_use(
        started,
        SkillCompleted,
        completed=completed,
        duration_seconds=_seconds_since(started),
        follow_up_actions=tuple(follow_up_actions),
        error_type=error_type,
        metadata=metadata or {},
    )


def use_of(events: Iterable[SkillEvent]) -> SkillUse | None:
    """Return the invocation that has these events; None without its start."""
    started, ended, follow_ups = None, None, list[SkillFollowedUp]()
    for event in events:
        if isinstance(event, SkillStarted):
            started = started or event
        elif isinstance(event, SkillCompleted):
            ended = ended or event
        elif isinstance(event, SkillFollowedUp):
            follow_ups.append(event)
    if started is None:
        return None
    in_order = sorted(follow_ups, key=lambda each: each.timestamp)
    return SkillUse(started, ended, tuple(each.action for each in in_order))


def is_of_this_terminal(started: SkillStarted) -> bool:
    """Return True if a skill was started by a shell or a script that this process belongs to, too."""
    metadata = started.metadata
    return metadata.get(_TERMINAL) == _terminal() and None is not metadata.get(_BOOT) == pid_space()


def _terminal() -> int:
    """Return what the kernel calls a session: the processes of one terminal, or of one background job."""
    return os.getsid(0)


def of_use(started: SkillStarted, kind: type[_EventT], **fields: Any) -> _EventT:
    """Return a further event of an invocation, now."""
    return kind(
        session_id=started.session_id,
        skill_name=started.skill_name,
        invocation_id=started.invocation_id,
        workflow_path=started.workflow_path,
        **fields,
    )


def _seconds_since(started: SkillStarted) -> float:
    """Return the time since a start, on the monotonic clock if this is the same boot of the same host."""
    boot, began = started.metadata.get(_BOOT), started.metadata.get(_MONOTONIC)
    if boot is not None and boot == pid_space() and isinstance(began, int | float):
        return max(0.0, time.monotonic() - began)
    return max(0.0, (datetime.now(UTC) - started.timestamp).total_seconds())
