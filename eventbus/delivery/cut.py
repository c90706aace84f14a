"""Events that a full mailbox loses."""

from __future__ import annotations

from collections.abc import Iterator

from eventbus.delivery.entries import Gap

__all__ = ["Cut"]


class Cut:
    """Events that are being lost, step by step.

    Attributes:
        drops: Drops one of them at each step.
        mark: The gap in their place, until it is there.
        lost: How many have been lost with them.
        gaps: How many gaps there are then.
    """

    __slots__ = ("drops", "gaps", "lost", "mark")

    def __init__(self, drops: Iterator[object], mark: Gap, lost: int, gaps: int) -> None:
        self.drops: Iterator[object] = drops
        self.mark: Iterator[Gap] = iter((mark,))
        self.lost: int = lost
        self.gaps: int = gaps
