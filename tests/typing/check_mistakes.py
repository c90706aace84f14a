"""Mistakes that type checkers report: checked by mypy and pyright, never run.

Each wrong line ignores the error that it must cause. An error that a checker no longer reports leaves an
unused ignore, which is an error of its own.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from eventbus import Event, EventBus, EventStream, NodeCompleted, NodeEvent, SkillCompleted, Subscriber


class Completed(Subscriber[NodeCompleted]):
    """A subscriber of one class."""


class Numbers(Subscriber[int]):  # type: ignore[type-var]  # pyright: ignore[reportInvalidTypeArguments]
    """A subscriber of a class that is not an event."""


def wants_skill(event: SkillCompleted) -> None: ...


def wants_node(event: NodeCompleted) -> None: ...


def wants_number(event: int) -> None: ...


def is_failed(event: NodeCompleted) -> bool:
    return not event.success


async def is_failed_later(event: NodeCompleted) -> bool:
    return not event.success


def subscribing_to_other_events(bus: EventBus) -> None:
    """A handler or subscriber must accept the events it is subscribed to."""
    bus.subscribe(wants_skill, NodeCompleted)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    bus.subscribe(wants_node, NodeEvent)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    bus.subscribe(wants_number)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    bus.subscribe(wants_node, int)  # type: ignore[arg-type, type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
    bus.subscribe(Completed(), SkillCompleted)  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    bus.subscribe(Completed(), NodeEvent)  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    bus.subscribe(Completed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def decorating_a_handler_of_other_events(bus: EventBus) -> None:
    """A decorated function must accept the events that the decorator names."""

    @bus.on(NodeCompleted)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def wrong(event: SkillCompleted) -> None: ...

    @bus.on(NodeEvent, name="wrong")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async def wrong_too(event: NodeCompleted) -> None: ...


def wrong_options(bus: EventBus) -> None:
    """Options have names and types."""
    bus.subscribe(wants_node, NodeCompleted, capacity="many")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    bus.stream(NodeCompleted, capacty=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def wrong_predicates(events: EventStream[NodeCompleted], skills: EventStream[SkillCompleted]) -> None:
    """A predicate accepts the events of its stream, and returns a bool without being awaited."""
    await skills.wait_for(is_failed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await events.wait_for(is_failed_later)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def wrong_streams(bus: EventBus) -> Coroutine[Any, Any, Event]:
    """A stream of two classes gives their union."""
    skills: EventStream[SkillCompleted] = bus.stream((SkillCompleted, NodeCompleted))  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    return skills.receive()
