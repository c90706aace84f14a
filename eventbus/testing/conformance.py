"""The conformance suite: whether a subscriber can live on a bus beside others, on any event loop.

    from eventbus.testing import conformance_test
    from my_package.slow_nodes import SlowNodes

    test_slow_nodes = conformance_test(SlowNodes)

`check_subscriber` is the same without pytest. docs/testing-a-subscriber.md lists what is checked.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import msgspec

from eventbus.delivery.handlers import as_subscriber, check_options
from eventbus.event_classes import event_classes
from eventbus.events import Event
from eventbus.events.printable import printable
from eventbus.testing.sessions import SessionBuilder, quality_session
from eventbus.testing.surroundings import Surroundings
from eventbus.testing.trial import Limits, MakeSubscriber, Trial
from eventbus.testing.unusual_events import unusual_events, with_gaps

__all__ = ["SCENARIOS", "Finding", "Limits", "available_backends", "check_subscriber", "conformance_test"]

_ATTEMPTS = 3
"""A scenario is run again if a step was slow or a file left open, which others may have caused."""
_HANGS_SECONDS = 20.0
_MAX_PROBLEM = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a subscriber must not do.

    Attributes:
        scenario: The name of the scenario in which it did that.
        backend: The event loop: asyncio or trio.
        problem: What it did, on one line.
    """

    scenario: str
    backend: str
    problem: str

    def __str__(self) -> str:
        """Return all on one line."""
        return f"{self.scenario} ({self.backend}): it {self.problem}"


def check_subscriber(
    make: MakeSubscriber,
    *,
    scenarios: Sequence[str] | None = None,
    backends: Sequence[str] | None = None,
    limits: Limits | None = None,
) -> list[Finding]:
    """Run a subscriber through the scenarios; return what was wrong, nothing if all is well.

    Each scenario runs a fresh subscriber in a thread of its own, and takes milliseconds.

    Args:
        make: Its class, or a function that makes one.
        scenarios: The names of the scenarios; by default all of `SCENARIOS`.
        backends: The event loops; by default those that are installed of asyncio and trio.
        limits: What it may take.
    """
    return [
        Finding(scenario, backend, printable(problem, _MAX_PROBLEM))
        for scenario in scenarios or SCENARIOS
        for backend in backends or available_backends()
        for problem in _problems(scenario, backend, make, limits or Limits())
    ]


def conformance_test(make: MakeSubscriber, *, limits: Limits | None = None) -> Callable[..., None]:
    """Return a test function for pytest: one test for each scenario and event loop.

    The event log of the test is a temporary directory.

    Args:
        make: The subscriber's class, or a function that makes one.
        limits: What it may take.
    """
    import pytest  # noqa: PLC0415 - not needed by `check_subscriber`

    def test_conformance(scenario: str, backend: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EVENTBUS_DIR", str(tmp_path))
        findings = check_subscriber(make, scenarios=[scenario], backends=[backend], limits=limits)
        if findings:
            pytest.fail("\n".join(f"it {each.problem}" for each in findings), pytrace=False)

    each_scenario = pytest.mark.parametrize("scenario", SCENARIOS)
    each_backend = pytest.mark.parametrize("backend", available_backends())
    marked: Callable[..., None] = each_backend(each_scenario(test_conformance))
    return marked


def available_backends() -> list[str]:
    """Return asyncio, and trio if it is installed."""
    return ["asyncio", *(["trio"] if importlib.util.find_spec("trio") else [])]


# Scenarios.


async def _no_events(make: MakeSubscriber, limits: Limits) -> list[Trial]:
    return [await _run(make, limits, [])]


async def _sessions(make: MakeSubscriber, limits: Limits) -> list[Trial]:
    return [await _run(make, limits, _session_events())]


async def _unusual_events(make: MakeSubscriber, limits: Limits) -> list[Trial]:
    return [await _run(make, limits, unusual_events())]


async def _lost_events(make: MakeSubscriber, limits: Limits) -> list[Trial]:
    return [await _run(make, limits, with_gaps(_session_events()))]


async def _cancellation(make: MakeSubscriber, limits: Limits) -> list[Trial]:
    """Cancel a call where it suspends: at a deadline a bus does so, and calls only `stop` then."""
    return [await _run(make, limits, _session_events(), cancel_at=number) for number in (1, 2, 3)]


async def _replay(make: MakeSubscriber, limits: Limits) -> list[Trial]:
    """Hand the same events to two subscribers: what they publish must not differ."""
    trials = [await _run(make, limits, _session_events()) for _ in range(2)]
    first, second = ([_without_time(event) for event in trial.published] for trial in trials)
    if first != second:
        trials[1].problems.append(
            "publishes other events when the same events are replayed to a fresh one: "
            "something is shared by its instances, or left to chance or to the clock"
        )
    return trials


_Scenario = Callable[[MakeSubscriber, Limits], Coroutine[Any, Any, list[Trial]]]

_SCENARIOS: dict[str, _Scenario] = {
    "no events": _no_events,
    "sessions": _sessions,
    "unusual events": _unusual_events,
    "lost events": _lost_events,
    "cancellation": _cancellation,
    "replay": _replay,
}
SCENARIOS = tuple(_SCENARIOS)
"""The names of the scenarios."""


async def _run(
    make: MakeSubscriber, limits: Limits, events: Sequence[Event], cancel_at: int | None = None
) -> Trial:
    trial = Trial(make, limits)
    await trial.run(events, cancel_at=cancel_at)
    return trial


def _session_events() -> list[Event]:
    cancelled = SessionBuilder("session-3").run_started("ci", ["lint"]).node("lint", 1.0, "cancelled")
    return [
        *quality_session("session-1"),
        *quality_session("session-2", failed=["tests"], skipped=["publish"]),
        *cancelled.run_completed().events,
        *quality_session(None, nodes=["lint"]),
        *SessionBuilder("session-4").skill_started().run_started().events,  # never ends
    ]


def _without_time(event: Event) -> Any:
    fields = msgspec.to_builtins(event)
    return {key: value for key, value in fields.items() if key != "timestamp"}


# Running one.


def _problems(scenario: str, backend: str, make: MakeSubscriber, limits: Limits) -> list[str]:
    doubtful: list[str] = []
    for _ in range(_ATTEMPTS):
        before = Surroundings()
        outcome = _run_in_thread(partial(_SCENARIOS[scenario], _checked(make), limits), backend)
        if isinstance(outcome, str):
            return [outcome]
        certain = [problem for trial in outcome for problem in trial.problems] + before.left_behind()
        if certain:
            return list(dict.fromkeys(certain))
        doubtful = [problem for trial in outcome for problem in trial.slow] + before.left_open()
        if not doubtful:
            break
    return list(dict.fromkeys(doubtful))


def _checked(make: MakeSubscriber) -> MakeSubscriber:
    def make_checked() -> Any:
        made = as_subscriber(make())
        event_classes(made.events)
        check_options(made.capacity, made.overflow, made.key)
        return made

    return make_checked


def _run_in_thread(run: Callable[[], Coroutine[Any, Any, list[Trial]]], backend: str) -> list[Trial] | str:
    """Run a scenario in a thread, left behind if it hangs; return its trials, or why there are none."""
    outcome: list[list[Trial] | str] = []

    def work() -> None:
        try:
            outcome.append(anyio.run(run, backend=backend))
        except BaseException as error:  # noqa: BLE001 - whatever the subscriber raises
            outcome.append(f"cannot be made or run: {type(error).__name__}: {error}")

    thread = threading.Thread(target=work, name="eventbus-conformance", daemon=True)
    thread.start()
    thread.join(_HANGS_SECONDS)
    return outcome[0] if outcome else f"hangs: it blocks the loop for more than {_HANGS_SECONDS:g} s"
