"""One skill invocation, from its start to its only end.

A program holds the handle, `TrackedSkill`. The `Invocation` behind it outlives the handle just long
enough to be abandoned.
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

from eventbus.delivery.interpreter_exit import before_early_close
from eventbus.events import SkillCompleted, SkillStarted
from eventbus.trackers.guards import as_bool, as_text, as_texts

__all__ = ["Invocation", "SkillCompleter", "TrackedSkill"]

_MAX_FOLLOW_UPS = 256


class SkillCompleter(Protocol):
    """The function that ends a skill invocation; `SkillTracker.track_invocation` returns it."""

    def __call__(
        self,
        completed: bool = True,
        follow_up_actions: Iterable[str] | None = None,
        error_type: str | None = None,
    ) -> None:
        """End the invocation; later calls do nothing."""
        ...


class Invocation:
    """A skill invocation as its tracker sees it; holding it does not keep it open."""

    __slots__ = ("_on_end", "_once", "began", "completed", "follow_ups", "pid", "started")

    def __init__(self, started: SkillStarted, on_end: Callable[[Invocation, str | None], None]) -> None:
        self.started: SkillStarted = started
        self.began: float = time.perf_counter()
        self.follow_ups: list[str] = []
        self.completed: bool = False
        self.pid: int = os.getpid()
        self._on_end = on_end
        self._once = threading.Lock()
        _open.add(self)
        # Exit hooks run last in, first out. Registered again, this hook runs before the hook of any
        # bus that is open now, and finds the bus still open.
        atexit.unregister(_abandon_all)
        atexit.register(_abandon_all)
        before_early_close(_abandon_all)

    @property
    def ended(self) -> bool:
        """True once `end` has begun."""
        return self._once.locked()

    def end(self, completed: bool, error_type: str | None = None) -> None:
        """End the invocation once: the lock is never released."""
        if not self._once.acquire(blocking=False):
            return
        _open.discard(self)
        self.completed = completed
        self._on_end(self, error_type)

    def abandon(self) -> None:
        """End it as not completed, unless it began before a fork: it is the parent's then."""
        if self.pid == os.getpid():
            self.end(completed=False)

    def completion(self, error_type: str | None) -> SkillCompleted:
        """Return the event of the end."""
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


_open: set[Invocation] = set()


def _abandon_all() -> None:
    for invocation in list(_open):
        invocation.abandon()


class TrackedSkill:
    """The handle of a skill invocation, which ends when its block is left or `complete` is called."""

    __slots__ = ("__weakref__", "_finalizer", "_invocation")

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._finalizer = finalize(self, invocation.abandon)
        self._finalizer.atexit = False  # its exit hook may run after the bus's; `_abandon_all` does not

    @property
    def skill_name(self) -> str:
        """The skill's name."""
        return self._invocation.started.skill_name

    @property
    def workflow_path(self) -> str | None:
        """The path chosen through the skill."""
        return self._invocation.started.workflow_path

    @property
    def invocation_id(self) -> str:
        """The invocation's id."""
        return self._invocation.started.invocation_id

    @property
    def session_id(self) -> str | None:
        """The session in which the invocation began."""
        return self._invocation.started.session_id

    @property
    def ended(self) -> bool:
        """True once the invocation has been completed or abandoned."""
        return self._invocation.ended

    @property
    def completed(self) -> bool:
        """True if the invocation has ended as completed."""
        return self._invocation.completed

    def follow_up(self, action: str) -> None:
        """Add an action that the user took next; ignored after the end, and beyond 256 actions."""
        if len(self._invocation.follow_ups) < _MAX_FOLLOW_UPS:
            self._invocation.follow_ups.append(as_text(action))

    def complete(
        self,
        completed: bool = True,
        follow_up_actions: Iterable[str] | None = None,
        error_type: str | None = None,
    ) -> None:
        """End the invocation; later calls do nothing.

        Args:
            completed: False if it was abandoned.
            follow_up_actions: Actions that the user took next, after those given to `follow_up`.
            error_type: The type of the exception that ended it.
        """
        for action in as_texts(follow_up_actions):
            self.follow_up(action)
        self._end(as_bool(completed), None if error_type is None else as_text(error_type))

    def _end(self, completed: bool, error_type: str | None) -> None:
        self._finalizer.detach()
        self._invocation.end(completed, error_type)

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
