"""Detached skills: invocations that begin, go on and end in different processes.

    skills = DetachedSkills(load_settings())
    started = skills.start("crackerjack-run", "daily", session_id="abc123")
    ...                                                   # the process is gone
    skills = DetachedSkills(load_settings())
    use = skills.find(started.invocation_id)
    skills.end(use, follow_up_actions=["git commit"])

All state is in the log. Ends that are repeated, and two processes that end one invocation at once, count
once: the second finds the first, or correlation does.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from eventbus.appending import appending
from eventbus.events import SkillCompleted, SkillEvent, SkillFollowedUp, SkillStarted
from eventbus.events.outcomes import DETACHED
from eventbus.history.skill_segments import SkillSegments, digest
from eventbus.history.writer_lock import pid_space
from eventbus.session import new_id
from eventbus.settings import Settings

__all__ = ["DetachedSkills", "SkillUse", "completion", "new_start", "tag_of_invocation", "use_of"]

_BOOT, _MONOTONIC = "boot", "monotonic"
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
        return (*mine, *_missing(self.follow_ups, mine))


class DetachedSkills:
    """The detached skills of a log.

    Args:
        settings: The settings of the log.

    Raises:
        OSError: The log's directory exists and cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._segments = SkillSegments(settings.directory)

    def start(self, skill_name: str, workflow_path: str | None, session_id: str) -> SkillStarted:
        """Begin an invocation.

        Raises:
            OSError: It cannot be stored.
            PluginError: The log is disabled.
        """
        started = new_start(skill_name, workflow_path, session_id, {DETACHED: True})
        self._append(started)
        return started

    def find(self, invocation_id: str) -> SkillUse | None:
        """Return an invocation; None if the log has no start of it."""
        events = self._segments.events_of(invocation_id, tag_of_invocation(invocation_id))
        return use_of(events)

    def follow_up(self, use: SkillUse, actions: Iterable[str]) -> None:
        """Add actions to an invocation, whether it has ended or not; exceptions are those of `start`."""
        events = [_of(use.started, SkillFollowedUp, action=action) for action in actions]
        if events:
            self._append(*events)

    def end(
        self,
        use: SkillUse,
        *,
        completed: bool = True,
        follow_up_actions: Sequence[str] = (),
        error_type: str | None = None,
    ) -> bool:
        """End an invocation, unless it has ended; exceptions are those of `start`.

        Returns:
            False if it had ended: then only those actions are added that it does not have yet.
        """
        if use.ended is not None:
            self.follow_up(use, _missing(follow_up_actions, use.actions))
            return False
        actions = (*use.follow_ups, *follow_up_actions)
        self._append(completion(use.started, completed, actions, error_type))
        return True

    def _append(self, *events: SkillEvent) -> None:
        writer_id = self._segments.new_writer_id(tag_of_invocation(events[0].invocation_id))
        with appending(self._settings, writer_id) as appender:
            appender.append(events)


def new_start(
    skill_name: str,
    workflow_path: str | None,
    session_id: str,
    metadata: dict[str, Any],
    invocation_id: str | None = None,
) -> SkillStarted:
    """Return a start, with the clock that `completion` measures its duration on."""
    return SkillStarted(
        session_id=session_id,
        skill_name=skill_name,
        workflow_path=workflow_path,
        invocation_id=invocation_id or new_id(),
        metadata={**metadata, _BOOT: pid_space(), _MONOTONIC: round(time.monotonic(), 6)},
    )


def completion(
    started: SkillStarted,
    completed: bool = True,
    follow_up_actions: Sequence[str] = (),
    error_type: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> SkillCompleted:
    """Return the end of an invocation, now."""
    return _of(
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


def tag_of_invocation(invocation_id: str) -> str:
    """Return the tag of the segments with an invocation's events."""
    return f"s{digest(invocation_id)}"


def _of(started: SkillStarted, kind: type[_EventT], **fields: Any) -> _EventT:
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


def _missing(actions: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return the actions that are not among the known ones, each as often as it is more often there."""
    left, missing = Counter(known), list[str]()
    for action in actions:
        left[action] -= 1
        if left[action] < 0:
            missing.append(action)
    return missing
