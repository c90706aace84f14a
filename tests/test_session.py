"""Which session am I in?"""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.to_thread
import pytest

from eventbus import Event, current_session_id, session_scope
from eventbus.session import SESSION_VARIABLE, active_session, leave_all_scopes, new_id


def test_nothing_says_which() -> None:
    """The session is None when nothing says which."""
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
    """A scope ends with its block, however that is left."""
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
    """An empty session id is refused: it could not be told from "no session"."""
    with pytest.raises(ValueError, match="empty"), session_scope(""):
        pass


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's `EVENTBUS_SESSION_ID` names the session where no scope does, also when set late."""
    monkeypatch.setenv(SESSION_VARIABLE, "from outside, \N{SNOWMAN}")
    assert current_session_id() == "from outside, \N{SNOWMAN}"
    with session_scope("a scope"):
        assert current_session_id() == "a scope"
    monkeypatch.setenv(SESSION_VARIABLE, "")
    assert current_session_id() is None
    monkeypatch.delenv(SESSION_VARIABLE)
    assert current_session_id() is None


def test_the_one_active_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one session with an active run is meant where neither a scope nor the environment says which."""
    with active_session("of the run") as session_id:
        assert session_id == current_session_id() == "of the run"
        with active_session("of the run"):  # two runs of one session are one session
            assert current_session_id() == "of the run"
        assert current_session_id() == "of the run"
        monkeypatch.setenv(SESSION_VARIABLE, "from outside")
        assert current_session_id() == "from outside"
    monkeypatch.delenv(SESSION_VARIABLE)
    assert current_session_id() is None


def test_two_active_runs() -> None:
    """With two active sessions there is no telling which one is meant, so neither is."""
    with active_session("one"):
        with active_session("two"):
            assert current_session_id() is None
        assert current_session_id() == "one"


def test_the_active_run_is_seen_in_every_thread() -> None:
    """The one active session is that of the process: threads with an empty context see it too."""
    with active_session("of the run"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(current_session_id).result() == "of the run"


def test_pool_threads_see_no_scope() -> None:
    """A scope does not follow `ThreadPoolExecutor.submit`, which starts with an empty context."""
    with session_scope("here"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(current_session_id).result() is None


@pytest.mark.anyio
async def test_scopes_follow_tasks_and_threads() -> None:
    """Scopes follow tasks and `anyio.to_thread`, and stay apart in tasks side by side."""
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
    """A scope that is left in another context than it was entered in leaves that one as it was."""
    scope = session_scope("elsewhere")
    contextvars.Context().run(scope.__enter__)
    with session_scope("here"):
        scope.__exit__(None, None, None)
        assert current_session_id() == "here"


def test_events_are_stamped_when_they_are_built() -> None:
    """An event is stamped with its session when it is built, by whoever builds it; an explicit one holds."""
    with session_scope("the builder"):
        event, explicit, none = Event(), Event(session_id="explicit"), Event(session_id=None)
    with session_scope("later"):
        assert (event.session_id, explicit.session_id, none.session_id) == ("the builder", "explicit", None)


def test_leaving_all_scopes() -> None:
    """Leaving all scopes forgets them in this context only."""
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
            with active_session(f"session {n % 3}"):
                current_session_id()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert current_session_id() is None
