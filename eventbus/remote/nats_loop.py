"""An asyncio event loop in a thread of our own: nats-py knows asyncio only, and hosts may run trio.

All that talks to the server runs there, for asyncio hosts too: a host that blocks its loop for seconds must
not cost the connection.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar

from eventbus.delivery.alarm import move_on_after
from eventbus.delivery.doorbell import Waiter
from eventbus.events.printable import printable

__all__ = ["END_SECONDS", "NatsLoop", "nats_loop"]

END_SECONDS = 2.0
"""How long the end of a loop is waited for: longer only if the server hangs."""

_T = TypeVar("_T")
_logger = logging.getLogger("eventbus.remote")


class NatsLoop:
    """The loop and its daemon thread, which serves from `start` to `end`.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str = "eventbus-nats") -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._ended: Future[None] = Future()

    def start(self) -> None:
        """Start the thread, and wait until its loop runs.

        Raises:
            RuntimeError: No thread can be started.
        """
        is_running = threading.Event()
        self._ended = Future()
        # A daemon: a server that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._serve, args=(is_running,), name=self._name, daemon=True)
        self._thread.start()
        is_running.wait()

    def begin(self, function: Callable[..., Coroutine[Any, Any, _T]], *args: Any) -> Future[_T]:
        """Begin a call in the loop, from any thread, and return its result's future; `cancel` cancels it.

        Args:
            function: An async function.
            args: Its arguments.
        """
        if self._loop is None:
            raise RuntimeError("this loop has not been started")
        # In an empty context: in the caller's, anyio would believe that the loop is trio's.
        return Context().run(asyncio.run_coroutine_threadsafe, function(*args), self._loop)

    async def run(self, function: Callable[..., Coroutine[Any, Any, _T]], *args: Any) -> _T:
        """Call an async function in the loop, and wait for its result, under asyncio or trio.

        When the waiting task is cancelled, the call is cancelled as well, and not waited for.

        Args:
            function: An async function. What it takes in the moment of a cancellation is its own to keep.
            args: Its arguments.

        Raises:
            BaseException: The function's own exceptions.
        """
        waiter = Waiter()
        future = self.begin(function, *args)
        future.add_done_callback(lambda _: waiter.notify())
        try:
            await waiter.wait()
        finally:
            future.cancel()
        return future.result()

    def end(self) -> None:
        """Cancel what still runs in the loop, and let the thread end. Never waits for it."""
        if self._loop is None or self._ending is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._ending.set)
        except RuntimeError:  # it has ended
            self._loop = None

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, but not longer than a timeout in seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    async def wait_ended(self, timeout: float) -> None:
        """Wait until the loop has ended, but not longer than a timeout in seconds, under asyncio or trio."""
        waiter = Waiter()
        self._ended.add_done_callback(lambda _: waiter.notify())
        with move_on_after(timeout, shield=True):
            await waiter.wait()

    def _serve(self, is_running: threading.Event) -> None:
        try:
            # Not the loop of the program's policy: nats-py is known to work with this one.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._main(is_running))
        finally:
            self._ended.set_result(None)

    async def _main(self, is_running: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_note)
        self._ending = asyncio.Event()
        is_running.set()
        await self._ending.wait()


@contextmanager
def nats_loop(name: str = "eventbus-nats") -> Generator[NatsLoop]:
    """Run a loop inside the block.

    Args:
        name: The thread's name.
    """
    loop = NatsLoop(name)
    loop.start()
    try:
        yield loop
    finally:
        loop.end()
        loop.join(END_SECONDS)


def _note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody awaits. nats-py loses tasks and their exceptions with each lost connection: no news."""
    error = context.get("exception")
    text = f"{context.get('message', '')} {'' if error is None else repr(error)}"
    _logger.debug("in the event loop of nats-py: %s", printable(text))
