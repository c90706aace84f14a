"""A lock that is re-entrant, and free in a forked child."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from eventbus.ground import fork_safety
from eventbus.ground.fork_safety import ForkSafeLock
from tests.vocabulary import run_in_threads


def test_run_if_free_runs_only_as_the_outermost_entry_of_a_free_lock() -> None:
    """A finalizer that interrupts the holder, or finds another thread holding the lock, does not wait."""
    lock = ForkSafeLock()
    ran: list[bool] = []

    def run() -> None:
        ran.append(lock.run_if_free(lambda: ran.append(lock.is_inside())))

    with lock:
        with lock:
            assert lock.is_inside()
        run()
        run_in_threads(run)
    assert ran == [False, False]
    run()
    assert ran[2:] == [True, True]
    assert not lock.is_inside()


class Struck(BaseException):
    """Strikes like a KeyboardInterrupt."""


def _use(lock: ForkSafeLock, entered: list[int]) -> None:
    with lock, lock:
        entered.append(1)
    lock.run_if_free(lambda: entered.append(2))


def test_an_exception_at_any_line_leaves_the_lock_free() -> None:
    """An exception that strikes a thread at any line of the lock's code leaves the lock free for others."""
    k, entered = 0, list[int]()
    for k in itertools.count():
        lock, left, entered = ForkSafeLock(), itertools.count(k, -1), list[int]()

        def trace(frame: Any, what: str, argument: object, left: Iterator[int] = left) -> Any:
            if frame.f_code.co_filename != fork_safety.__file__:
                return None
            if not next(left):
                raise Struck
            return trace

        tracer = sys.gettrace()
        sys.settrace(trace)
        try:
            _use(lock, entered)
        except Struck:
            pass
        finally:
            sys.settrace(tracer)
        run_in_threads(partial(_assert_free, lock))
        if next(left) >= 0:
            break
    assert k >= 10
    assert entered == [1, 2]


def _assert_free(lock: ForkSafeLock) -> None:
    assert lock.run_if_free(int)


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="there `with` may be struck between its entry and its block"
)
def test_exceptions_at_random_moments_leave_the_lock_free() -> None:
    """Exceptions that another thread raises in a user of the lock leave it free for others."""
    lock, go_on = ForkSafeLock(), threading.Semaphore(0)
    user, struck, strikes = threading.get_ident(), 0, 100

    def strike() -> None:
        for _ in range(strikes):
            go_on.acquire()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(user), ctypes.py_object(Struck))

    thread = threading.Thread(target=strike)
    thread.start()
    while struck < strikes:
        try:
            go_on.release()
            while True:
                _use(lock, [])
        except Struck:
            struck += 1
            assert not lock.is_inside()
    thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_enter_a_lock_that_a_thread_of_its_parent_held() -> None:
    """The thread that held it does not exist in the child and could never release it there."""
    lock = ForkSafeLock()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if lock.run_if_free(int) else 1)
    _, status = os.waitpid(child, 0)
    assert not lock.run_if_free(int)
    done.set()
    holder.join()
    assert os.waitstatus_to_exitcode(status) == 0
