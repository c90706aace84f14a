"""The critical section that signal handlers and finalizers may interrupt."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from eventbus.delivery.critical_section import CriticalSection


class _Log:
    """Records the order of calls."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.section = CriticalSection(self.make_up)

    def make_up(self) -> None:
        self.done.append("made up")

    def note(self, what: str) -> str:
        self.done.append(what)
        return what


def test_result_comes_back() -> None:
    """A function that runs inside returns its result."""
    log = _Log()
    assert log.section.run(log.note, "one") == "one"
    assert log.section.run_unless_inside(lambda: log.note("two")) == "two"
    assert log.done == ["one", "two"]


def test_nested_calls_run_at_once() -> None:
    """`run` calls the function at once in a thread that is already inside."""
    log = _Log()
    log.section.run(lambda what: log.section.run(log.note, what), "nested")
    assert log.done == ["nested"]


@pytest.mark.parametrize("outer", ["run", "run_unless_inside"])
def test_a_skipped_call_is_made_up_for(outer: str) -> None:
    """`run_unless_inside` does nothing in a thread that is inside; `make_up` is called when that thread
    leaves.
    """
    log = _Log()

    def work(_: object = None) -> None:
        assert log.section.run_unless_inside(lambda: log.note("during")) is None
        log.note("still inside")

    if outer == "run":
        log.section.run(work, None)
    else:
        log.section.run_unless_inside(work)
    assert log.done == ["still inside", "made up"]


def test_without_a_skipped_call_nothing_is_made_up() -> None:
    """Without a skipped call, `make_up` is not called."""
    log = _Log()
    log.section.run(log.note, "one")
    log.section.run(log.note, "two")
    assert "made up" not in log.done


def test_it_is_left_when_the_work_raises() -> None:
    """A function that raises leaves the section open to other threads."""
    log = _Log()
    with pytest.raises(ZeroDivisionError):
        log.section.run(lambda zero: 1 // zero, 0)
    with pytest.raises(ZeroDivisionError):
        log.section.run_unless_inside(lambda: 1 // len(log.done))
    thread = threading.Thread(target=log.section.run, args=(log.note, "elsewhere"))
    thread.start()
    thread.join(5)
    assert log.done == ["elsewhere"]


class _Struck(BaseException): ...


class _StrikingLock:
    """A lock in whose entry an exception strikes when it is held already, as Python 3.14 lets one do."""

    def __init__(self, lock: Any) -> None:
        self.release = lock.release
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()
        raise _Struck

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("entry", ["run", "run_unless_inside"])
def test_it_is_left_when_an_exception_strikes_on_entry(entry: str) -> None:
    """An exception between the entry and the work leaves the section open to other threads."""
    log = _Log()
    section = log.section
    section._lock = _StrikingLock(section._lock)
    enter = (
        partial(section.run, log.note, "never") if entry == "run" else partial(section.run_unless_inside, int)
    )
    with pytest.raises(_Struck):
        enter()
    assert not section.is_inside()
    assert log.done == []


def test_an_exception_in_a_nested_call_does_not_leave() -> None:
    """The thread stays inside until the outermost call ends."""
    log = _Log()

    def work(_: None) -> None:
        with pytest.raises(ZeroDivisionError):
            log.section.run(lambda zero: 1 // zero, 0)
        assert log.section.is_inside()

    log.section.run(work, None)
    assert not log.section.is_inside()


def test_one_thread_at_a_time() -> None:
    """While one thread is inside, other threads wait."""
    log = _Log()
    is_inside, go = threading.Event(), threading.Event()

    def stay(_: None) -> None:
        is_inside.set()
        assert go.wait(5)
        log.note("first")

    first = threading.Thread(target=log.section.run, args=(stay, None))
    second = threading.Thread(target=log.section.run, args=(log.note, "second"))
    first.start()
    assert is_inside.wait(5)
    second.start()
    assert log.done == []
    go.set()
    first.join(5)
    second.join(5)
    assert log.done == ["first", "second"]
