"""What can be subscribed: handlers, keys and taps that can work, and the events that an annotation means."""

from __future__ import annotations

import functools
import operator
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import new_class
from typing import Annotated, Any, Generic, NewType, Optional, TypeAlias, TypeVar, Union
from unittest.mock import AsyncMock, MagicMock

import pytest

from eventbus import (
    Event,
    EventBus,
    NodeCompleted,
    NodeEvent,
    NodeStarted,
    Overflow,
    SkillCompleted,
    SkillStarted,
    Subscriber,
    SubscriberError,
)
from tests.vocabulary import Tick, Tock, number, opened, publish, read

if sys.version_info >= (3, 13):
    from typing import TypeAliasType
else:
    from typing_extensions import TypeAliasType

ValueT = TypeVar("ValueT")
NodeT = TypeVar("NodeT", bound="NodeEvent")
EitherT = TypeVar("EitherT", NodeStarted, SkillStarted)


class Result(Event, Generic[ValueT]):
    """A generic event."""

    value: ValueT


class OfNumbers(Result[int]):
    """With its argument."""


class Named:
    """A mixin that is told of its subclasses."""

    __slots__ = ()
    names: list[str] = []  # noqa: RUF012

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.names.append(cls.__name__)


# 89. What can never work is refused.


def _none() -> None: ...


def _two(event: object, more: object) -> None: ...


def _keyword(event: object, *, more: object) -> None: ...


def _generator(event: object) -> Iterator[int]:
    yield 1


async def _async_generator(event: object) -> AsyncIterator[int]:
    yield 1


async def _async(event: object) -> int:
    return 1


class _Generates:
    def __call__(self, event: object) -> Iterator[int]:
        yield 1


class _AwaitsKey:
    async def __call__(self, event: object) -> int:
        return 1


class _HandlesNothing(Subscriber[Event]):
    async def handle(self) -> None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]


class _Yields(Subscriber[Event]):
    async def handle(self, event: Event) -> AsyncIterator[int]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        yield 1


class _YieldsInBatches(Subscriber[Event]):
    async def handle_batch(self, events: object) -> AsyncIterator[int]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        yield 1


class _StartsWithNothing(Subscriber[Event]):
    async def start(self) -> None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    async def handle(self, event: Event) -> None: ...


class _KeyIsMethod(Subscriber[Event]):
    overflow = Overflow.COALESCE
    key = lambda event: event  # type: ignore[assignment]  # noqa: E731

    async def handle(self, event: Event) -> None: ...


class Sized(Subscriber[Event]):
    """A subscriber with these limits."""

    def __init__(self, **limits: Any) -> None:
        vars(self).update(limits)

    async def handle(self, event: Event) -> None:
        """Take one."""


@pytest.mark.parametrize(
    "handler",
    [
        _none,
        _two,
        _keyword,
        functools.partial(_two, 1, 2),
        _generator,
        _async_generator,
        functools.partial(_generator),
        _Generates(),
        _HandlesNothing(),
        _Yields(),
        _YieldsInBatches(),
        _StartsWithNothing(),
        _KeyIsMethod(),
        list[int],
        Sized,
    ],
)
def test_a_handler_that_can_never_work_is_refused(bus: EventBus, handler: Any) -> None:
    """Subscribing refuses what can never work with a `SubscriberError`, and leaves nothing behind."""
    with pytest.raises(SubscriberError):
        bus.subscribe(handler, Tick)
    assert bus.statistics().subscriptions == {}


@pytest.mark.parametrize("value", [0, -1, None, True, 1.5, "3"])
@pytest.mark.parametrize("limit", ["max_batch", "capacity"])
def test_a_limit_that_is_not_a_count_is_refused(bus: EventBus, limit: str, value: Any) -> None:
    """`max_batch` and `capacity` are integers of 1 or more."""
    with pytest.raises(SubscriberError, match=f"{limit}={value!r}"):
        bus.subscribe(Sized(**{limit: value}))
    assert bus.statistics().subscriptions == {}


@pytest.mark.parametrize(
    "options",
    [
        *({"capacity": value} for value in (0, -1, None, True, 1.5, "3")),
        *({"replay": value} for value in (-1, None, True, 1.5, "3")),
        {"overflow": None},
        {"overflow": "wait"},
        {"name": 3},
    ],
)
def test_an_option_that_can_never_work_is_refused(bus: EventBus, options: dict[str, Any]) -> None:
    """The error names the option; a stream refuses it, too."""
    (name,) = options
    with pytest.raises(SubscriberError, match=f"{name}="):
        bus.subscribe(Sized(), **options)
    with pytest.raises(SubscriberError, match=f"{name}="):
        opened(bus, **options)
    assert bus.statistics().subscriptions == {}


@pytest.mark.parametrize(
    "key",
    [
        _async,
        _generator,
        _async_generator,
        _AwaitsKey(),
        _Generates(),
        functools.partial(_async),
        _two,
        _none,
        "n",
        3,
    ],
)
def test_a_key_that_can_never_work_is_refused(bus: EventBus, key: Any) -> None:
    """A key is a plain function of one event."""
    with pytest.raises(SubscriberError, match="the key"):
        opened(bus, overflow=Overflow.COALESCE, key=key)


@types.coroutine
def _awaitable(event: object) -> Iterator[None]:
    yield from ()


@functools.wraps(_generator)
def _uses_generator(event: object) -> None: ...


def _rest(event: object, *rest: object) -> None: ...


def _all(*events: object, **options: object) -> None: ...


def _default(event: object, more: object = None) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        print,
        max,
        list[object]().append,
        dict[str, object]().update,
        MagicMock(),
        AsyncMock(),
        functools.singledispatch(number),
        staticmethod(number),
        _uses_generator,
        _awaitable,
        _rest,
        _all,
        _default,
    ],
)
def test_what_can_work_is_accepted(bus: EventBus, handler: Any) -> None:
    """Anything that can be called with one event is a handler, whatever its signature says, or hides."""
    assert bus.subscribe(handler, Tick).state == "waiting"


@pytest.mark.parametrize("key", [repr, str, operator.attrgetter("n"), number, MagicMock(return_value=1)])
def test_keys_that_work(bus: EventBus, key: Any) -> None:
    """A class or a function written in C may be a key."""
    stream = opened(bus, Tick, overflow=Overflow.COALESCE, key=key)
    publish(bus, 1)
    assert len(read(stream)) == 1


def test_options_complete_those_of_the_subscriber(bus: EventBus) -> None:
    """A subscriber that coalesces may be given its key when it is subscribed."""
    coalescing = Sized(overflow=Overflow.COALESCE)
    assert bus.subscribe(coalescing, key=number).state == "waiting"
    with pytest.raises(SubscriberError, match="needs key="):
        bus.subscribe(coalescing)


def test_a_handler_with_a_cache() -> None:
    """An event can be hashed, so a handler may be cached."""
    got: list[Event] = []
    with EventBus() as bus:
        subscription = bus.subscribe(functools.lru_cache(got.append), Tick)
        events = [Tick(n=n % 3, metadata={"n": [n % 3]}, session_id="s") for n in range(9)]
        for event in events:
            bus.publish(event)
    assert subscription.statistics().failed == 0
    assert len(got) == len(set(events))


# 90. What is returned, and never run.


def _returned_by(function: Callable[[Any], object], event: Event) -> object:
    return function(event)


@pytest.mark.parametrize("function", [_async, _generator, _async_generator])
def test_a_tap_whose_code_never_runs(
    bus: EventBus, function: Callable[[Any], object], caplog: pytest.LogCaptureFixture
) -> None:
    """A tap that returns a coroutine or a generator has failed: that is closed and logged."""
    seen: list[object] = []
    bus.tap(Tick).connect(function, weak=False)
    bus.tap(Tick).connect(seen.append, weak=False)
    publish(bus, 1)
    assert len(seen) == 1
    (record,) = caplog.records
    assert "which is never run" in str(record.exc_info)


@pytest.mark.parametrize("function", [_async, _generator, _async_generator])
def test_a_key_whose_code_never_runs(
    bus: EventBus, function: Callable[[Any], object], caplog: pytest.LogCaptureFixture
) -> None:
    """A key that returns a coroutine or a generator has failed: that is closed and logged."""
    stream = opened(bus, Tick, overflow=Overflow.COALESCE, key=partial(_returned_by, function))
    publish(bus, 1, 2)
    assert len(read(stream)) == 2
    assert ["could not get the key" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("function", [_generator, _async_generator])
def test_a_handler_whose_code_never_runs(function: Callable[[Any], object]) -> None:
    """A handler that returns a generator has failed."""
    with EventBus() as bus:
        subscription = bus.subscribe(partial(_returned_by, function), Tick)
        publish(bus, 1)
    assert subscription.statistics().failed == 1


# 91. Annotations.

make_alias: Any = TypeAliasType  # what a `type` statement makes; Python 3.11 has none
make_new_type: Any = NewType  # mypy 2.4 fails at a `NewType` of an event
Ends: TypeAlias = "NodeCompleted | SkillCompleted"


def _optional(event: Optional[NodeCompleted]) -> None: ...  # noqa: UP045
def _optional_in_quotes(event: Optional["NodeCompleted"]) -> None: ...  # noqa: UP037, UP045
def _or_none(event: NodeCompleted | None) -> None: ...
def _alias(event: Ends) -> None: ...
def _annotated(event: Annotated[NodeCompleted, "of a test"]) -> None: ...
def _annotated_union(event: Annotated[Optional[Ends], "of a test"]) -> None: ...  # noqa: UP045
def _of_variable(event: NodeT) -> NodeT: ...  # type: ignore[empty-body]
def _of_constraints(event: EitherT) -> EitherT: ...  # type: ignore[empty-body]
def _new_type(event: object) -> None: ...
def _generic(event: Result[int]) -> None: ...
def _with_unknown(event: NodeCompleted, more: object = None) -> object: ...
def _type_statement(event: object) -> None: ...
def _generic_statement(event: object) -> None: ...
def _anything(event: Any) -> None: ...
def _object(event: object) -> None: ...
def _union_with_any(event: Union[NodeCompleted, Any]) -> None: ...  # noqa: UP007


_type_statement.__annotations__["event"] = make_alias("Pair", NodeCompleted | SkillCompleted)
_generic_statement.__annotations__["event"] = make_alias(
    "OrSkill",
    NodeT | SkillCompleted,  # pyright: ignore[reportGeneralTypeIssues]
    type_params=(NodeT,),
)[NodeStarted]
_new_type.__annotations__["event"] = make_new_type("Failed", NodeCompleted)
_with_unknown.__annotations__ |= {"more": "Nowhere", "return": "Nowhere"}  # imported for checkers only


class _Method:
    async def handle(self, event: NodeCompleted) -> None: ...

    @staticmethod
    def static(event: NodeCompleted) -> None: ...


@functools.lru_cache
def _cached(event: NodeCompleted) -> None: ...


@functools.wraps(_cached)
def _wrapper(*arguments: object) -> None: ...


@pytest.mark.parametrize(
    ("handler", "gets"),
    [
        (_optional, "NodeCompleted"),
        (_optional_in_quotes, "NodeCompleted"),
        (_or_none, "NodeCompleted"),
        (_alias, "NodeCompleted SkillCompleted"),
        (_annotated, "NodeCompleted"),
        (_annotated_union, "NodeCompleted SkillCompleted"),
        (_of_variable, "NodeStarted NodeCompleted"),
        (_of_constraints, "NodeStarted SkillStarted"),
        (_new_type, "NodeCompleted"),
        (_type_statement, "NodeCompleted SkillCompleted"),
        (_generic_statement, "NodeStarted SkillCompleted"),
        (_generic, "Result"),
        (_with_unknown, "NodeCompleted"),
        (_anything, "NodeStarted NodeCompleted SkillStarted SkillCompleted Result"),
        (_object, "NodeStarted NodeCompleted SkillStarted SkillCompleted Result"),
        (_union_with_any, "NodeStarted NodeCompleted SkillStarted SkillCompleted Result"),
        (_Method().handle, "NodeCompleted"),
        (_Method.static, "NodeCompleted"),
        (_cached, "NodeCompleted"),
        (_wrapper, "NodeCompleted"),
        (functools.partial(_wrapper), "NodeCompleted"),
    ],
)
def test_the_events_that_an_annotation_means(bus: EventBus, handler: Any, gets: str) -> None:
    """The events of a handler are those that its first parameter takes, however the annotation says it."""
    assert _accepted(bus, handler) == gets


def _accepted(bus: EventBus, handler: Any) -> str:
    subscription = bus.subscribe(handler)
    got: list[str] = []
    for event in (
        NodeStarted(workflow_id="ci", node_id="tests"),
        NodeCompleted(workflow_id="ci", node_id="tests"),
        SkillStarted(skill_name="run"),
        SkillCompleted(skill_name="run"),
        Result(value=1),
    ):
        before = subscription.statistics().accepted
        bus.publish(event)
        if subscription.statistics().accepted > before:
            got.append(type(event).__name__)
    return " ".join(got)


def test_local_classes(bus: EventBus) -> None:
    """A local class is found by the name in quotes that a local handler, method or subscriber gives it."""

    class Local(Event):
        """Defined in a function."""

    def handle(event: Local) -> None: ...

    class Handles:
        async def method(self, event: Local) -> None: ...

        def __call__(self, event: Local | Tock) -> None: ...

    class OfLocal(Subscriber["Local"]):
        async def handle(self, event: Local) -> None: ...

    def inner() -> None:
        @bus.on
        def decorated(event: Local) -> None: ...

    for each in (handle, Handles().method, Handles(), OfLocal(), functools.partial(handle)):
        bus.subscribe(each)
    inner()
    bus.publish(Local())
    bus.publish(Tick())
    statistics = bus.statistics().subscriptions.values()
    assert [each.accepted for each in statistics] == [1] * 6


def test_a_local_class_that_is_gone(bus: EventBus) -> None:
    """A name that cannot be found is an error with a cure, which works."""

    def make() -> tuple[type[Event], Callable[[Any], None]]:
        class Gone(Event):
            """Defined in a function that has returned."""

        def handle(event: Gone) -> None: ...

        return Gone, handle

    gone, handle = make()
    with pytest.raises(
        SubscriberError, match=r"'Gone' of handle cannot be resolved .* subscribe\(handler, Node"
    ):
        bus.subscribe(handle)
    assert bus.subscribe(handle, gone).state == "waiting"


@pytest.mark.parametrize("annotation", [int, None, "NodeCompleted | int", list[NodeCompleted]])
def test_an_annotation_that_is_no_event(bus: EventBus, annotation: Any) -> None:
    """An annotation of something else is refused."""

    def handle(event: Any) -> None: ...

    handle.__annotations__["event"] = annotation
    if annotation is None:
        handle.__annotations__["event"] = "None"
    with pytest.raises(SubscriberError, match="is not an Event class"):
        bus.subscribe(handle)


# 92. Generic events, and mixins.


def test_a_generic_event(bus: EventBus) -> None:
    """A generic event can be given type arguments, subclassed and subscribed to."""

    class Numbers(Subscriber[Result[int]]):
        async def handle(self, event: Result[int]) -> None: ...

    given, plain, of_numbers = opened(bus, Result[int]), opened(bus, Result), opened(bus, OfNumbers)
    assert Numbers.events is Result
    events: list[Event] = [Result[int](value=1), Result(value="text"), OfNumbers(value=2)]
    for event in events:
        bus.publish(event)
    assert read(given) == read(plain) == events
    assert read(of_numbers) == events[2:]


def test_mixins_are_told_of_subclasses() -> None:
    """The `__init_subclass__` of a mixin is called for events and for subscribers."""
    Named.names.clear()

    new_class("Before", (Named, Event))
    after = new_class("After", (Event, Named))
    new_class("Later", (after,))
    new_class("Subscribing", (Subscriber[Event], Named))
    assert Named.names == ["Before", "After", "Later", "Subscribing"]
