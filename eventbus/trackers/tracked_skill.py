"""One use of a skill, from its beginning to its one end.

The handle is what a program holds on to; the use behind it outlives the handle just long enough to
be ended for it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol, Self
from weakref import finalize

from eventbus.events import SkillCompleted, SkillStarted
from eventbus.trackers.guards import as_text, as_texts, truth

__all__ = ["SkillCompleter", "SkillUse", "TrackedSkill"]

_MAX_FOLLOW_UPS = 256


class SkillCompleter(Protocol):
    """What ends one use of a skill; `SkillTracker.track_invocation` returns it."""

    def __call__(
        self,
        completed: bool = True,
        follow_up_actions: Iterable[str] | None = None,
        error_type: str | None = None,
    ) -> None:
        """End it; the second call and later ones do nothing."""
        ...


class SkillUse:
    """One use of a skill as its tracker sees it; unlike the handle, it does not keep it going."""

    __slots__ = ("_on_end", "_once", "began", "completed", "follow_ups", "pid", "started")

    def __init__(self, started: SkillStarted, on_end: Callable[[SkillUse, str | None], None]) -> None:
        self.started: SkillStarted = started
        self.began: float = time.perf_counter()
        self.follow_ups: list[str] = []
        self.completed: bool = False
        self.pid: int = os.getpid()
        self._on_end = on_end
        self._once = threading.Lock()
        _going_on.add(self)
        # Exit hooks run last in, first out. Registered anew, this one runs before that of any bus
        # that is up by now, and finds the bus still open.
        atexit.unregister(_abandon_all)
        atexit.register(_abandon_all)

    @property
    def ended(self) -> bool:
        """Whether it has ended, or is just being ended."""
        return self._once.locked()

    def end(self, completed: bool, error_type: str | None = None) -> None:
        """End it, unless it has ended: the lock is taken once and never given back."""
        if not self._once.acquire(blocking=False):
            return
        _going_on.discard(self)
        self.completed = completed
        self._on_end(self, error_type)

    def abandon(self) -> None:
        """End it for want of anybody who could; a use that began before a fork is the parent's."""
        if self.pid == os.getpid():
            self.end(completed=False)

    def completion(self, error_type: str | None) -> SkillCompleted:
        """Return the event that tells of its end."""
        return SkillCompleted(
            session_id=self.started.session_id,
            skill_name=self.started.skill_name,
            invocation_id=self.started.invocation_id,
            workflow_path=self.started.workflow_path,
            completed=self.completed,
            duration_seconds=max(0.0, time.perf_counter() - self.began),
            follow_up_actions=tuple(self.follow_ups),
            error_type=error_type,
        )


_going_on: set[SkillUse] = set()


def _abandon_all() -> None:
    for use in list(_going_on):
        use.abandon()


class TrackedSkill:
    """The handle of one use of a skill: leave its block, or call `complete`, and the use ends."""

    __slots__ = ("__weakref__", "_finalizer", "_use")

    def __init__(self, use: SkillUse) -> None:
        self._use = use
        self._finalizer = finalize(self, use.abandon)
        self._finalizer.atexit = False  # its exit hook may run after the bus's: ours does not

    @property
    def skill_name(self) -> str:
        """The skill's name."""
        return self._use.started.skill_name

    @property
    def workflow_path(self) -> str | None:
        """The path chosen through it."""
        return self._use.started.workflow_path

    @property
    def invocation_id(self) -> str:
        """Which use of the skill this is."""
        return self._use.started.invocation_id

    @property
    def session_id(self) -> str | None:
        """The session it began in, which it keeps."""
        return self._use.started.session_id

    @property
    def ended(self) -> bool:
        """Whether it has ended, completed or abandoned."""
        return self._use.ended

    @property
    def completed(self) -> bool:
        """Whether it has ended completed; False while it goes on."""
        return self._use.completed

    def follow_up(self, action: str) -> None:
        """Note what the user went on to do; ignored once it has ended, and beyond 256 actions."""
        if len(self._use.follow_ups) < _MAX_FOLLOW_UPS:
            self._use.follow_ups.append(as_text(action))

    def complete(
        self,
        completed: bool = True,
        follow_up_actions: Iterable[str] | None = None,
        error_type: str | None = None,
    ) -> None:
        """End it now; the second call and later ones do nothing.

        Args:
            completed: False says that it was abandoned.
            follow_up_actions: What the user went on to do, after what `follow_up` noted.
            error_type: The type of the exception that ended it, if one did.
        """
        for action in as_texts(follow_up_actions):
            self.follow_up(action)
        self._end(truth(completed), None if error_type is None else as_text(error_type))

    def _end(self, completed: bool, error_type: str | None) -> None:
        self._finalizer.detach()
        self._use.end(completed, error_type)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(exc_type is None, None if exc_type is None else exc_type.__name__)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)
