"""A lock that is re-entrant, and free in a forked child."""

from __future__ import annotations

import os
import threading

import pytest

from eventbus.fork_safety import ForkSafeLock


def test_try_enter_succeeds_only_as_the_outermost_entry_of_a_free_lock() -> None:
    """A finalizer that interrupts the holder, or finds another thread holding the lock, does not wait."""
    lock = ForkSafeLock()
    entered: list[bool] = []
    with lock as outermost:
        assert outermost
        with lock as inner:
            assert not inner
        assert not lock.try_enter()
        other = threading.Thread(target=lambda: entered.append(lock.try_enter()))
        other.start()
        other.join()
    assert entered == [False]
    assert lock.try_enter()
    lock.leave()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
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
        os._exit(0 if lock.try_enter() else 1)
    _, status = os.waitpid(child, 0)
    assert not lock.try_enter()
    done.set()
    holder.join()
    assert os.waitstatus_to_exitcode(status) == 0
