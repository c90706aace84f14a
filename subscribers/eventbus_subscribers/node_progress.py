"""How far a running node is: its steps, its passes and its hooks, from its progress events."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from eventbus import NodeProgress, printable

__all__ = ["Hook", "Node"]

MAX_HOOKS = 100
"""The number of hooks of a node that are kept."""

_NO_PROBLEM: Final = ("running", "passed", "skipped")
"""crackerjack's statuses of hooks; any other one is a failure."""


class Hook(NamedTuple):
    """A hook of a node, in its latest pass.

    Attributes:
        name: Its name.
        status: The word of its producer.
        seconds: How long it took; None if unknown.
    """

    name: str
    status: str
    seconds: float | None

    def __str__(self) -> str:
        reason = "" if self.status in ("failed", *_NO_PROBLEM) else f" {self.status}"
        return f"{self.name}{reason}{'' if self.seconds is None else f' {self.seconds:.1f}s'}"


class Node:
    """A running node.

    Attributes:
        name: The name to show it by.
        began: When it began.
        shown_at: When it was last shown.
        workflow_id: Its workflow's name, printable.
        node_id: Its own name, printable.
        completed: The amount done; None before the first progress.
        total: The amount to do; None if unknown.
        message: The current step, printable.
        passes: How often its progress began from the start.
        hooks: Its hooks, by name.
        usual: How long it usually takes; None if unknown, or not asked for yet.
        is_asked: True if the usual duration was asked for.
    """

    def __init__(self, name: str, now: float, workflow_id: str, node_id: str) -> None:
        self.name = name
        self.began = self.shown_at = now
        self.workflow_id, self.node_id = workflow_id, node_id
        self.completed: Any = None
        self.total: Any = None
        self.message = ""
        self.passes = 1
        self.hooks: dict[str, Hook] = {}
        self.usual: float | None = None
        self.is_asked = False

    def advance(self, event: NodeProgress) -> None:
        """Take the figures of a progress event; those that fall back begin a new pass."""
        if _is_number(event.completed) and _is_number(self.completed) and event.completed < self.completed:
            self.passes += 1
        self.completed, self.total = event.completed, event.total
        self.message = "" if event.message is None else printable(event.message)
        hook = event.metadata.get("hook")
        if isinstance(hook, str):
            self._report(hook, event)

    def _report(self, hook: str, event: NodeProgress) -> None:
        name, seconds = printable(hook), event.metadata.get("duration_seconds")
        if name in self.hooks or len(self.hooks) < MAX_HOOKS:
            status = printable(event.metadata.get("status", "running"))
            self.hooks[name] = Hook(name, status, seconds if _is_number(seconds) else None)

    def failed_hooks(self) -> list[Hook]:
        """Return the hooks that failed in the latest pass."""
        return [hook for hook in self.hooks.values() if hook.status not in _NO_PROBLEM]

    def share(self) -> float | None:
        """Return the part that is done; None if unknown."""
        if not (_is_number(self.completed) and _is_number(self.total)) or self.total <= 0:
            return None
        return float(min(1.0, max(0.0, self.completed / self.total)))

    def amount(self) -> str:
        """Return the amount done, such as ``3/10``; nothing before the first progress."""
        if self.completed is None:
            return ""
        return _number(self.completed) + ("" if self.total is None else f"/{_number(self.total)}")

    def details(self) -> list[str]:
        """Return the amount done and the current step, as far as they are known."""
        return [each for each in (self.amount(), self.message) if each]


def _is_number(value: object) -> bool:
    """Return True for a number: the types of an event's fields are not checked."""
    return isinstance(value, int | float) and math.isfinite(value)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else printable(value)
