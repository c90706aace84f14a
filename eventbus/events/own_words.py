"""What an event says of itself on a screen: the text of its ``__str__``, if its class defines one.

    class DeployFinished(Event):
        target: str

        def __str__(self) -> str:
            return f"deployed to {self.target}"

The built-in classes define none: their words are the screens' own. Rejected: a table of words by wire
names, registered beside the classes, whose functions no type checker connects with the events that they
get.
"""

from __future__ import annotations

from eventbus.events.event import Event
from eventbus.events.printable import printable

__all__ = ["own_words"]

_MAX_WORDS = 500


def own_words(event: Event) -> str | None:
    """Return the words of an event's class, as one printable line.

    Returns:
        None if the class has none, or if they cannot be had: its code may raise anything.
    """
    if type(event).__str__ is object.__str__:
        return None
    try:
        return printable(str(event), _MAX_WORDS) or None
    except (Exception, SystemExit):  # noqa: BLE001 - a broken plugin spoils the words of its own events only
        return None
