"""Fold the skill invocations of one session into counts and records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import field

from eventbus.correlation.bounded_memory import BoundedMap, add_name, remember
from eventbus.correlation.overlap import Interval
from eventbus.correlation.span import FAR_FUTURE, Span, before, finite_seconds
from eventbus.events import SkillCompleted, SkillFollowedUp, SkillStarted
from eventbus.events.follow_ups import missing_actions
from eventbus.events.outcomes import is_detached, skill_outcome
from eventbus.events.records import skill_invocation, skill_invocation_record

__all__ = ["Captured", "SkillFold", "skill_records"]

_MAX_FOLLOW_UPS = 256  # of one invocation
_FollowUps = dict[tuple[datetime, str], None]

Captured = tuple[int, Any, Any, tuple[str, ...]]
"""An invocation's number, start, end and separate follow-up actions."""


class _Invocation(msgspec.Struct, gc=False):
    number: int
    # Without records only whether there was one.
    started: SkillStarted | bool | None = None
    ended: SkillCompleted | bool | None = None
    is_detached: bool = False
    follow_ups: _FollowUps | None = None
    seen: SkillFollowedUp | None = None  # the earliest follow-up, while there is neither of the others

    def beginning(self) -> SkillStarted | SkillFollowedUp | bool | None:
        """Return the start, or what stands in for it."""
        return self.started or (None if self.ended else self.seen)


class _Invocations(BoundedMap[str, _Invocation], gc=False):
    """Invocations by id."""


class SkillFold(msgspec.Struct, gc=False):
    """The counts of one session's skill invocations, and their events.

    The methods that fold an event return False for a repeat.

    Attributes:
        limit: How many invocations are remembered; None for all.
        keeps_records: False to keep no events.
        span: From the first start to the last end.
        is_open: True while an invocation is still going.
        dropped: How many records are counted but no longer kept.
        seen: How many invocations were seen.
        ended: How many invocations ended.
        completed: How many invocations ended completed.
        failed: How many invocations an exception ended.
        seconds: The total duration of the ended ones.
        intervals: When the ended ones were going.
        names: The names of the first skills, each with its first time.
    """

    limit: int | None
    keeps_records: bool
    span: Span
    is_open: bool = False
    dropped: int = 0
    seen: int = 0
    ended: int = 0
    completed: int = 0
    failed: int = 0
    seconds: float = 0.0
    intervals: list[Interval] | None = None
    names: dict[str, datetime] = {}
    _invocations: _Invocations = field(default_factory=_Invocations)

    def skill_started(self, event: SkillStarted) -> bool:
        """Fold the start of an invocation."""
        invocation = self._invocation(event.invocation_id)
        if invocation.started is not None:
            return False
        invocation.started = event if self.keeps_records else True
        invocation.is_detached = is_detached(event)
        self.span.begin(event.invocation_id, event.timestamp)
        add_name(self.names, event.skill_name, event.timestamp)
        self._put(event.invocation_id, invocation)
        return True

    def skill_completed(self, event: SkillCompleted) -> bool:
        """Fold the end of an invocation, completed or abandoned."""
        invocation = self._invocation(event.invocation_id)
        if invocation.ended is not None:  # a repeat, or one of two processes that ended it at once
            self._keep(invocation, event.timestamp, event.follow_up_actions)
            return False
        invocation.ended = event if self.keeps_records else True
        self.ended += 1
        if event.completed:
            self.completed += 1
        elif skill_outcome(False, event.error_type) == "failed":
            self.failed += 1
        seconds = finite_seconds(event.duration_seconds)
        self.seconds += seconds
        self.span.end(event.timestamp)
        if not invocation.started:
            self.span.compute_start(event.invocation_id, event.timestamp, seconds)
            add_name(self.names, event.skill_name, FAR_FUTURE)
        self.intervals = remember(self.intervals, (event.timestamp, seconds), self.limit)
        self._put(event.invocation_id, invocation)
        return True

    def skill_followed_up(self, event: SkillFollowedUp) -> bool:
        """Fold a follow-up action; it changes no figure but that there was an invocation."""
        invocation = self._invocation(event.invocation_id)
        if not invocation.started and not invocation.ended:
            self._begin_unseen(invocation, event)
        self._keep(invocation, event.timestamp, (event.action,))
        self._put(event.invocation_id, invocation)
        return False

    def _keep(self, invocation: _Invocation, time: datetime, actions: Iterable[str]) -> None:
        if self.keeps_records:
            invocation.follow_ups = invocation.follow_ups or {}
            for action in actions:
                if len(invocation.follow_ups) < _MAX_FOLLOW_UPS:
                    invocation.follow_ups[time, action] = None

    def _begin_unseen(self, invocation: _Invocation, event: SkillFollowedUp) -> None:
        if invocation.seen is None or event.timestamp < invocation.seen.timestamp:
            invocation.seen = event
        self.span.compute_start(event.invocation_id, invocation.seen.timestamp, 0.0)
        add_name(self.names, event.skill_name, FAR_FUTURE)

    def _invocation(self, invocation_id: str) -> _Invocation:
        invocation = self._invocations.get(invocation_id)
        if invocation is None:
            self.seen += 1
            invocation = _Invocation(self.seen)
        return invocation

    def _put(self, invocation_id: str, invocation: _Invocation) -> None:
        is_open = invocation.ended is None
        evicted = self._invocations.put(invocation_id, invocation, is_open=is_open, limit=self.limit)
        if self.keeps_records:
            self.dropped += len(evicted)
        self.is_open = bool(self._invocations.open_items)

    @property
    def open_invocations(self) -> Collection[str]:
        """The ids of the invocations that are open."""
        return self._invocations.open_items.keys()

    @property
    def detached(self) -> int:
        """How many of the open invocations another process than their writer will end."""
        return sum(each.is_detached for each in self._invocations.open_items.values())

    def captured(self) -> list[Captured]:
        """Return each invocation, for `skill_records`."""
        invocations = [*self._invocations.closed_items.values(), *self._invocations.open_items.values()]
        return [
            (each.number, each.beginning(), each.ended, _in_order(each.follow_ups)) for each in invocations
        ]


def _in_order(follow_ups: _FollowUps | None) -> tuple[str, ...]:
    return tuple(action for _, action in sorted(follow_ups)) if follow_ups else ()


def skill_records(captured: list[Captured]) -> list[dict[str, Any]]:
    """Return the records of captured invocations, in the order in which they were first seen."""
    in_order = sorted(captured, key=lambda each: each[0])
    return [_record(started, ended, follow_ups) for _, started, ended, follow_ups in in_order]


def _record(
    started: SkillStarted | SkillFollowedUp | None, ended: SkillCompleted | None, follow_ups: Sequence[str]
) -> dict[str, Any]:
    event = ended or started
    assert event is not None  # noqa: S101 - an invocation is made for one of them
    began = before(event.timestamp, finite_seconds(ended.duration_seconds)) if ended else event.timestamp
    record = skill_invocation_record(skill_invocation(event, started.timestamp if started else began))
    if record["workflow_path"] is None and started is not None:
        record["workflow_path"] = started.workflow_path
    if follow_ups:
        known = list(ended.follow_up_actions) if ended else []
        record["follow_up_actions"] = [*known, *missing_actions(follow_ups, known)]
    return record
