"""Nothing that a tracker is given, or publishes to, raises or waits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NoReturn

import pytest

from eventbus.contracts import EventSink
from eventbus.events import Event
from eventbus.trackers.guards import (
    GuardedSink,
    as_bool,
    as_text,
    as_texts,
    attempt_number,
    finite,
    metadata_copy,
)
from tests.trackers.conftest import Hostile, RaisingSink


class Color(StrEnum):
    """Texts that are not exact `str`."""

    RED = "red"


def test_publishing_to_a_sink_that_raises_returns_false_and_counts(caplog: pytest.LogCaptureFixture) -> None:
    """The observed work continues whatever the bus does; each type of exception is logged once in 20 s."""
    guarded = GuardedSink(RaisingSink(KeyError("private")))
    with caplog.at_level(logging.WARNING, "eventbus.trackers"):
        assert [guarded.publish(Event()) for _ in range(3)] == [False, False, False]
    assert guarded.failures == 3
    assert [record.getMessage() for record in caplog.records] == [
        "observing failed: KeyError; the observed work continues"
    ]
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_a_base_exception_of_the_sink_passes_through(error: BaseException) -> None:
    """Ctrl-C during publishing still ends the program."""
    with pytest.raises(type(error)):
        GuardedSink(RaisingSink(error)).publish(Event())


def test_a_broken_logging_handler_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging a failure does not raise either."""

    def broken(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError("no space")

    monkeypatch.setattr(logging.getLogger("eventbus.trackers"), "warning", broken)
    guarded = GuardedSink(RaisingSink(ValueError()))
    assert guarded.publish(Event()) is False
    assert guarded.failures == 1


def test_without_a_bus_nothing_is_published(published: list[Event], sink: EventSink) -> None:
    """Without a bus `publish` returns False and counts no failure; a given bus is used."""
    guarded = GuardedSink(None)
    assert (guarded.publish(Event()), guarded.failures) == (False, 0)
    assert GuardedSink(sink).publish(Event()) is True
    assert len(published) == 1


def test_a_falsy_sink_is_used(published: list[Event]) -> None:
    """Only None means the current bus."""

    class Falsy:
        def __bool__(self) -> bool:
            return False

        def publish(self, event: Event) -> bool:
            published.append(event)
            return True

    assert GuardedSink(Falsy()).publish(Event()) is True


def test_a_sink_without_publish_is_refused() -> None:
    """A session in the place of the bus raises before any work begins."""
    with pytest.raises(TypeError, match="session_id="):
        GuardedSink("abc123")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_names_become_exact_texts() -> None:
    """Enumerations, numbers and hostile objects all become a plain `str`."""
    assert [as_text(value) for value in ("a", Color.RED, 7, None, Hostile())] == [
        "a",
        "red",
        "7",
        "None",
        "<Hostile>",
    ]
    assert type(as_text(Color.RED)) is str


def test_names_are_read_from_any_iterable() -> None:
    """A single text is one name; a value that is not iterable gives none; an endless one is cut."""

    def endless() -> Iterator[str]:
        while True:
            yield "x"

    def dying() -> Iterator[str]:
        yield "a"
        raise KeyError

    number: Any = 5
    hostile: Any = Hostile()
    assert as_texts("git commit") == ("git commit",)
    assert as_texts(["a", 1]) == ("a", "1")
    assert as_texts(None) == as_texts(number) == as_texts(hostile) == ()
    assert as_texts(dying()) == ("a",)
    assert len(as_texts(endless())) == 4_096


def test_metadata_is_copied() -> None:
    """The caller's mapping is never changed; a mark replaces a value that is not a mapping."""
    mine = {"a": 1}
    copy = metadata_copy(mine)
    copy["b"] = 2
    assert mine == {"a": 1}
    assert metadata_copy(None) == metadata_copy({}) == {}
    for bad in (Hostile(), 7):
        unreadable: Any = bad
        assert metadata_copy(unreadable) == {"metadata": f"<{type(bad).__name__}>"}


def test_keys_of_metadata_become_exact_texts() -> None:
    """A tracker finds a key by its text, whatever its class and its hash."""

    class Unequal(str):
        __slots__ = ()
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    odd: Any = {Unequal("error_message"): "private", 1: 2}
    copy = metadata_copy(odd)
    assert {type(key) for key in copy} == {str}
    assert copy == {"error_message": "private", "1": 2}


def test_only_finite_numbers_are_numbers() -> None:
    """JSON has no NaN, and a text is not a number."""
    assert [finite(value) for value in (0, 1.5, 10**30, float("nan"), float("inf"), "3", 10**400)] == [
        0,
        1.5,
        1e30,
        None,
        None,
        None,
        None,
    ]


def test_attempts_are_numbered_from_one() -> None:
    """Only an `int` from 1 is the number of an attempt."""
    values = (1, 7, 0, -1, 10**400, 1.0, True, "1")
    assert [attempt_number(value) for value in values] == [1, 7] + [None] * 6


def test_a_value_whose_truth_raises_is_false() -> None:
    """An array of several values is one."""
    assert [as_bool(value) for value in (True, 1, 0, "", Hostile())] == [True, True, False, False, False]
