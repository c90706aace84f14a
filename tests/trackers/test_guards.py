"""Nothing that a tracker is handed, or publishes to, raises or waits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NoReturn

import pytest

from eventbus.contracts import EventSink
from eventbus.events import Event
from eventbus.trackers.guards import (
    QuietSink,
    as_text,
    as_texts,
    copied,
    finite,
    ordinal,
    truth,
)


class Raising:
    """A bus that raises one error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def publish(self, event: Event) -> bool:
        """Accept the event."""
        raise self.error


class Hostile:
    """Raises whatever is asked of it."""

    def __str__(self) -> NoReturn:
        raise KeyError("no")

    __repr__ = __str__
    __bool__: Any = __str__
    __iter__: Any = __str__
    keys: Any = __str__


class Color(StrEnum):
    """Texts that are no exact `str`."""

    RED = "red"


def test_a_sink_that_raises_answers_false_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a bus does, the observed work goes on; each cause is logged once."""
    quiet = QuietSink(Raising(KeyError("private")))
    with caplog.at_level(logging.WARNING, "eventbus.trackers"):
        assert [quiet.publish(Event()) for _ in range(3)] == [False, False, False]
    assert quiet.failures == 3
    assert [record.getMessage() for record in caplog.records] == [
        "observing failed: KeyError; what is observed goes on"
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_is_no_exception_of_the_sink_passes_through(error: BaseException) -> None:
    """Ctrl-C while publishing still ends the program."""
    with pytest.raises(type(error)):
        QuietSink(Raising(error)).publish(Event())


def test_a_broken_logging_handler_does_not_harm_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even telling of a failure may raise."""

    def broken(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError("no space")

    monkeypatch.setattr(logging.getLogger("eventbus.trackers"), "warning", broken)
    quiet = QuietSink(Raising(ValueError()))
    assert quiet.publish(Event()) is False
    assert quiet.failures == 1


def test_without_any_bus_nothing_is_published(published: list[Event], sink: EventSink) -> None:
    """No bus is no failure; a bus that was given is used."""
    quiet = QuietSink(None)
    assert (quiet.publish(Event()), quiet.failures) == (False, 0)
    assert QuietSink(sink).publish(Event()) is True
    assert len(published) == 1


def test_a_falsy_sink_is_a_sink(published: list[Event]) -> None:
    """Only None means the current bus."""

    class Falsy:
        def __bool__(self) -> bool:
            return False

        def publish(self, event: Event) -> bool:
            published.append(event)
            return True

    assert QuietSink(Falsy()).publish(Event()) is True


def test_what_cannot_publish_is_refused_at_once() -> None:
    """A session in the place of the bus is a mistake to be told of before any work begins."""
    with pytest.raises(TypeError, match="session_id="):
        QuietSink("abc123")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_names_become_exact_texts() -> None:
    """Enumerations, numbers and hostile objects all give a plain `str`."""
    assert [as_text(value) for value in ("a", Color.RED, 7, None, Hostile())] == [
        "a",
        "red",
        "7",
        "None",
        "<Hostile>",
    ]
    assert type(as_text(Color.RED)) is str


def test_names_are_taken_from_any_iterable_or_none() -> None:
    """A single text is one name; what cannot be iterated gives none; an endless one is cut."""

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


def test_metadata_is_copied_whatever_it_is() -> None:
    """A caller's dict stays its own; what is no mapping is replaced by a mark."""
    mine = {"a": 1}
    copy = copied(mine)
    copy["b"] = 2
    assert mine == {"a": 1}
    assert copied(None) == {}
    hostile: Any = Hostile()
    assert copied(hostile) == {"metadata": "<Hostile>"}


def test_only_finite_numbers_are_numbers() -> None:
    """JSON cannot say NaN, and a text is no amount."""
    assert [finite(value) for value in (0, 1.5, 10**30, float("nan"), float("inf"), "3", 10**400)] == [
        0,
        1.5,
        1e30,
        None,
        None,
        None,
        None,
    ]


def test_an_ordinal_counts_from_one() -> None:
    """Nothing else numbers an attempt."""
    assert [ordinal(value) for value in (1, 7, 0, -1, 10**400, 1.0, True, "1")] == [1, 7] + [None] * 6


def test_what_cannot_say_whether_it_is_true_is_not() -> None:
    """Such as an array of several values."""
    assert [truth(value) for value in (True, 1, 0, "", Hostile())] == [True, True, False, False, False]
