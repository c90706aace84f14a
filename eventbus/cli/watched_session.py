"""The state of a session that is being followed: its records so far, and whether its writers are there."""

from __future__ import annotations

from pathlib import Path

from eventbus.correlation import CorrelatedFigures, CorrelatedSession
from eventbus.events import SessionLinked
from eventbus.history import EventLog, Record
from eventbus.history.segment_files import segment_at
from eventbus.history.unfinished import LiveWriters, all_unfinished
from eventbus.views import SessionView

__all__ = ["WatchedSession"]


class WatchedSession:
    """A session, folded from the records of its log as they come.

    Args:
        log: The log.
        name: The session's id.

    Attributes:
        name: The session's id.
        view: What its screens show.
    """

    def __init__(self, log: EventLog, name: str) -> None:
        self.name = name
        self.view = SessionView()
        self._log = log
        self._correlation = CorrelatedFigures(None, None)
        self._names: set[str | None] = {name}
        self._last_seq: dict[tuple[str, int, str | None], int] = {}
        self._paths: set[Path] = set()
        self._last_path: Path | None = None

    def load(self) -> list[Record]:
        """Fold what the log holds of the session; return the records that were new."""
        return self._load(self.name)

    def add(self, record: Record) -> list[Record]:
        """Fold a record; return the records that were new: those of a session that it links, too.

        A record comes twice where the log is read and followed at once, and is folded once.
        """
        event = record.event
        place = (record.bus_id, record.pid, event.session_id)
        if event.session_id not in self._names or record.seq <= self._last_seq.get(place, 0):
            return []
        self._last_seq[place] = record.seq
        if record.path is not self._last_path:  # comparing paths takes longer than the rest
            self._last_path = record.path
            self._paths.add(record.path)
        self.view.add(event)
        self._correlation.add(event)
        if isinstance(event, SessionLinked) and event.other not in self._names:
            self._names.add(event.other)
            return [record, *self._load(event.other)]
        return [record]

    def _load(self, name: str) -> list[Record]:
        return [new for record in self._log.records(session_id=name) for new in self.add(record)]

    def figures(self) -> CorrelatedSession | None:
        """Return the session's figures; None before its first skill or run."""
        return self._correlation.figures(self.name)

    def figures_without_writers(self) -> CorrelatedSession | None:
        """Return the figures of an open session all of whose writers are gone; None for any other."""
        figures = self.figures()
        if figures is None or not figures.is_open:
            return None
        writers = LiveWriters(self._log.segments())
        segments = filter(None, (segment_at(str(path)) for path in self._paths))
        if any(writers.is_there(each.writer) for each in segments):
            return None
        changed = all_unfinished(figures)
        self.view.give_up(changed)
        return changed

    def is_over(self) -> bool:
        """Return True if the session has begun, and nothing of it is open, or will ever end."""
        figures = self.figures_without_writers() or self.figures()
        return figures is not None and not figures.is_open

    def nodes_ended(self) -> int:
        """Return how many attempts at nodes have ended."""
        return sum(node.outcome not in ("open", "not run") for node in self.view.nodes())
