"""The current session."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import anyio
import anyio.to_thread
import pytest

from eventbus import Event, current_session_id, session_scope
from eventbus.session import SESSION_VARIABLE, leave_all_scopes, mark_active, mark_inactive, new_id


@contextmanager
def active_run(session_id: str) -> Generator[None]:
    mark = object()
    mark_active(mark, session_id)
    try:
        yield
    finally:
        mark_inactive(mark)


def test_no_session() -> None:
    """Without a scope, variable or active run the session is None."""
    assert current_session_id() is None
    assert Event().session_id is None


def test_scope() -> None:
    """The innermost scope wins; leaving it restores the one around it."""
    with session_scope("outer") as outer:
        assert (outer, current_session_id()) == ("outer", "outer")
        with session_scope("inner"):
            assert current_session_id() == "inner"
        assert current_session_id() == "outer"
    assert current_session_id() is None


def test_scope_left_by_an_exception() -> None:
    """A scope ends with its block, also when that is left by an exception."""
    with pytest.raises(ZeroDivisionError), session_scope("s"):
        raise ZeroDivisionError
    assert current_session_id() is None


def test_scope_makes_an_id() -> None:
    """`session_scope()` makes an id of 12 hexadecimal digits, a new one each time."""
    with session_scope() as first, session_scope() as second:
        assert current_session_id() == second != first
        assert len(bytes.fromhex(first)) == 6
    assert len({new_id() for _ in range(1_000)}) == 1_000


def test_an_empty_id() -> None:
    """An empty session id is refused: it could not be distinguished from "no session"."""
    with pytest.raises(ValueError, match="empty"), session_scope(""):
        pass


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a scope `EVENTBUS_SESSION_ID` names the session, also if it is set later."""
    monkeypatch.setenv(SESSION_VARIABLE, "from outside, \N{SNOWMAN}")
    assert current_session_id() == "from outside, \N{SNOWMAN}"
    with session_scope("a scope"):
        assert current_session_id() == "a scope"
    monkeypatch.setenv(SESSION_VARIABLE, "")
    assert current_session_id() is None
    monkeypatch.delenv(SESSION_VARIABLE)
    assert current_session_id() is None


def test_the_one_active_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a scope or variable the one session with an active run is the current session."""
    with active_run("of the run"):
        assert current_session_id() == "of the run"
        with active_run("of the run"):  # two runs of one session are one session
            assert current_session_id() == "of the run"
        assert current_session_id() == "of the run"
        monkeypatch.setenv(SESSION_VARIABLE, "from outside")
        assert current_session_id() == "from outside"
    monkeypatch.delenv(SESSION_VARIABLE)
    assert current_session_id() is None


def test_two_active_runs() -> None:
    """Two active sessions are ambiguous, so neither is the current session."""
    with active_run("one"):
        with active_run("two"):
            assert current_session_id() is None
        assert current_session_id() == "one"


def test_the_active_run_is_seen_in_every_thread() -> None:
    """The one active session is the process's: threads with an empty context see it, too."""
    with active_run("of the run"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(current_session_id).result() == "of the run"


def test_pool_threads_see_no_scope() -> None:
    """A scope does not follow `ThreadPoolExecutor.submit`, which starts with an empty context."""
    with session_scope("here"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(current_session_id).result() is None


@pytest.mark.anyio
async def test_scopes_follow_tasks_and_threads() -> None:
    """Scopes follow tasks and `anyio.to_thread`, and parallel tasks have their own."""
    seen: dict[str, str | None] = {}

    async def work(name: str) -> None:
        seen[f"{name} before"] = current_session_id()
        with session_scope(name):
            await anyio.lowlevel.checkpoint()
            seen[name] = await anyio.to_thread.run_sync(current_session_id)

    with session_scope("around"):
        async with anyio.create_task_group() as tasks:
            for name in ("a", "b"):
                tasks.start_soon(work, name)
        assert current_session_id() == "around"
    assert seen == {"a before": "around", "b before": "around", "a": "a", "b": "b"}


def test_a_scope_left_in_another_context() -> None:
    """A scope that is left in another context than it was entered in does not change that context."""
    scope = session_scope("elsewhere")
    contextvars.Context().run(scope.__enter__)
    with session_scope("here"):
        scope.__exit__(None, None, None)
        assert current_session_id() == "here"


def test_events_are_stamped_when_they_are_built() -> None:
    """An event gets the session in which it is built, unless one is given."""
    with session_scope("the builder"):
        event, explicit, none = Event(), Event(session_id="explicit"), Event(session_id=None)
    with session_scope("later"):
        assert (event.session_id, explicit.session_id, none.session_id) == ("the builder", "explicit", None)


def test_leaving_all_scopes() -> None:
    """`leave_all_scopes` affects its own context only."""
    with session_scope("a"), session_scope("b"):
        context = contextvars.copy_context()
        context.run(leave_all_scopes)
        assert context.run(current_session_id) is None
        assert current_session_id() == "b"


def test_activity_in_many_threads() -> None:
    """Runs that begin and end in many threads at once leave no session active."""
    start = threading.Barrier(8)

    def run(n: int) -> None:
        start.wait()
        for _ in range(500):
            with active_run(f"session {n % 3}"):
                current_session_id()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert current_session_id() is None
