"""Two classes of one wire name, as two libraries may define them."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from types import new_class
from typing import Any

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import Event, EventBus, NodeCompleted, UnknownEvent, decode, encode, event_types
from eventbus.events import codec
from eventbus.history import EventLog

_test_number = 0  # a class may outlive its test: the next one uses another name


def define(library: str, fields: dict[str, Any], base: type[Event] = Event, name: str = "") -> Any:
    """Define a class called `Deploy` and the test's number, or `name`, in a library."""

    def fill(namespace: dict[str, Any]) -> None:
        namespace.update(__module__=f"{library}.events", __annotations__=fields)
        namespace.update({field: 0 for field in fields if field.startswith("optional")})

    return new_class(name or f"Deploy{_test_number}", (base,), exec_body=fill)


@pytest.fixture(autouse=True)
def _classes_are_gone_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    global _test_number
    _test_number += 1
    monkeypatch.setattr(codec, "_warned_of", set[str]())
    yield
    new_class("Last", (Event,))  # the cached decoders hold the classes
    gc.collect()


def wire_name() -> str:
    """Return the wire name of the classes of this test."""
    return f"deploy{_test_number}"


def line_of(target: str) -> str:
    """Return a line with a target, as JSON."""
    return f'{{"event_type":"{wire_name()}","target":{target}}}'


def decoded(event: Event) -> Event:
    """Encode and decode an event."""
    return decode(encode(event))


@pytest.mark.parametrize("is_second", [False, True])
def test_the_fields_decide(is_second: bool) -> None:
    """Of two classes with one wire name, the one that a line fits is used, whichever was defined first."""
    first, second = define("first", {"target": str}), define("second", {"service": str, "version": int})
    event = second(service="web", version=3) if is_second else first(target="staging")
    assert decoded(event) == event
    assert type(decoded(event)) is type(event)


def test_no_field_is_lost() -> None:
    """Of two classes that a line fits, the one that ignores the fewest fields is used."""
    rich = define("first", {"target": str, "optional_note": int})
    poor = define("second", {"optional_speed": int})
    for event in (rich(target="staging", optional_note=1), poor(optional_speed=3)):
        assert decoded(event) == event


def test_a_line_that_fits_neither_is_kept_whole() -> None:
    """A line of a shared wire name that fits none of the classes is an `UnknownEvent`, not damage."""
    kept = define("first", {"target": str}), define("second", {"target": int})
    event = decode(line_of("[1]"))
    assert isinstance(event, UnknownEvent)
    assert event.fields == {"target": [1]}
    assert len(kept) == 2


def test_a_library_cannot_take_the_name_of_a_built_in_class() -> None:
    """Events of a built-in class stay what they are, and so do those of a class that shares its name."""
    ours = NodeCompleted(workflow_id="ci", node_id="tests")
    theirs = define("other", {"optional_flag": int}, name="NodeCompleted")
    more = define("more", {"extra": int}, NodeCompleted, "NodeCompleted")
    for event in (ours, theirs(optional_flag=1), more(workflow_id="ci", node_id="tests", extra=1)):
        assert decoded(event) == event
        assert type(decoded(event)) is type(event)


def test_a_class_that_is_defined_again() -> None:
    """Of one library's class that is defined again, as in a reload, only the newest counts."""
    old, new = define("first", {"target": str, "optional_note": int}), define("first", {"target": str})
    event = decoded(old(target="staging", optional_note=1))
    assert type(event) is new
    assert event_types()[wire_name()] is new


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A wire name that two packages use is logged once, with both places and the cure."""
    kept = [define("first", {"target": str}), define("first.more", {"other": str})]
    decode(b'{"event_type":"event"}')
    kept.append(define("second", {"service": str}))
    with caplog.at_level(logging.WARNING, "eventbus"):
        for _ in range(2):
            decoded(kept[-1](service="web"))
            define("another", {}, name="AnotherClass")  # makes the classes be looked at again
    (message,) = [each for each in map(logging.LogRecord.getMessage, caplog.records) if wire_name() in each]
    assert "second.events.Deploy" in message
    assert 'tag="..."' in message


@pytest.mark.parametrize("annotation", ["Nowhere", "int | Nowhere", str | bytes])
def test_a_class_that_cannot_be_decoded_spoils_no_other(annotation: Any, tmp_path: Path) -> None:
    """Its events are unknown ones; those of other classes are decoded, also in a log."""
    spoiled = define("first", {"target": annotation})
    plain = NodeCompleted(workflow_id="ci", node_id="tests")
    assert decoded(plain) == plain
    assert isinstance(decode(line_of("1")), UnknownEvent)
    with EventBus([JsonPersister(tmp_path)]) as bus:
        bus.publish(plain)
    assert list(EventLog(tmp_path).events()) == [plain]
    assert spoiled.__name__.startswith("Deploy")


@pytest.mark.anyio
async def test_the_log_gives_each_its_own(tmp_path: Path) -> None:
    """A log with events of both classes gives each event as it was, and finds it by its class."""
    first, second = define("first", {"target": str}), define("second", {"optional_version": int})
    events = [
        first(target="staging"),
        second(optional_version=2),
        NodeCompleted(workflow_id="ci", node_id="a"),
    ]
    async with EventBus([JsonPersister(tmp_path)]) as bus:
        for event in events:
            bus.publish(event)
    log = EventLog(tmp_path)
    assert list(log.events()) == events
    assert [list(log.events(types=type(event))) for event in events] == [[event] for event in events]
