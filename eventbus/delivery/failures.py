"""Tell the failures of handlers from cancellations and exits, and publish them."""

from __future__ import annotations

from typing import cast

from eventbus.delivery.causality import MAX_CHAIN_DEPTH, call_here, depth_here
from eventbus.delivery.isolation import exit_in
from eventbus.delivery.running_loop import is_cancellation
from eventbus.delivery.subscription import Subscription
from eventbus.events import SubscriberFailed

__all__ = ["is_failure", "is_only_cancellation", "publish_failure"]


def is_failure(error: BaseException) -> bool:
    """Whether a handler failed to handle an event, and shall get the next one nevertheless."""
    return isinstance(error, Exception) or not (
        exit_in(error) is not None or is_only_cancellation(error) or isinstance(error, GeneratorExit)
    )


def is_only_cancellation(error: BaseException) -> bool:
    """Whether an exception is a cancellation, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return all(map(is_only_cancellation, parts))
    return is_cancellation(error)


def publish_failure(
    subscription: Subscription, error_type: str, session_id: str | None, *, quarantined: bool
) -> None:
    """Publish that a subscriber failed, as an event that its handler has caused.

    Args:
        subscription: Its subscription.
        error_type: The name of the exception's class.
        session_id: The session of the event that it failed to handle.
        quarantined: Whether it gets no more events.
    """
    failure = SubscriberFailed(
        session_id=session_id, subscriber=subscription.name, error_type=error_type, quarantined=quarantined
    )
    # Published even at the depth limit: the events of its handlers are then cut.
    before = subscription.call
    subscription.call = call = (subscription, min(max(1, depth_here()), MAX_CHAIN_DEPTH))
    token = call_here.set(call)
    subscription.bus.publish(failure)
    call_here.reset(token)
    subscription.call = before
