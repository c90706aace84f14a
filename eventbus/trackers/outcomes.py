"""How a node or a run ended, from the arguments in which callers report it."""

from __future__ import annotations

from typing import Any, cast, get_args

from eventbus.events.json_safe import json_safe
from eventbus.trackers.guards import as_text

__all__ = ["MAX_ERROR_MESSAGE", "is_failure", "pop_error", "status_and_success"]

MAX_ERROR_MESSAGE = 500
"""How many characters of an exception's text are kept, if texts are kept at all."""


def status_and_success(success: bool, status: object, known: object) -> dict[str, Any]:
    """Return the fields ``status`` and ``success`` of an event.

    Args:
        success: Whether it succeeded.
        status: How it ended. A value that is not in `known` follows from `success`: an event with
            an unknown status could not be read back.
        known: The `Literal` of the possible values.
    """
    given = None if status is None else as_text(status)
    if given not in get_args(known):
        given = "ok" if success else "failed"
    return {"status": given, "success": success}


def pop_error(
    details: dict[str, Any],
    error: BaseException | None,
    error_type: str | None,
    error_message: str | None,
    *,
    with_text: bool,
) -> tuple[str | None, str | None]:
    """Return the type and the text of an exception, and remove both from the metadata.

    Args:
        details: The metadata.
        error: The exception itself.
        error_type: Its type. It wins over the one in `details`, which wins over that of `error`.
        error_message: Its text; the same order holds.
        with_text: Whether to return the text, which may be private.
    """
    detail_type, detail_text = _pop(details, "error_type"), _pop(details, "error_message")
    kind = _first(error_type, detail_type, None if error is None else type(error).__name__)
    text = _first(error_message, detail_text, error) if with_text else None
    return kind, None if text is None else text[:MAX_ERROR_MESSAGE]


def is_failure(error: BaseException) -> bool:
    """Return True unless the error only interrupts or cancels.

    A group may hold cancellations beside the failure that caused them: it is a failure.
    """
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.subgroup(Exception) is not None
    return isinstance(error, Exception)


def _pop(details: dict[str, Any], key: str) -> object:
    value = details.pop(key, None)
    return None if value is None else json_safe(value)


def _first(*values: object) -> str | None:
    return next((as_text(value) for value in values if value is not None), None)
