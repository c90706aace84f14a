"""How a node or a run ended, read from the several ways in which callers say it."""

from __future__ import annotations

from typing import Any, cast, get_args

from eventbus.trackers.guards import as_text

__all__ = ["MAX_ERROR_MESSAGE", "failure", "is_failure", "outcome_of"]

MAX_ERROR_MESSAGE = 500
"""How many characters of an exception's text are kept, where it is asked for."""


def outcome_of(success: bool, status: object, known: object) -> dict[str, Any]:
    """Return ``status`` and ``success``.

    Args:
        success: Whether it succeeded.
        status: How it ended; anything but one of `known` is worked out from `success`, for a status
            that the wire does not know would make the event unreadable.
        known: The `Literal` of what it can be.
    """
    told = None if status is None else as_text(status)
    if told not in get_args(known):
        told = "ok" if success else "failed"
    return {"status": told, "success": success}


def failure(
    details: dict[str, Any],
    error: BaseException | None,
    error_type: str | None,
    error_message: str | None,
    *,
    with_text: bool,
) -> tuple[str | None, str | None]:
    """Take the type and the text of an exception from wherever they were given.

    Args:
        details: The metadata; both are taken out of it.
        error: The exception itself.
        error_type: Its type, told apart; goes before that in `details`, and before `error`.
        error_message: Its text, likewise.
        with_text: Whether the text was asked for; it may be private.
    """
    told_type, told_text = details.pop("error_type", None), details.pop("error_message", None)
    kind = _first(error_type, told_type, None if error is None else type(error).__name__)
    text = _first(error_message, told_text, error) if with_text else None
    return kind, None if text is None else text[:MAX_ERROR_MESSAGE]


def is_failure(error: BaseException) -> bool:
    """Whether something failed; a group may hold cancellations beside the failure that caused them."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.subgroup(Exception) is not None
    return isinstance(error, Exception)


def _first(*values: object) -> str | None:
    return next((as_text(value) for value in values if value is not None), None)
