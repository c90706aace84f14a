"""What the live view shows: rows to print once, the nodes that run now, and the runs that have ended.

Pure. An ended run waits for its summary until the next one begins, or the view ends: so the summary is
the last thing on the screen, and nothing is shown twice except what failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from eventbus import Event, Word, printable
from eventbus_subscribers.node_progress import Node
from eventbus_subscribers.progress_state import ProgressState, header_line
from eventbus_subscribers.run_progress import Change, Run

__all__ = ["LiveState", "Usual"]

Usual: TypeAlias = Callable[[str, str], "float | None"]
"""Returns how many seconds a node of a workflow usually takes; None if that is not known."""

MAX_ROWS = 2_000
"""While the terminal takes nothing, this many rows wait; further ones are counted as not shown."""
MAX_SUMMARIES = 20


class LiveState:
    """Folds events into what the live view shows.

    Args:
        directory: The directory of the log, for the header.
        usual: Returns how long a node usually takes.

    Attributes:
        rows: What is to be printed above the region.
        ended: The runs whose summary was not printed yet.
        warnings: What must be read again at the end.
        unshown: How many rows were not kept.
    """

    def __init__(self, directory: str = "", usual: Usual | None = None) -> None:
        self.progress = ProgressState()
        self.rows: list[Change | Run | str] = []
        self.ended: list[Run] = []
        self.warnings: list[Change] = []
        self.unshown = 0
        self._directory = directory
        self._usual = usual
        self._has_header = False

    def add(self, event: Event, now: float) -> None:
        """Fold one event.

        Args:
            event: The event.
            now: The time in seconds on a monotonic clock.
        """
        change = self.progress.add(event, now)
        if change is None:
            return
        if not self._has_header:
            self._has_header = True
            self._print(header_line(event, self._directory))
        if change.word == Word.STARTED:
            self._begin_run(change)
        elif change.run is not None:
            self.ended.append(change.run)
            self._print_ended(MAX_SUMMARIES)
        else:
            self._print(change)

    def warn(self, text: str) -> None:
        """Show a warning that was logged, and repeat it at the end."""
        change = Change(Word.WARNING, printable(text, 500))
        self._print(change)
        self.warnings = [*self.warnings, change][-MAX_SUMMARIES:]

    def running(self) -> list[Node]:
        """Return the running nodes, those that began first first; each knows how long it usually takes."""
        nodes = sorted(self.progress.running(), key=lambda node: node.began)
        for node in nodes:
            if not node.is_asked:
                node.is_asked = True
                node.usual = self._usual_of(node)
        return nodes

    def is_open(self) -> bool:
        """Return True while something that was begun has not ended."""
        return bool(self.progress.open or self.progress.skills)

    def _usual_of(self, node: Node) -> float | None:
        if self._usual is None:
            return None
        try:
            return self._usual(node.workflow_id, node.node_id)
        except Exception:  # noqa: BLE001 - what is usual is not worth a failure
            return None

    def _begin_run(self, change: Change) -> None:
        if change.kind == "run" and len(self.progress.open) == 1:
            self._print_ended(0)
        if change.kind == "skill":
            self._print(change)

    def _print_ended(self, kept: int) -> None:
        """Print the runs that do not wait for the end any more."""
        while len(self.ended) > kept:
            self._print(self.ended.pop(0))

    def _print(self, row: Change | Run | str) -> None:
        if len(self.rows) < MAX_ROWS:
            self.rows.append(row)
        else:
            self.unshown += 1
