"""Forwarder: ship a log to the server while a block of a program runs.

    with Forwarder(), EventBus([JsonPersister()]) as bus:
        ...

The forwarder reads the log's files, in a thread of its own. Publishers and persisters do not know of it.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from eventbus.delivery.alarm import move_on_after
from eventbus.delivery.doorbell import Waiter
from eventbus.errors import RemoteError
from eventbus.remote.connection import check_usable, connect
from eventbus.remote.forwarding import ForwarderStatistics, Forwarding
from eventbus.remote.nats_loop import END_SECONDS, NatsLoop, nats_loop
from eventbus.remote.remote_settings import load_remote_settings
from eventbus.remote.stream import create_stream
from eventbus.settings import log_directory

if TYPE_CHECKING:
    from eventbus.remote.remote_settings import RemoteSettings

__all__ = ["Forwarder", "ForwarderStatistics", "make_stream"]

_LOOK_SECONDS = 0.05


class Forwarder:
    """Ships a log while its ``with`` or ``async with`` block runs, under asyncio, trio or neither.

    Leaving the block ships what the log holds by then, for at most `close_timeout` seconds; the rest is
    shipped by the next forwarder of this log. Enter it before the bus, so that the bus is closed first.
    Nothing is raised because of the server: what hinders the forwarder is logged, at most every 20 s.

    Args:
        directory: The log's directory; by default `eventbus.log_directory()`.
        settings: The server; by default the settings in force.
        close_timeout: How many seconds leaving the block may take.

    Raises:
        SettingsError: No server is set, or a setting is wrong.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        settings: RemoteSettings | None = None,
        *,
        close_timeout: float = 5.0,
    ) -> None:
        self._settings = settings or load_remote_settings()
        directory = Path(os.path.abspath(log_directory(directory)))  # noqa: PTH100 - as the persister does
        self._forwarding = Forwarding(directory, self._settings)
        self._close_timeout = close_timeout
        self._loop = NatsLoop("eventbus-forwarder-nats")
        self._run: Future[None] | None = None
        self._pid = 0

    def statistics(self) -> ForwarderStatistics:
        """Return what was done so far; from any thread, also afterwards."""
        return self._forwarding.statistics()

    def start(self) -> None:
        """Begin to ship; entering the block does it.

        Raises:
            RemoteError: nats-py is not installed, the server is to be reached in clear text, or this was
                started before.
        """
        if self._pid:
            raise RemoteError("this forwarder was started before", "Make another one")
        check_usable(self._settings)
        self._pid = os.getpid()
        self._loop.start()
        self._run = self._loop.begin(self._forwarding.run)

    def finish(self, patience: float | None = None, timeout: float | None = None) -> bool:
        """Ship what the log holds by now, and end; return True if nothing is left.

        Args:
            patience: Give up after this many seconds without an acknowledgement.
            timeout: Give up after this many seconds in all.
        """
        run = self._run
        if run is None or self._pid != os.getpid():  # a forked child has no such thread
            return False
        self._run = None
        self._forwarding.finish()
        try:
            _wait(run, self._forwarding, patience, timeout)
        finally:
            self._loop.begin(self._forwarding.stop)
            _wait(run, self._forwarding, None, END_SECONDS)
            self._loop.end()
            self._loop.join(END_SECONDS)
        return self._forwarding.is_finished

    def __enter__(self) -> Self:
        """Begin to ship."""
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ship the rest, for a while, and end."""
        self.finish(timeout=self._close_timeout)

    async def __aenter__(self) -> Self:
        """Begin to ship."""
        self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ship the rest, for a while, and end; a cancellation ends it at once."""
        run = self._run
        if run is None or self._pid != os.getpid():
            return
        self._run = None
        self._forwarding.finish()
        waiter = Waiter()
        run.add_done_callback(lambda _: waiter.notify())
        try:
            with move_on_after(self._close_timeout):
                await waiter.wait()
        finally:
            self._loop.begin(self._forwarding.stop)
            with move_on_after(END_SECONDS, shield=True):
                await waiter.wait()
            self._loop.end()
            await self._loop.wait_ended(END_SECONDS)


def make_stream(settings: RemoteSettings) -> bool:
    """Make the stream at the server; return False if there is one of that name, which is left as it is.

    Raises:
        RemoteError: The server cannot be reached, or refuses.
    """

    async def make() -> bool:
        async with connect(settings) as nats:
            return await create_stream(nats, settings)

    with nats_loop() as loop:
        return loop.begin(make).result()


def _wait(run: Future[None], forwarding: Forwarding, patience: float | None, timeout: float | None) -> None:
    began = moved_at = time.monotonic()
    shipped = -1
    while not run.done():
        now = time.monotonic()
        before, shipped = shipped, forwarding.statistics().shipped
        moved_at = now if shipped != before else moved_at
        if timeout is not None and now - began > timeout:
            return
        if patience is not None and now - moved_at > patience:
            return
        try:
            run.result(_LOOK_SECONDS)
        except TimeoutError:
            continue
        except Exception:  # noqa: BLE001 - a defect of ours; `finish` returns False
            return
