"""The current session: `session_scope()` sets it, `current_session_id()` returns it.

It is the innermost `session_scope` of the calling context, otherwise the environment's
``EVENTBUS_SESSION_ID``, otherwise the one session with an active run in this process, otherwise None.
An event gets its session when it is built, so reading the current session must be cheap.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from eventbus.ground.fork_safety import ForkSafeLock
from eventbus.ground.session_names import name_of_bytes, name_to_bytes

__all__ = [
    "SESSION_VARIABLE",
    "current_session_id",
    "leave_all_scopes",
    "mark_active",
    "mark_inactive",
    "new_id",
    "session_scope",
    "set_session_of_process",
]

SESSION_VARIABLE = "EVENTBUS_SESSION_ID"
"""The environment variable that sets the session of a process and its children."""

_scope: ContextVar[str | None] = ContextVar("eventbus_session_scope", default=None)

# `os.environ.get` of a missing variable costs 600 ns, more than building the rest of an event; the
# mapping beneath it takes 20 ns. A cached value would be wrong as soon as a program sets the variable.
_environment: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
_variable: Any = SESSION_VARIABLE if _environment is os.environ else os.environ.encodekey(SESSION_VARIABLE)

_active_lock = ForkSafeLock()
_active: dict[object, str] = {}
_changes = 0
_only_active: str | None = None


def new_id() -> str:
    """Return a new id of 12 hexadecimal digits, for a session, a run or a skill invocation."""
    return os.urandom(6).hex()


def current_session_id() -> str | None:
    """Return the id of the current session, or None if there is none.

    The innermost `session_scope` wins, then the environment's ``EVENTBUS_SESSION_ID`` (an empty
    value counts as unset), then the one session with an active run in this process.
    """
    session_id = _scope.get()
    if session_id is not None:
        return session_id
    value = _environment.get(_variable)
    if value:
        return name_of_bytes(value) if isinstance(value, bytes) else str(value)
    return _only_active


@contextmanager
def session_scope(session_id: str | None = None) -> Generator[str]:
    """Set the session of the enclosed code; events built inside carry its id.

    Scopes nest. They follow tasks and `anyio.to_thread`, but not `ThreadPoolExecutor.submit`, which
    starts with an empty context.

    Args:
        session_id: The id to use; None makes a new one.

    Yields:
        The id in force.

    Raises:
        ValueError: The id is empty, which could not be distinguished from "no session".
    """
    if session_id is None:
        session_id = new_id()
    elif not session_id:
        raise ValueError("a session id must not be empty. Pass None to make a new one")
    token = _scope.set(session_id)
    try:
        yield session_id
    finally:
        _reset(token)


def set_session_of_process(session_id: str) -> None:
    """Set the environment variable: the session of this process and of the children it will start."""
    if os.supports_bytes_environ:
        os.environb[SESSION_VARIABLE.encode()] = name_to_bytes(session_id)  # the same in every locale
    else:
        os.environ[SESSION_VARIABLE] = session_id


def mark_active(mark: object, session_id: str) -> None:
    """Mark a session as having an active run, until `mark_inactive`.

    While exactly one session is active, it is the current session of code without another. Two active
    sessions are ambiguous, and then neither is.

    Args:
        mark: An object of the run's own; a session is active while it has a mark.
        session_id: The session of the run.
    """
    _change_marks(mark, session_id)


def mark_inactive(mark: object) -> None:
    """Undo `mark_active`, if it is not undone yet. May be called from a finalizer."""
    _change_marks(mark, None)


def _change_marks(mark: object, session_id: str | None) -> None:
    global _only_active, _changes  # noqa: PLW0603 - read for each event without a scope; globals are cheapest
    with _active_lock:
        if session_id is None:
            _active.pop(mark, None)
        else:
            _active[mark] = session_id
        _changes += 1
        seen = -1
        # A finalizer that runs in this thread may change the marks at the same time: then look again.
        while seen != _changes:
            seen = _changes
            sessions = set(list(_active.values()))  # noqa: C414 - copying the values is atomic
            _only_active = sessions.pop() if len(sessions) == 1 else None


def leave_all_scopes() -> None:
    """Forget the scopes that this context inherited; a delivery task outlives them."""
    _scope.set(None)


def _reset(token: Any) -> None:
    try:
        _scope.reset(token)
    except ValueError:
        # The scope is left in another context than it was entered in (a fixture, an async generator),
        # and ended with that context: there is nothing to restore here.
        return
