"""Find handlers that wait for each other in a circle, within one bus or across several."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eventbus.delivery.causality import handling
from eventbus.errors import WouldDeadlockError

if TYPE_CHECKING:
    from eventbus.delivery.subscription import Subscription

__all__ = ["waiting_for"]


@contextmanager
def waiting_for(others: Callable[[], Iterable[Subscription]], what: str) -> Generator[None]:
    """Note that the calling handler, if it is one, waits for the handlers of other subscriptions.

    Args:
        others: Returns the subscriptions that it still waits for.
        what: What it waits for, for the error.

    Raises:
        WouldDeadlockError: One of them waits, directly or through others, for the calling handler.
    """
    me = handling()
    if me is None:
        yield
        return
    me.waits.append(others)  # before looking: of two that begin at the same time, one sees the other
    try:
        _check_no_circle(me, what)
        yield
    finally:
        _forget(me, others)


def _check_no_circle(me: Subscription, what: str) -> None:
    seen: set[Subscription] = set()
    ahead = [me]
    while ahead:
        for each in (other for others in tuple(ahead.pop().waits) for other in others()):
            if each is me:
                raise WouldDeadlockError(
                    f"the handler of {me.name!r} cannot wait for {what}, which waits for that handler. "
                    "Use publish, a larger capacity, or wait in a task that outlives the handler"
                )
            if each not in seen:
                seen.add(each)
                ahead.append(each)


def _forget(me: Subscription, others: Callable[[], Iterable[Subscription]]) -> None:
    for index, each in enumerate(me.waits):
        if each is others:
            del me.waits[index]
            return
