"""Fold the hooks of a session's nodes, such as crackerjack's, into one record each.

A hook's end is a `NodeProgress` whose metadata has its name as ``hook``, another ``status`` than
``running``, and its ``duration_seconds``. Each execution of a hook is a pass: a formatter that changed a
file runs again.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from datetime import datetime
from typing import Any, Self

import msgspec

from eventbus.correlation.bounded_memory import evict_oldest
from eventbus.correlation.span import finite_seconds
from eventbus.events.outcomes import Outcome

__all__ = ["MAX_HOOKS", "HookFigures", "HookFold", "is_hook_end"]

MAX_HOOKS = 64
"""How many hooks of a session are kept: those that ended first."""

_OUTCOMES: dict[str, Outcome] = {
    "passed": "succeeded",
    "done": "succeeded",
    "ok": "succeeded",
    "skipped": "skipped",
    "cancelled": "cancelled",
}


class HookFigures(msgspec.Struct, frozen=True):
    """What a session shows of one hook.

    Attributes:
        node_id: The node that ran it.
        hook: Its name.
        outcome: The outcome of its latest pass.
        passes: How often it was executed, over all runs of the session.
        failures: How many passes failed, were ended by a time limit or by an error.
        duration_seconds: The seconds of all passes.
    """

    node_id: str
    hook: str
    outcome: Outcome
    passes: int
    failures: int
    duration_seconds: float


class _Hook(msgspec.Struct, gc=False):
    first: datetime
    latest: tuple[datetime, bool, Outcome]
    passes: int = 0
    failures: int = 0
    seconds: float = 0.0


class HookFold(msgspec.Struct, gc=False):
    """The hooks of one session.

    Attributes:
        limit: How many passes are remembered to recognise repeats; None for all.
    """

    limit: int | None
    _hooks: dict[tuple[str, str], _Hook] = {}
    _seen: dict[Hashable, None] = {}

    def add(self, event: Any, run_key: Hashable) -> bool:
        """Fold the end of a pass, for which `is_hook_end` is True; return False for a repeat."""
        details: dict[str, Any] = event.metadata
        name, timestamp = details["hook"], event.timestamp
        identity = (run_key, event.node_id, event.attempt, name, timestamp)
        if identity in self._seen:
            return False
        self._seen[identity] = None
        evict_oldest(self._seen, self.limit)
        outcome = _OUTCOMES.get(details["status"], "failed")
        ended = (timestamp, outcome == "failed", outcome)
        hook = self._hook((event.node_id, name), ended)
        hook.first = min(hook.first, timestamp)
        hook.latest = max(hook.latest, ended)
        hook.passes += 1
        hook.failures += outcome == "failed"
        hook.seconds += finite_seconds(details.get("duration_seconds"))
        if len(self._hooks) > MAX_HOOKS:
            del self._hooks[max((each.first, key) for key, each in self._hooks.items())[1]]
        return True

    def _hook(self, key: tuple[str, str], ended: tuple[datetime, bool, Outcome]) -> _Hook:
        hook = self._hooks.get(key)
        if hook is None:
            hook = self._hooks[key] = _Hook(ended[0], ended)
        return hook

    @classmethod
    def joined(cls, folds: Iterable[HookFold]) -> Self:
        """Return the hooks of several sessions as those of one."""
        joined = cls(None)
        for fold in folds:
            for key, other in fold._hooks.items():
                hook = joined._hook(key, other.latest)
                hook.first = min(hook.first, other.first)
                hook.latest = max(hook.latest, other.latest)
                hook.passes += other.passes
                hook.failures += other.failures
                hook.seconds += other.seconds
        return joined

    def figures(self) -> tuple[HookFigures, ...]:
        """Return the hooks in the order in which they first ended."""
        return tuple(
            HookFigures(node_id, name, hook.latest[2], hook.passes, hook.failures, hook.seconds)
            for (node_id, name), hook in sorted(
                self._hooks.items(), key=lambda item: (item[1].first, item[0])
            )[:MAX_HOOKS]
        )


def is_hook_end(event: Any) -> bool:
    """Return True if progress reports the end of a hook, in a known run of a known session."""
    details = event.metadata
    if not details or type(details.get("hook")) is not str:
        return False
    status = details.get("status")
    return type(status) is str and status != "running" and bool(event.session_id and event.run_id)
