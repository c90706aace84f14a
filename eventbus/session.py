"""Which session am I in? `session_scope()` says it, `current_session_id()` asks.

An event is stamped with its session when it is built, so the answer must be cheap and must never
depend on who consumes the event later. It is, in this order: the innermost `session_scope` of the
calling context, the environment's ``EVENTBUS_SESSION_ID``, the one session that has a run active
in this process, and otherwise None.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from eventbus.fork_safety import ForkSafeLock

__all__ = [
    "SESSION_VARIABLE",
    "active_session",
    "current_session_id",
    "leave_all_scopes",
    "mark_active",
    "mark_inactive",
    "new_id",
    "session_scope",
]

SESSION_VARIABLE = "EVENTBUS_SESSION_ID"
"""The environment variable that names the session for a whole process and its children."""

_scope: ContextVar[str | None] = ContextVar("eventbus_session_scope", default=None)

# `os.environ.get` of a missing variable costs 600 ns, more than building the rest of an event; the
# mapping beneath it answers in 20 ns. A cached value would be wrong as soon as a program sets it.
_environment: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
_variable: Any = SESSION_VARIABLE if _environment is os.environ else os.environ.encodekey(SESSION_VARIABLE)

_active_lock = ForkSafeLock()
_active: dict[object, str] = {}
_changes = 0
_only_active: str | None = None


def new_id() -> str:
    """Return a fresh id of 12 hexadecimal digits, for a session, a run or a skill invocation."""
    return os.urandom(6).hex()


def current_session_id() -> str | None:
    """Return the id of the session this code runs in, or None when nothing says which.

    The innermost `session_scope` wins, then the environment's ``EVENTBUS_SESSION_ID`` (an empty
    value counts as unset), then the one session with an active run in this process.
    """
    session_id = _scope.get()
    if session_id is not None:
        return session_id
    named = _environment.get(_variable)
    if named:
        return os.fsdecode(named)
    return _only_active


@contextmanager
def session_scope(session_id: str | None = None) -> Generator[str]:
    """Say which session the enclosed code runs in; events built inside carry its id.

    Scopes nest; they follow tasks and `anyio.to_thread`, but not `ThreadPoolExecutor.submit`,
    which starts with an empty context.

    Args:
        session_id: The id to use. None makes a new one.

    Yields:
        The id in force.

    Raises:
        ValueError: The id is empty: it could not be told from "no session".
    """
    if session_id is None:
        session_id = new_id()
    elif not session_id:
        raise ValueError("an empty session id names nothing. Pass None to have one made")
    token = _scope.set(session_id)
    try:
        yield session_id
    finally:
        _reset(token)


@contextmanager
def active_session(session_id: str) -> Generator[str]:
    """Mark a session as having a run active in this process.

    While exactly one session is active, events that nothing else attributes are attributed to it.
    With two active sessions there is no telling which one is meant, so neither is.

    Args:
        session_id: The session of the run.

    Yields:
        The same id.
    """
    mark = object()
    mark_active(mark, session_id)
    try:
        yield session_id
    finally:
        mark_inactive(mark)


def mark_active(mark: object, session_id: str) -> None:
    """Mark a session as active until `mark_inactive`; for what cannot be a ``with`` block.

    Args:
        mark: Whatever is unique to the run: a session is active while any mark of it is left.
        session_id: The session of the run.
    """
    _change_marks(mark, session_id)


def mark_inactive(mark: object) -> None:
    """Undo `mark_active`; nothing if that was done. Also from a finalizer."""
    _change_marks(mark, None)


def _change_marks(mark: object, session_id: str | None) -> None:
    global _only_active, _changes  # noqa: PLW0603 - read for every event without a scope: cheapest so
    with _active_lock:
        if session_id is None:
            _active.pop(mark, None)
        else:
            _active[mark] = session_id
        _changes += 1
        counted = -1
        # Again, if a finalizer changed the marks in this very thread while they were looked at.
        while counted != _changes:
            counted = _changes
            sessions = set(list(_active.values()))  # noqa: C414 - one step: it cannot change meanwhile
            _only_active = sessions.pop() if len(sessions) == 1 else None


def leave_all_scopes() -> None:
    """Forget, in this context, every scope it inherited (a delivery task outlives them all)."""
    _scope.set(None)


def _reset(token: Any) -> None:
    try:
        _scope.reset(token)
    except ValueError:
        # Left in another context than it was entered in (a fixture, an async generator): the scope
        # died with that context, and there is nothing to put back here.
        return
