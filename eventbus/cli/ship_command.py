"""``eventbus ship``: ship the event log to a server, for other machines to read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

from eventbus.cli.arguments import Option
from eventbus.cli.exit_codes import OK, PROBLEMS
from eventbus.cli.log_access import DamageNotes, note, open_log
from eventbus.cli.options import LogDirectory
from eventbus.remote.forwarder import Forwarder, ForwarderStatistics, make_stream
from eventbus.remote.remote_settings import load_remote_settings

if TYPE_CHECKING:
    from eventbus.remote.remote_settings import RemoteSettings

__all__ = ["ship"]

_PATIENCE_SECONDS = 10.0
"""With `--once`: how long to wait for the next acknowledgement."""
_LOOK_SECONDS = 0.5
_SECONDS_BETWEEN_NOTES = 10.0
_CLOSE_SECONDS = 2.0


def ship(
    directory: LogDirectory = None,
    once: Annotated[
        bool, Option("--once", help="Ship what the log holds, and end: 1 if anything is left.")
    ] = False,
    create: Annotated[bool, Option("--create", help="Make the stream first, if there is none.")] = False,
) -> int:
    """Ship the event log to a server, for other machines to read.

    It goes on until it is interrupted. The server is EVENTBUS_NATS_URL.
    """
    settings = load_remote_settings()
    log = open_log(directory, DamageNotes(), must_exist=once and not create)
    forwarder = Forwarder(log.directory, settings, close_timeout=_CLOSE_SECONDS)
    if create:
        _create(settings)
    if once:
        forwarder.start()
        try:
            is_complete = forwarder.finish(patience=_PATIENCE_SECONDS)
        except KeyboardInterrupt:
            forwarder.finish(timeout=0)
            raise
        return _ended(forwarder.statistics(), is_complete=is_complete)
    note(
        f"ships {log.directory} to the stream {settings.stream} at {settings.server}, until it is interrupted"
    )
    with forwarder:
        _report(forwarder)
    return OK


def _create(settings: RemoteSettings) -> None:
    is_new = make_stream(settings)
    what = "made the stream" if is_new else "left as it is: the stream"
    note(f"{what} {settings.stream} at {settings.server}")


def _ended(statistics: ForwarderStatistics, *, is_complete: bool) -> int:
    note(f"shipped {_events(statistics.shipped)}")
    if statistics.refused:
        note(f"{_events(statistics.refused)} left out: too large for the server")
    if not is_complete:
        note(f"not everything is shipped: {statistics.problem or 'it takes too long'}")
    return OK if is_complete and not statistics.refused else PROBLEMS


def _report(forwarder: Forwarder) -> None:
    """Print how many events were shipped, now and then, until a signal ends it."""
    printed, printed_at = 0, 0.0
    while True:
        time.sleep(_LOOK_SECONDS)
        shipped, now = forwarder.statistics().shipped, time.monotonic()
        if shipped != printed and now - printed_at >= _SECONDS_BETWEEN_NOTES:
            note(f"shipped {_events(shipped)}")
            printed, printed_at = shipped, now


def _events(count: int) -> str:
    return f"{count} event{'s' * (count != 1)}"
