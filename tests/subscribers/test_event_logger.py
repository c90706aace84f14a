"""EventLogger logs each event as one record and one line, whatever the event holds."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
from eventbus_subscribers.event_logger import EventLogger
from hypothesis import given
from hypothesis import strategies as st

from eventbus import (
    Event,
    EventBus,
    EventsLost,
    NodeCompleted,
    NodeStarted,
    SkillCompleted,
    SubscriberFailed,
    UnknownEvent,
    WorkflowStarted,
    decode,
)
from tests.subscribers.examples import STARTED, assert_hanging_is_harmless, publish_to

FAILED = NodeCompleted(
    session_id="7f3a",
    workflow_id="crackerjack",
    run_id="4f1c",
    node_id="tests",
    status="failed",
    duration_seconds=22.41,
)

FAILED_LINE = (
    "node_completed workflow=crackerjack run=4f1c node=tests attempt=1 status=failed"
    " duration=22.4s session=7f3a"
)


class Lines(logging.Handler):
    """Keeps records, and the text that a stream handler writes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.stream = io.StringIO()
        self._writer = logging.StreamHandler(self.stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self.records.append(record)
        self._writer.emit(record)

    @property
    def text(self) -> str:
        """The written text."""
        return self.stream.getvalue()


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger("eventbus.events")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def log(*events: Event, logger: EventLogger | None = None) -> None:
    publish_to(logger or EventLogger(), events)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (FAILED, FAILED_LINE),
        (
            NodeStarted(session_id=None, workflow_id="w", node_id="a b"),
            'node_started workflow=w node="a b" attempt=1',
        ),
        (
            WorkflowStarted(session_id="s", workflow_id="w", nodes=("a", "b")),
            "workflow_started workflow=w nodes=a,b session=s",
        ),
        (
            SkillCompleted(session_id="", skill_name='q"\\=', invocation_id="1", duration_seconds=0.0),
            'skill_completed skill="q\\"\\\\=" invocation=1 completed=True duration=0.000s session=""',
        ),
        (
            UnknownEvent(session_id=None, unknown_type="::error::x", fields={"secret": 1}),
            "unknown_event unknown_type=::error::x",
        ),
        (
            NodeStarted(session_id=None, workflow_id="100%s %d", node_id="%"),
            'node_started workflow="100%s %d" node=% attempt=1',
        ),
    ],
)
def test_the_line_of_an_event(lines: Lines, event: Event, line: str) -> None:
    """The line is the type and the fields that are not empty, the session last."""
    log(event)
    assert lines.text == line + "\n"


def test_the_record_carries_the_event(lines: Lines) -> None:
    """The record has the event itself as an attribute, for structured handlers."""
    log(FAILED)
    (record,) = lines.records
    assert cast("Any", record).event is FAILED
    assert record.name == "eventbus.events"


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (FAILED, logging.ERROR),
        (NodeCompleted(workflow_id="w", node_id="n", status="cancelled"), logging.ERROR),
        (SkillCompleted(skill_name="s", completed=False), logging.ERROR),
        (EventsLost(count=1, first_seq=1, last_seq=1), logging.ERROR),
        (SubscriberFailed(subscriber="s", error_type="E"), logging.ERROR),
        (NodeCompleted(workflow_id="w", node_id="n", status="skipped"), logging.DEBUG),
        (SkillCompleted(skill_name="s"), logging.DEBUG),
        (STARTED, logging.DEBUG),
    ],
)
def test_failures_have_their_own_level(lines: Lines, event: Event, level: int) -> None:
    """Failures, abandoned skills and lost events are logged at the failure level, others at the other."""
    log(event, logger=EventLogger(level=logging.DEBUG, failure_level=logging.ERROR))
    assert [record.levelno for record in lines.records] == [level]


def test_a_disabled_level_is_not_logged(lines: Lines) -> None:
    """With the logger at WARNING only failures are logged; above both levels, nothing."""
    logger = logging.getLogger("eventbus.events")
    logger.setLevel(logging.WARNING)
    log(STARTED, FAILED)
    assert len(lines.records) == 1
    logger.setLevel(logging.CRITICAL)
    log(STARTED, FAILED)
    assert len(lines.records) == 1


def test_the_logger_and_the_events_can_be_chosen(lines: Lines) -> None:
    """A given logger receives only the chosen class of events."""
    other = logging.getLogger("somewhere.else")
    other.propagate = False
    handler = Lines()
    other.addHandler(handler)
    log(STARTED, FAILED, logger=EventLogger(other, events=NodeCompleted))
    assert [record.levelno for record in handler.records] == [logging.WARNING]
    assert not lines.records


@pytest.mark.anyio
async def test_a_filter_that_raises_costs_one_record(lines: Lines) -> None:
    """A failing filter is reported as the subscriber's failure; the other events of the batch are logged."""

    def fail(record: logging.LogRecord) -> bool:
        if "bad" in record.getMessage():
            raise KeyError("filter")
        return True

    lines.addFilter(fail)
    failures: list[SubscriberFailed] = []
    async with EventBus([EventLogger()]) as bus:
        bus.subscribe(failures.append, SubscriberFailed)
        for name in ("a", "bad", "b"):
            bus.publish(NodeStarted(workflow_id="w", node_id=name))
        await bus.drain()  # of these events, and then of the failure
        await bus.drain()
    logged = [record.getMessage() for record in lines.records if "node_started" in record.getMessage()]
    assert [line.split("node=")[1][0] for line in logged] == ["a", "b"]
    assert [failure.error_type for failure in failures] == ["KeyError"]


def test_a_hung_handler_blocks_neither_other_subscribers_nor_the_close(lines: Lines) -> None:
    """While a log handler hangs, other subscribers receive every event, and close returns at its deadline."""
    let_go = threading.Event()
    lines.addFilter(lambda _: let_go.wait())
    assert_hanging_is_harmless(EventLogger(), let_go)


EVIL = st.text() | st.sampled_from(
    ["\n::error::x", "\r", "\x1b]0;x\x07", "\u2028", "%s%n", '"', " ", "a=b", "\x85"]
)


@given(texts=st.tuples(EVIL, EVIL, EVIL, EVIL), wire_name=EVIL)
def test_no_event_is_more_than_one_line(texts: tuple[str, str, str, str], wire_name: str) -> None:
    """An event with any strings is one line of printable characters that begins with its type."""
    handler = Lines()
    logger = logging.getLogger("private")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    a, b, c, d = texts
    events = [
        NodeCompleted(
            session_id=a, workflow_id=b, node_id=c, error_message=d, error_type=a, status=cast("Any", b)
        ),
        UnknownEvent(session_id=a, unknown_type=wire_name, fields={b: c}),
        SkillCompleted(session_id=a, skill_name=b, follow_up_actions=(c, d)),
    ]
    EventLogger(logger)._log_all(events)
    first, second, third, end = handler.text.split("\n")
    assert end == ""
    for line, kind in ((first, "node_completed "), (second, "unknown_event "), (third, "skill_completed ")):
        assert line.startswith(kind)
        assert line.isprintable()


@pytest.mark.parametrize("value", [None, 3, object(), ["x"], b"x", float("nan")])
def test_fields_of_wrong_types_are_shown_not_raised(lines: Lines, value: Any) -> None:
    """Fields of wrong types, which events do not check, are logged."""
    log(NodeCompleted(workflow_id=value, node_id=value, duration_seconds=value, session_id=value))
    assert lines.text.startswith("node_completed")


def test_an_event_read_back_is_logged_like_the_original(lines: Lines) -> None:
    """An event of an unknown type that was read from a log is logged with the name of its type."""
    log(decode(b'{"event_type":"deploy_finished","session_id":"s","target":"prod"}'))
    assert lines.text == "unknown_event unknown_type=deploy_finished session=s\n"
