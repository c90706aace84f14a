"""Which sessions belong to one: the links that `SessionLinked` reports."""

from __future__ import annotations

from datetime import datetime

from eventbus.correlation.bounded_memory import evict_oldest
from eventbus.events import SessionLinked

__all__ = ["SessionLinks"]


class SessionLinks:
    """The links between sessions, folded in any order and with any repeats.

    A session belongs to one other at most, by the earliest link: a job that two agents claim does not join
    the sessions of the agents. Rejected: to join all that is linked, which would.

    Args:
        limit: How many links are remembered; None for all.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._owners: dict[str, tuple[datetime, str]] = {}
        self._families: dict[str, list[str]] | None = None  # by the first of their names; None: to be made

    def __bool__(self) -> bool:
        """Return True if there is a link."""
        return bool(self._owners)

    def add(self, event: SessionLinked) -> bool:
        """Fold a link; return False for one that changes nothing: a repeat, a later one, one to itself."""
        owner, other = event.session_id, event.other
        if not owner or not other or owner == other:
            return False
        link = event.timestamp, owner
        if self._owners.get(other, link) < link or self._owners.get(other) == link:
            return False
        self._owners[other] = link
        self._families = None
        evict_oldest(self._owners, self._limit)
        return True

    def owner(self, name: str) -> str:
        """Return the session that a session belongs to; itself if it belongs to no other.

        Of sessions that are linked in a circle it is the first by name.
        """
        seen = [name]
        while (link := self._owners.get(seen[-1])) is not None:
            if link[1] in seen:
                return min(seen[seen.index(link[1]) :])
            seen.append(link[1])
        return seen[-1]

    def family(self, name: str) -> list[str]:
        """Return the names of all sessions that belong to the same one, which is the first."""
        owner = self.owner(name)
        return self.families().get(owner, [owner])

    def families(self) -> dict[str, list[str]]:
        """Return the names of the sessions that belong to each one, which is the first of them."""
        if self._families is None:
            self._families = self._grouped()
        return self._families

    def _grouped(self) -> dict[str, list[str]]:
        families: dict[str, list[str]] = {}
        for name in sorted(self._owners):
            owner = self.owner(name)
            family = families.setdefault(owner, [owner])
            if name != owner:
                family.append(name)
        return families
