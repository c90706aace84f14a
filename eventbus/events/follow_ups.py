"""The follow-up actions of a skill: its end repeats those that had events of their own before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

__all__ = ["missing_actions"]


def missing_actions(actions: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return the actions that are not among the known ones, each as often as it is more often there."""
    left, missing = Counter(known), list[str]()
    for action in actions:
        left[action] -= 1
        if left[action] < 0:
            missing.append(action)
    return missing
