"""The default bus: the innermost entered one, otherwise the only one running.

A tracker made without a bus looks it up here each time it publishes. Buses register themselves; this
module knows them only as sinks.
"""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar, Token

from eventbus.contracts import EventSink

__all__ = ["current_bus"]

_entered: ContextVar[EventSink | None] = ContextVar("eventbus_entered", default=None)
# No lock: an exception, or a signal handler that waits, could keep it from another bus's end.
_running: dict[int, EventSink] = {}  # by `id`, in the order in which they were entered
_started_ids: deque[str] = deque(maxlen=4_096)  # of buses: after this many the first is closed


def current_bus() -> EventSink | None:
    """Return the innermost bus entered in this context, otherwise the only one running, or None."""
    running = tuple(_running.values())
    sink = _entered.get()
    # A bus that was closed inside its block is still entered, but no longer running.
    if sink is not None and any(each is sink for each in running):
        return sink
    return running[0] if len(running) == 1 else None


def push(sink: EventSink) -> Token[EventSink | None]:
    """Make a bus the innermost one of this context, until `pop` is called with the token."""
    return _entered.set(sink)


def pop(token: Token[EventSink | None]) -> None:
    """Undo `push`."""
    try:
        _entered.reset(token)
    except ValueError:
        # Left in another context than it was entered in, as in a fixture: nothing to restore.
        return


def register(sink: EventSink) -> None:
    """Note that a bus is running."""
    _started_ids.append(getattr(sink, "id", ""))
    _running[id(sink)] = sink


def has_started(bus_id: str) -> bool:
    """Whether a bus of this id was started in this process, or in the one it was forked from."""
    return bus_id in tuple(_started_ids)


def unregister(sink: EventSink) -> None:
    """Note that a bus is no longer running."""
    _running.pop(id(sink), None)


def forget_all() -> None:
    """Forget every bus: a forked child has none running."""
    _running.clear()
    _entered.set(None)
