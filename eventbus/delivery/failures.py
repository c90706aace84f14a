"""Tell the failures of handlers from cancellations and exits."""

from __future__ import annotations

from typing import cast

from eventbus.delivery.isolation import exit_in
from eventbus.delivery.running_loop import is_cancellation

__all__ = ["is_failure", "is_only_cancellation"]


def is_failure(error: BaseException) -> bool:
    """Whether a handler failed to handle an event, and shall get the next one nevertheless."""
    return isinstance(error, Exception) or not (
        exit_in(error) is not None or is_only_cancellation(error) or isinstance(error, GeneratorExit)
    )


def is_only_cancellation(error: BaseException) -> bool:
    """Whether an exception is a cancellation, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return all(map(is_only_cancellation, parts))
    return is_cancellation(error)
