"""What keeps a subscriber's code from others: its exceptions, and what it leaves in its context."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar, cast

__all__ = ["exit_in", "has_changed_since", "in_context"]

_Result = TypeVar("_Result")


def exit_in(error: BaseException) -> BaseException | None:
    """Return the `KeyboardInterrupt` or `SystemExit` that an exception is or, as a group, contains.

    They alone are raised to the program. All else is a failure of the code that raised it, also if it
    is no `Exception`: a panic of an extension, another library's timeout.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return error
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return next(filter(None, map(exit_in, parts)), None)
    return None


def has_changed_since(context: Context) -> bool:
    """Whether a context variable has got an unequal value since `context` was copied from the running one."""
    try:
        return copy_context() != context  # compares one pointer as long as nothing has been set
    except BaseException as error:  # two values could not be compared
        if exit_in(error) is not None:
            raise
        return True


@types.coroutine
def in_context(
    context: Context, coroutine: Coroutine[Any, Any, _Result], on_suspend: Callable[[], None]
) -> Generator[Any, Any, _Result]:
    """Await a coroutine whose context variables are those of `context`, in the calling task.

    Args:
        context: Its context.
        coroutine: The coroutine.
        on_suspend: Called each time it suspends.
    """
    step = partial(coroutine.send, None)
    while True:
        try:
            awaited = context.run(step)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        on_suspend()
        try:
            step = partial(coroutine.send, (yield awaited))
        except BaseException as error:  # noqa: BLE001 - also GeneratorExit: it is the coroutine's to see
            step = partial(coroutine.throw, error)
