"""The critical section that signal handlers and finalizers may interrupt."""

from __future__ import annotations

import threading

import pytest

from eventbus.delivery.critical_section import CriticalSection


class _Log:
    """Notes what was done, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.section = CriticalSection(self.make_up)

    def make_up(self) -> None:
        self.done.append("made up")

    def note(self, what: str) -> str:
        self.done.append(what)
        return what


def test_result_comes_back() -> None:
    """What is done inside gives its result."""
    log = _Log()
    assert log.section.run(log.note, "one") == "one"
    assert log.section.run_unless_inside(lambda: log.note("two")) == "two"
    assert log.done == ["one", "two"]


def test_who_is_inside_goes_straight_in() -> None:
    """`run` does its work at once in a thread that is inside already."""
    log = _Log()
    log.section.run(lambda what: log.section.run(log.note, what), "nested")
    assert log.done == ["nested"]


@pytest.mark.parametrize("outer", ["run", "run_unless_inside"])
def test_who_is_turned_away_is_made_up_for(outer: str) -> None:
    """`run_unless_inside` does nothing in a thread that is inside, and is made up for when it has left."""
    log = _Log()

    def work(_: object = None) -> None:
        assert log.section.run_unless_inside(lambda: log.note("amid")) is None
        log.note("still inside")

    if outer == "run":
        log.section.run(work, None)
    else:
        log.section.run_unless_inside(work)
    assert log.done == ["still inside", "made up"]


def test_nobody_is_made_up_for_in_vain() -> None:
    """Who was not turned away is not made up for."""
    log = _Log()
    log.section.run(log.note, "one")
    log.section.run(log.note, "two")
    assert "made up" not in log.done


def test_it_is_left_when_the_work_raises() -> None:
    """Work that raises leaves the section open to others."""
    log = _Log()
    with pytest.raises(ZeroDivisionError):
        log.section.run(lambda zero: 1 // zero, 0)
    with pytest.raises(ZeroDivisionError):
        log.section.run_unless_inside(lambda: 1 // len(log.done))
    thread = threading.Thread(target=log.section.run, args=(log.note, "elsewhere"))
    thread.start()
    thread.join(5)
    assert log.done == ["elsewhere"]


def test_one_thread_at_a_time() -> None:
    """While one thread is inside, others wait."""
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
