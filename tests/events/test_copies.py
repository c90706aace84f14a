"""Events and exceptions in sets, copies and other processes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

import eventbus
from eventbus import Event, NodeCompleted, WorkflowStarted, decode, encode
from eventbus.events.provenance import mark_read_from
from tests.vocabulary import Tick

DEEP = msgspec.json.decode("[" * 40 + "]" * 40)


class Listing(Event):
    """An event with a field that cannot be hashed."""

    items: list[int]


EVENTS = {
    "plain": Tick(n=1),
    "metadata": NodeCompleted(
        workflow_id="ci",
        node_id="a",
        metadata={"a": {"b": [1, (2, 3)]}, "when": 1.5, "x": float("nan")},
    ),
    "cut metadata": Event(metadata={"long": "x" * 100_000, "many": list(range(10_000)), "deep": DEEP}),
    "tuple": WorkflowStarted(workflow_id="ci", nodes=("a", "b"), metadata={"tags": {"one"}}),
    "unhashable field": Listing(items=[1, 2], metadata={"a": 1}),
    "unknown": decode(
        '{"event_type":"from_elsewhere","a":{"b":[1]},"metadata":{"big":18446744073709551615}}'
    ),
    "unknown, cut": decode(
        b'{"event_type":"from_elsewhere","metadata":%b}' % msgspec.json.encode({"deep": DEEP})
    ),
    "from a log": mark_read_from(Tick(n=2, metadata={"a": 1}), "/a/log"),
}


def _pickled(protocol: int, value: object) -> object:
    return pickle.loads(pickle.dumps(value, protocol))


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle 2": partial(_pickled, 2),
    "pickle 5": partial(_pickled, 5),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("which", EVENTS)
def test_a_copy_of_an_event_is_equal(which: str, how: str) -> None:
    """Events can be compared, hashed, copied and pickled: a copy is equal, and so is its hash."""
    event = EVENTS[which]
    copied = COPIES[how](event)
    assert copied == event
    assert copied.metadata == event.metadata
    assert {copied, event} == {event}


@pytest.mark.parametrize("which", [which for which in EVENTS if "cut" not in which])
def test_a_decoded_event_is_equal(which: str) -> None:
    """An event that was encoded and decoded is equal, and has an equal hash."""
    event = EVENTS[which]
    assert {decode(encode(event)), event} == {event}


def test_different_events_are_different() -> None:
    """Events of two classes, or with other fields or other metadata, are not equal."""
    when = Tick().timestamp
    events = [
        Event(timestamp=when),
        Tick(timestamp=when),
        Tick(timestamp=when, n=1),
        Tick(timestamp=when, session_id="s"),
        Tick(timestamp=when, metadata={"a": 1}),
        Listing(timestamp=when, items=[]),
        Listing(timestamp=when, items=[1]),
    ]
    assert len(set(events)) == len(events)


ERRORS = [
    value
    for value in vars(eventbus).values()
    if isinstance(value, type) and issubclass(value, eventbus.EventBusError)
]


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("cls", ERRORS)
def test_an_exception_can_be_copied(cls: type[Exception], how: str) -> None:
    """Every exception of eventbus can be copied and pickled."""
    arguments = ("it is wrong", "Mend it") if hasattr(cls("a", "b"), "hint") else ("it is wrong",)
    error = cls(*arguments)
    error.add_note("a note")
    copied = COPIES[how](error)
    assert (type(copied), str(copied), vars(copied)) == (cls, str(error), vars(error))
    assert str(error) == ". ".join(arguments)
