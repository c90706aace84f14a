"""Append events to the log at once, without a bus: for programs that live for milliseconds."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from typing import Any, Protocol

from eventbus.errors import PluginError
from eventbus.events import Event
from eventbus.settings import Settings

__all__ = ["Appender", "appending"]

_PERSISTER = "json_persister"
_WRITER = "eventbus_subscribers.direct_writer"


class Appender(Protocol):
    """What appends events; see `eventbus_subscribers.direct_writer`."""

    def append(self, events: Sequence[Event]) -> None:
        """Append events, and return when they are stored; raise OSError if they cannot be written."""
        ...

    def close(self) -> None:
        """Release the lock that shows that this process may append more."""
        ...


def appending(settings: Settings, writer_id: str) -> AbstractContextManager[Appender]:
    """Return a context manager that yields an appender to a segment of its own.

    The writer belongs to the persister and is found by its name, as the persister is: looking through the
    entry points of all distributions takes longer than all of the rest.

    Args:
        settings: The settings of the log.
        writer_id: At most 32 letters and digits, used once.

    Raises:
        PluginError: The persister is disabled, or not installed.
    """
    if _PERSISTER in settings.disabled:
        raise PluginError(
            f"events cannot be stored, because the plugin {_PERSISTER} is disabled",
            "Take it out of `disabled` in [tool.eventbus] of pyproject.toml",
        )
    try:
        module: Any = importlib.import_module(_WRITER)
    except ImportError as error:
        raise PluginError(
            f"events cannot be stored, because {_WRITER} cannot be imported: {error}",
            "Install eventbus with pip",
        ) from error
    writer: Appender = module.DirectWriter(
        settings.directory,
        writer_id,
        sync=settings.sync,
        keep_days=settings.keep_days,
        keep_bytes=settings.keep_bytes,
    )
    return closing(writer)
