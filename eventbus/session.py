"""Which session am I in? `session_scope()` says it, `current_session_id()` asks.

An event is stamped with its session when it is built, so the answer must be cheap and must never
depend on who consumes the event later. It is, in this order: the innermost `session_scope` of the
calling context, the environment's ``EVENTBUS_SESSION_ID``, the one session that has a run active
in this process, and otherwise None.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["SESSION_VARIABLE", "active_session", "current_session_id", "new_id", "session_scope"]

SESSION_VARIABLE = "EVENTBUS_SESSION_ID"
"""The environment variable that names the session for a whole process and its children."""

_scope: ContextVar[str | None] = ContextVar("eventbus_session_scope", default=None)

# `os.environ.get` of a missing variable costs 600 ns, more than building the rest of an event; the
# mapping beneath it answers in 20 ns. A cached value would be wrong as soon as a program sets it.
_environment: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
_variable: Any = SESSION_VARIABLE if _environment is os.environ else os.environ.encodekey(SESSION_VARIABLE)

_active_lock = threading.Lock()
_active: dict[object, str] = {}
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
    run = object()
    _mark_active(run, session_id)
    try:
        yield session_id
    finally:
        _mark_active(run, None)


def _mark_active(run: object, session_id: str | None) -> None:
    global _only_active  # noqa: PLW0603 - read for every event built without a scope: cheapest so
    with _active_lock:
        if session_id is None:
            _active.pop(run, None)
        else:
            _active[run] = session_id
        sessions = set(_active.values())
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
