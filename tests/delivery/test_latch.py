"""Waiting for something that happens once."""

from __future__ import annotations

import threading

from eventbus.delivery.latch import Latch


def test_all_waits_end_when_it_is_opened() -> None:
    """Opening a latch ends every wait, also later ones, and opening it again does nothing."""
    latch = Latch()
    ended: list[bool] = []
    threads = [threading.Thread(target=lambda: ended.append(latch.wait())) for _ in range(3)]
    for thread in threads:
        thread.start()
    latch.open()
    latch.open()
    for thread in threads:
        thread.join()
    assert ended == [True] * 3
    assert latch.wait(0)
    assert latch.is_open()


def test_a_wait_ends_at_its_timeout() -> None:
    """A wait for a latch that is not opened returns False after its timeout."""
    latch = Latch()
    assert not latch.wait(0.001)
    assert not latch.is_open()
