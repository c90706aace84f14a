"""Notice that the program which reads the output has ended, also while nothing is printed."""

from __future__ import annotations

import select
import sys
from collections.abc import Awaitable, Callable

import anyio

__all__ = ["while_output_is_read"]

_LOOK_SECONDS = 0.2


async def while_output_is_read(work: Callable[[], Awaitable[None]]) -> None:
    """Do some work until it ends, or until stdout is a pipe that has no reader any more.

    Raises:
        BrokenPipeError: The reader has left.
        BaseException: The work's own exceptions.
    """
    failure: Exception | None = None
    has_left = False

    async def look() -> None:
        nonlocal has_left
        while not (has_left := _reader_has_left()):  # noqa: ASYNC110 - no event reports it
            await anyio.sleep(_LOOK_SECONDS)
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised below, where it is not put into a group
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if has_left:
        raise BrokenPipeError


def _reader_has_left() -> bool:
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # no stdout, or one that is not a file
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # errors and hang-ups are always reported
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(0))
