"""EventBus: the front door.

How an event gets from its publisher into mailboxes is in `router`, how it gets from a mailbox to
its handler in `subscription`, and where that runs in `host`. Here is what users call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from contextvars import Token
from functools import partial
from types import TracebackType, UnionType
from typing import Any, Self, TypedDict, TypeVar, Unpack, overload

import anyio
import anyio.abc
import blinker

from eventbus import current
from eventbus.contracts import DEFAULT_CAPACITY, EventSink, EventT, EventTypes, Overflow, Subscriber
from eventbus.doorbell import Waiter
from eventbus.errors import BusStateError, SubscriberError
from eventbus.events import Event, EventsLost
from eventbus.handlers import as_subscriber, check_options, classes_in, name_of
from eventbus.host import Host, monotonic_deadline, remember
from eventbus.mailbox import new_mailbox
from eventbus.router import Router
from eventbus.session import new_id
from eventbus.statistics import BusStatistics, DrainReport, SubscriptionStatistics
from eventbus.stream import EventStream
from eventbus.subscription import Subscription, check_not_handling, handling

__all__ = ["EventBus", "SubscriptionOptions"]

CLOSE_TIMEOUT_SECONDS = 5.0
"""How long a close lets subscribers drain unless told otherwise."""

CLOSE_GRACE_SECONDS = 0.1
"""How long past its deadline a close waits for what was cancelled then."""

logger = logging.getLogger("eventbus")

_HandlerT = TypeVar("_HandlerT", bound=Callable[..., object])


class SubscriptionOptions(TypedDict, total=False):
    """What may be said of a subscription; see `EventBus.subscribe`."""

    name: str
    capacity: int
    overflow: Overflow
    key: Callable[[Any], Hashable]
    replay: int


class EventBus(Router):
    """An in-process publish/subscribe bus that never blocks its publishers.

        with EventBus([MySubscriber()]) as bus:        # subscribers on the bus's own thread and loop
            bus.publish(NodeCompleted(workflow_id="ci", node_id="tests"))

        async with EventBus([MySubscriber()]) as bus:  # subscribers in the caller's loop
            ...

    Leaving the block closes the bus: what was published is delivered first.

    Args:
        subscribers: Handlers and `Subscriber` instances to subscribe from the start.
        name: What logs and its thread call it.
        history: How many of the last accepted events are kept for `replay`; 0 for none.

    Attributes:
        id: 12 hexadecimal digits of its own; ``(bus id, number)`` names an event.
        name: Its name.
        report: What its close delivered and what it did not; None until it has closed.

    Raises:
        SubscriberError: One of `subscribers` cannot be used as a subscriber.
        ValueError: `history` is negative.
    """

    def __init__(
        self,
        subscribers: Iterable[Subscriber[Any] | Callable[[Any], object]] = (),
        *,
        name: str | None = None,
        history: int = 1_024,
    ) -> None:
        if history < 0:
            raise ValueError(f"history={history} keeps less than nothing. Pass 0 to turn it off")
        super().__init__(history)
        self.name = name or "eventbus"
        self._state_lock = threading.RLock()
        self._token: Token[EventSink | None] | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._begin_new()
        for subscriber in subscribers:
            self.subscribe(subscriber)
        remember(self)

    def _begin_new(self) -> None:
        self.id = new_id()
        self.report: DrainReport | None = None
        self._host: Host | None = None
        self._is_running = False
        self._is_draining = False
        self._deadline = float("inf")
        self._close_began = 0.0
        self._fatal: BaseException | None = None
        self._ended = threading.Event()
        self._close_waiters: list[Waiter] = []

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "running" if self._is_running else "not entered"
        return f"<EventBus {self.name!r} {self.id} {state}, {len(self._subscriptions)} subscriptions>"

    # Entering and leaving.

    def __enter__(self) -> Self:
        """Run the subscribers on a thread of the bus's own, with its own loop.

        Raises:
            BusStateError: The bus has been entered before.
        """
        host = self._enter()
        host.start_thread()
        self._token = current.entered(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the bus."""
        self._leave()
        self.close()

    async def __aenter__(self) -> Self:
        """Run the subscribers in a task group of the calling task.

        Raises:
            BusStateError: The bus has been entered before.
        """
        host = self._enter()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(host.serve, threading.Event())
        self._token = current.entered(self)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the bus."""
        self._leave()
        try:
            await self.aclose()
        finally:
            if self._tasks is not None:
                # Told nothing of the body's exception: it would come out wrapped in a group.
                await self._tasks.__aexit__(None, None, None)

    def _enter(self) -> Host:
        with self._state_lock:
            if self._is_closed:
                raise BusStateError("this bus is closed, and stays so. Make a new EventBus")
            if self._is_running:
                raise BusStateError("this bus has been entered already. Share it, or make another EventBus")
            self._is_running = True
            self._host = host = Host(self)
        for subscription in self._subscriptions.values():
            if not subscription.is_stream:
                host.adopt(subscription)
        current.started(self)
        return host

    def _leave(self) -> None:
        if self._token is not None:
            current.left(self._token)
            self._token = None

    # Subscribing.

    @overload
    def subscribe(self, handler: Subscriber[Any], /) -> Subscription: ...

    @overload
    def subscribe(
        self,
        handler: Callable[[EventT], object],
        events: type[EventT],
        /,
        *,
        name: str | None = None,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = Overflow.DROP_OLDEST,
        key: Callable[[EventT], Hashable] | None = None,
        replay: int = 0,
    ) -> Subscription: ...

    @overload
    def subscribe(
        self,
        handler: Subscriber[Any] | Callable[[Any], object],
        events: EventTypes | None = None,
        /,
        *,
        name: str | None = None,
        capacity: int | None = None,
        overflow: Overflow | None = None,
        key: Callable[[Any], Hashable] | None = None,
        replay: int = 0,
    ) -> Subscription: ...

    def subscribe(
        self,
        handler: Subscriber[Any] | Callable[[Any], object],
        events: EventTypes | None = None,
        *,
        name: str | None = None,
        capacity: int | None = None,
        overflow: Overflow | None = None,
        key: Callable[[Any], Hashable] | None = None,
        replay: int = 0,
    ) -> Subscription:
        """Have a handler or subscriber get the events it wants; effective on return.

        What is not said is what the `Subscriber` says, and for a function the defaults. From any
        thread, before or after the bus was entered.

        Args:
            handler: A function of one event, sync or async, or a `Subscriber`.
            events: An event class, or a union of them; subclasses are included. By default what the
                subscriber says, or the annotation of the function's parameter, or `Event`.
            name: What statistics and logs call it; a number is added to make it unique.
            capacity: How many events its mailbox holds, 1 or more.
            overflow: What is sacrificed when the mailbox is full.
            key: With `Overflow.COALESCE`: of the queued events with equal keys only the latest is
                kept. Called in the publisher's thread.
            replay: Begin with up to this many of the last matching events of the bus's history,
                without a gap or a duplicate between them and what comes.

        Returns:
            The handle that ends it.

        Raises:
            SubscriberError: The handler, its events or its options make no sense.
            BusStateError: The bus is closed.
        """
        subscriber = as_subscriber(handler)
        return self._subscribe(
            subscriber,
            subscriber.events if events is None else events,
            name=name or subscriber.name or name_of(subscriber),
            capacity=subscriber.capacity if capacity is None else capacity,
            overflow=subscriber.overflow if overflow is None else overflow,
            key=subscriber.key if key is None else key,
            replay=replay,
        )

    def _subscribe(
        self,
        subscriber: Subscriber[Any] | None,
        events: EventTypes,
        *,
        name: str | None = None,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = Overflow.DROP_OLDEST,
        key: Callable[[Any], Hashable] | None = None,
        replay: int = 0,
    ) -> Subscription:
        classes = classes_in(events)
        check_options(capacity, overflow, key)
        if replay < 0:
            raise SubscriberError(f"replay={replay} is less than nothing. Pass 0 or more")
        tells_losses = any(issubclass(EventsLost, each) for each in classes)
        mailbox = new_mailbox(self._section, capacity, overflow, tells_losses=tells_losses)
        subscription = Subscription(self, name or "stream", mailbox, subscriber, key)
        self._inside(partial(self._list, subscription, classes), replay)
        if self._host is not None and subscriber is not None:
            self._host.adopt(subscription)
        return subscription

    def _list(self, subscription: Subscription, classes: tuple[type[Event], ...], replay: int) -> None:
        if self._is_closed:
            raise BusStateError(
                "this bus is closed: nothing will be published on it. Subscribe before the close"
            )
        name, number = subscription.name, 2
        while subscription.name in self._subscriptions:
            subscription.name = f"{name}-{number}"
            number += 1
        self._subscriptions[subscription.name] = subscription
        self._admit(subscription, classes, replay)

    @overload
    def on(
        self, events: EventTypes | None = None, /, **options: Unpack[SubscriptionOptions]
    ) -> Callable[[_HandlerT], _HandlerT]: ...

    @overload
    def on(self, handler: _HandlerT, /) -> _HandlerT: ...

    def on(self, events: Any = None, /, **options: Unpack[SubscriptionOptions]) -> Any:
        """Subscribe the decorated function, which is returned as it is.

            @bus.on(NodeCompleted)
            async def tell(event: NodeCompleted) -> None: ...

            @bus.on
            def tell_too(event: NodeCompleted | SkillCompleted) -> None: ...

        Args:
            events: As for `subscribe`; by default the annotation of the function's parameter.
            **options: As for `subscribe`.
        """
        if callable(events) and not isinstance(events, type | UnionType):
            self.subscribe(events)
            return events

        def decorate(handler: _HandlerT) -> _HandlerT:
            self.subscribe(handler, events, **options)
            return handler

        return decorate

    @overload
    def stream(
        self, events: type[EventT], /, **options: Unpack[SubscriptionOptions]
    ) -> EventStream[EventT]: ...

    @overload
    def stream(
        self, events: UnionType | tuple[type[Event], ...], /, **options: Unpack[SubscriptionOptions]
    ) -> EventStream[Event]: ...

    @overload
    def stream(self, /, **options: Unpack[SubscriptionOptions]) -> EventStream[Event]: ...

    def stream(
        self, events: EventTypes = Event, /, **options: Unpack[SubscriptionOptions]
    ) -> EventStream[Any]:
        """Return a stream of events to read with ``async for``, in any loop.

            async with bus.stream(NodeEvent) as events:  # subscribed before the body runs
                async for event in events: ...

        Args:
            events: An event class, or a union of them; subclasses are included.
            **options: As for `subscribe`; the capacity is what it holds for its reader.

        Raises:
            SubscriberError: The events or options make no sense; on opening it.
            BusStateError: The bus is closed; on opening it.
        """
        return EventStream(self, partial(self._subscribe, None, events, **options))

    def tap(self, event_type: type[Event]) -> blinker.Signal:
        """Return the blinker signal of an event class, whose receivers run in the publisher's thread.

            bus.tap(NodeCompleted).connect(print, weak=False)

        Receivers are called with the event, at once, in no defined order; those of a base class too.
        Each is guarded on its own: what it raises is logged and goes no further. They slow the
        publisher down by whatever they do: prefer `subscribe`.

        Args:
            event_type: One event class.

        Raises:
            SubscriberError: It is something else.
        """
        classes = classes_in(event_type)
        if len(classes) != 1:
            raise SubscriberError("a tap is on one event class. Tap each class of the union, or their base")
        return self._inside(self._tap_inside, classes[0])

    # Asking.

    def statistics(self) -> BusStatistics:
        """Return the books of the bus and its subscriptions, as they stand at this instant."""
        return self._inside(EventBus._read_statistics, self)

    def _read_statistics(self) -> BusStatistics:
        self._distribute()
        return BusStatistics(
            accepted=self._accepted, rejected=self._rejected, subscriptions=self._read_books()
        )

    def _read_books(self) -> dict[str, SubscriptionStatistics]:
        return {name: subscription.read_books() for name, subscription in self._subscriptions.items()}

    # Draining and closing.

    async def drain(self, timeout: float | None = None) -> DrainReport:
        """Wait until every event accepted so far has been handled; the bus stays open.

        Streams are not waited for: their readers take what they hold in their own time.

        Args:
            timeout: The most seconds to wait; None for no limit.

        Returns:
            What was delivered. It is not complete when the deadline passed first, or when events are
            queued and the bus is not running.

        Raises:
            WouldDeadlockError: The calling code is a handler of this bus.
        """
        check_not_handling(self, "a drain of its own bus")
        began = time.monotonic()
        await anyio.lowlevel.checkpoint()
        if not self._is_running:
            return self.report or self._report_since(began)
        self._route()
        waiters = [each.drained() for each in tuple(self._subscriptions.values()) if not each.is_stream]
        is_done = False
        with anyio.move_on_after(timeout):
            for waiter in waiters:
                await waiter.wait()
            is_done = True
        return self._report_since(began, is_done=is_done)

    def close(self, timeout: float | None = CLOSE_TIMEOUT_SECONDS) -> DrainReport:
        """Stop intake, deliver what is queued, stop the subscribers. From any thread.

        Every subscription is drained at the same time. Closing again returns the same report. In a
        handler, and in the thread of the loop that the subscribers run in, nothing can be waited
        for: there the close begins, and the report says how things stand.

        Args:
            timeout: The most seconds to drain for, then what is left is reported; None for no limit.

        Returns:
            What was delivered and what was not, at most 100 ms after the deadline.

        Raises:
            BaseException: What a subscriber raised that is no `Exception`, such as
                `KeyboardInterrupt`; once, after the others have drained.
        """
        self._begin_close(timeout)
        if self._cannot_wait():
            return self.report or self._report_since(self._close_began)
        limit = self._seconds_left() + CLOSE_GRACE_SECONDS
        self._ended.wait(None if limit == float("inf") else limit)
        return self._closed()

    async def aclose(self, timeout: float | None = CLOSE_TIMEOUT_SECONDS) -> DrainReport:
        """Close from a task, of any loop; see `close`.

        Cancellation does not cut it short: it takes no longer than the deadline, and is then passed
        on if it came by way of asyncio's own `Task.cancel`.

        Args:
            timeout: The most seconds to drain for, then what is left is reported; None for no limit.

        Returns:
            What was delivered and what was not.

        Raises:
            BaseException: What a subscriber raised that is no `Exception`, such as
                `KeyboardInterrupt`; once, after the others have drained.
        """
        self._begin_close(timeout)
        if self._is_handled_here():
            return self.report or self._report_since(self._close_began)
        waiter = Waiter()
        self._close_waiters.append(waiter)
        if self._ended.is_set():
            waiter.notify()
        cancelled: BaseException | None = None
        with anyio.move_on_after(self._seconds_left() + CLOSE_GRACE_SECONDS, shield=True) as limit:
            while not self._ended.is_set() and not limit.cancel_called:
                try:
                    await waiter.wait()
                except anyio.get_cancelled_exc_class() as error:
                    if limit.cancel_called:
                        raise
                    cancelled = error
        if cancelled is not None:
            raise cancelled
        return self._closed()

    def _begin_close(self, timeout: float | None) -> None:
        with self._state_lock:
            if self._is_draining or self._ended.is_set():
                return
            self._close_began = time.monotonic()
            self._deadline = monotonic_deadline(timeout)
            self._stop_intake()
            self._is_draining = True
        for subscription in tuple(self._subscriptions.values()):
            subscription.mailbox.tell_there_is_room()  # nobody need wait to publish any more
            subscription.wake()
        if self._host is None:
            self._finish()
        else:
            self._host.wake()

    def _stop_intake(self) -> None:
        self._is_closed = True
        self._kinds = {}
        self._slack = -1
        self._route()

    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _finish(self) -> None:
        """Note that nothing runs any more, and tell those who wait for it."""
        with self._state_lock:
            if self._ended.is_set():
                return
            self._stop_intake()
            self.report = self._report_since(self._close_began, is_done=True)
            self._is_running = False
            current.stopped(self)
            self._ended.set()
        for waiter in self._close_waiters:
            waiter.notify()
        self._say_what_is_undelivered(self.report)
        if self._fatal is not None and self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def _closed(self) -> DrainReport:
        """Return the report of the close, after raising what has to come out."""
        fatal, self._fatal = self._fatal, None
        if fatal is not None:
            raise fatal
        if self.report is None:  # a handler that blocks its thread, or refuses to be cancelled
            report = self._report_since(self._close_began)
            self._say_what_is_undelivered(report)
            return report
        return self.report

    def _report_since(self, began: float, *, is_done: bool = False) -> DrainReport:
        books = self._inside(EventBus._read_statistics, self).subscriptions
        drained = [
            books[each.name]
            for each in tuple(self._subscriptions.values())
            if not each.is_stream and each.name in books
        ]
        undelivered = sum(each.queued for each in drained)
        cut_short = any(each.state == "cancelled" for each in drained)
        return DrainReport(
            complete=is_done and not undelivered and not cut_short,
            delivered=sum(each.delivered for each in drained),
            undelivered=undelivered,
            lost=sum(each.lost for each in drained),
            duration_seconds=time.monotonic() - began,
            subscriptions=books,
        )

    def _say_what_is_undelivered(self, report: DrainReport) -> None:
        behind = [
            f"{name!r} ({books.queued})" for name, books in report.subscriptions.items() if books.queued
        ]
        if report.undelivered:
            what = f"closed with {report.undelivered} events undelivered: {', '.join(behind)}"
            self._failure_log.warn("undelivered", what)

    def _cannot_wait(self) -> bool:
        return self._is_handled_here() or (self._host is not None and self._host.is_here())

    def _is_handled_here(self) -> bool:
        """Whether the calling code is a handler of this bus, which a close waits for."""
        subscription = handling.get()
        return subscription is not None and subscription.bus is self

    # What subscriptions and hosts ask for.

    def _remove(self, subscription: Subscription) -> None:
        """End a subscription and forget it."""
        if self._subscriptions.get(subscription.name) is subscription:
            self._retire(subscription)
            del self._subscriptions[subscription.name]
            subscription.wake()

    def _retire(self, subscription: Subscription) -> None:
        """End a subscription, but keep its books."""
        self._inside(self._dismiss, subscription)
        subscription.mailbox.tell_there_is_room()

    def _carry_out(self, error: BaseException) -> None:
        """Have the close raise what a subscriber raised that must not be kept from the program."""
        if self._fatal is None:
            self._fatal = error
        if self._tasks is not None:
            self._begin_close(CLOSE_TIMEOUT_SECONDS)

    def _become_new(self) -> None:
        """Begin anew in a forked child: no host, nothing queued, the same subscriptions."""
        if self._is_closed:
            return
        self._state_lock = threading.RLock()
        self._tasks = None
        self._begin_empty()
        self._begin_new()
        for subscription in self._subscriptions.values():
            subscription.become_new(self._section)
