"""The error type of a failed node is that of the first cause."""

from __future__ import annotations

import pytest

from eventbus import Event, NodeCompleted
from eventbus.integrations.observed_run import ObservedRun
from eventbus.trackers.guards import GuardedSink


class _Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> bool:
        self.events.append(event)
        return True


class _HostileCauseError(Exception):
    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise LookupError


def _caused(error: BaseException, *causes: BaseException | None) -> BaseException:
    """Return the error; each of the causes is the cause of the one before it."""
    links = (error, *causes)
    for link, cause in zip(links, causes, strict=False):
        if link is not None:
            link.__cause__ = cause
    return error


def _in_context(error: BaseException, context: BaseException) -> BaseException:
    error.__context__ = context
    return error


def _cycle(length: int) -> BaseException:
    links = [kind() for kind in (RuntimeError, KeyError, OSError)[:length]]
    return _caused(links[0], *links[1:], links[0])


GROUP = ExceptionGroup("several", [KeyError(), OSError()])
CASES = [
    (RuntimeError(), "RuntimeError"),
    (_caused(RuntimeError(), OSError()), "OSError"),
    (_caused(RuntimeError(), ValueError(), KeyError()), "KeyError"),
    (_caused(_in_context(RuntimeError(), OSError()), None), "RuntimeError"),  # raise ... from None
    (_in_context(RuntimeError(), OSError()), "RuntimeError"),  # raised while another was handled
    (_cycle(1), "RuntimeError"),
    (_cycle(2), "KeyError"),
    (_cycle(3), "OSError"),
    (GROUP, "ExceptionGroup"),
    (_caused(RuntimeError(), GROUP), "ExceptionGroup"),
    (_caused(ExceptionGroup("one", [KeyError()]), OSError()), "OSError"),
    (_caused(RuntimeError(), KeyboardInterrupt()), "KeyboardInterrupt"),
    (_HostileCauseError(), "_HostileCauseError"),
    (_caused(RuntimeError(), _HostileCauseError()), "_HostileCauseError"),
]


def _end_of(error: BaseException) -> NodeCompleted:
    sink = _Sink()
    run = ObservedRun(GuardedSink(sink), "crackerjack", "r1")
    run.start_node("tests")
    run.end_node("tests", error)
    (_, end) = sink.events
    assert isinstance(end, NodeCompleted)
    return end


@pytest.mark.parametrize(("error", "error_type"), CASES)
def test_the_error_type_is_that_of_the_first_cause(error: BaseException, error_type: str) -> None:
    """Only `raise ... from cause` counts; it fails as before."""
    end = _end_of(error)
    assert (end.status, end.error_type, end.error_message) == ("failed", error_type, None)


def test_a_cause_does_not_decide_whether_a_node_failed() -> None:
    """A node that was interrupted by an exception with a cause is cancelled."""
    end = _end_of(_caused(KeyboardInterrupt(), OSError()))
    assert (end.status, end.error_type) == ("cancelled", "OSError")


def test_a_chain_of_any_length() -> None:
    """It is followed for 64 causes."""
    error = _caused(RuntimeError(), *(OSError() for _ in range(64)), *(KeyError() for _ in range(100_000)))
    assert _end_of(error).error_type == "OSError"
    while (cause := error.__cause__) is not None:  # freed one by one: a long chain overflows the stack
        error.__cause__, error = None, cause
