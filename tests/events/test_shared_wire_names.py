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


def define(library: str, fields: dict[str, Any], base: type[Event] = Event, name: str = "") -> Any:
    """Define a class called `DeployDone`, or `name`, in a library."""

    def fill(namespace: dict[str, Any]) -> None:
        namespace.update(__module__=f"{library}.events", __annotations__=fields)
        namespace.update({field: 0 for field in fields if field.startswith("optional")})

    return new_class(name or "DeployDone", (base,), exec_body=fill)


@pytest.fixture(autouse=True)
def _classes_are_gone_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(codec, "_warned_of", set[str]())
    yield
    new_class("Last", (Event,))  # the cached decoders hold the classes
    gc.collect()


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
    line = b'{"event_type":"deploy_done","target":[1]}'
    event = decode(line)
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
    assert event_types()["deploy_done"] is new


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A wire name that two packages use is logged once, with both places and the cure."""
    kept = [define("first", {"target": str}), define("first.more", {"other": str})]
    decode(b'{"event_type":"event"}')
    assert caplog.records == []
    kept.append(define("second", {"service": str}))
    with caplog.at_level(logging.WARNING, "eventbus"):
        for _ in range(2):
            decoded(kept[-1](service="web"))
            define("another", {}, name="AnotherClass")  # makes the classes be looked at again
    (record,) = caplog.records
    assert "second.events.DeployDone" in record.getMessage()
    assert 'tag="..."' in record.getMessage()


@pytest.mark.parametrize("annotation", ["Nowhere", "int | Nowhere", str | bytes])
def test_a_class_that_cannot_be_decoded_spoils_no_other(annotation: Any, tmp_path: Path) -> None:
    """Its events are unknown ones; those of other classes are decoded, also in a log."""
    spoiled = define("first", {"target": annotation})
    plain = NodeCompleted(workflow_id="ci", node_id="tests")
    assert decoded(plain) == plain
    assert isinstance(decode(b'{"event_type":"deploy_done","target":1}'), UnknownEvent)
    with EventBus([JsonPersister(tmp_path)]) as bus:
        bus.publish(plain)
    assert list(EventLog(tmp_path).events()) == [plain]
    assert spoiled.__name__ == "DeployDone"


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
