"""Shared by all tests: profiles, workers, repeated attempts, backends, and checks for leaks."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.vocabulary import slow_attempts

# In the background, or under nohup, these signals are ignored: by the tests, and so by every
# program that they start and interrupt.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# A failure is reported as it was found. Looking for the smallest one takes up to five minutes for each
# test that writes files, so only the nightly profile does.
settings.register_profile(
    "quick", max_examples=100, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
settings.register_profile(
    "nightly", max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("quick")  # `--hypothesis-profile` overrides it

# Choosing and ordering tests.


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the nightly tests out unless a marker expression is given, and run `alone` ones last."""
    items.sort(key=_is_alone)
    if not config.option.markexpr:
        nightly = [item for item in items if item.get_closest_marker("nightly")]
        items[:] = [item for item in items if item not in nightly]
        config.hook.pytest_deselected(items=nightly)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking through all that is imported and collected, in each test."""
    gc.collect()
    gc.freeze()


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


# A test that measures time must not share the machine with a test of another worker process.

_turns = pytest.StashKey["_Turns"]()


class _Turns:
    """Locks in a directory of all workers: a test that is `alone` waits for others, and others for it.

    Waiting tests queue at the door, so that an `alone` test is not overtaken forever.
    """

    def __init__(self, directory: Path) -> None:
        self._door, self._room = (
            os.open(directory / name, os.O_CREAT | os.O_RDWR, 0o600) for name in ("door", "room")
        )

    @contextmanager
    def take(self, *, alone: bool) -> Generator[None]:
        """Run the block beside other blocks, or alone."""
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Take turns with the other worker processes of pytest-xdist, if there are any."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    if _turns not in item.config.stash:
        shared = Path(item.config.option.basetemp).parent  # each worker has a folder of its own in it
        item.config.stash[_turns] = _Turns(shared)
    with item.config.stash[_turns].take(alone=_is_alone(item)):
        return (yield)


# An attempt that was too slow, as the machine may have been busy, is repeated, counted and printed.

REPEATS_PER_RUN = 4
"""With more repeated attempts in one run, something has become slower or racy."""

_repeated: list[str] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Put the repeated attempts of a test into its report."""
    slow_attempts.clear()
    try:
        return (yield)
    finally:
        item.user_properties += [("repeated", why) for why in slow_attempts]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the repeated attempts of all workers; the test that exceeds their number fails."""
    repeated = [why for name, why in report.user_properties if name == "repeated"]
    if report.when == "call" and repeated:
        _repeated.extend(f"{report.nodeid}: {why}" for why in repeated)
        if report.passed and len(_repeated) > REPEATS_PER_RUN:
            report.outcome = "failed"
            report.longrepr = f"{len(_repeated)} attempts were repeated in this run, {REPEATS_PER_RUN} may be"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the repeated attempts, none too."""
    terminalreporter.write_line(f"attempts repeated: {len(_repeated)} of at most {REPEATS_PER_RUN}")
    for line in _repeated:
        terminalreporter.write_line(f"  {line}")


# Fixtures.


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run async tests under asyncio and under trio."""
    backend = request.param
    assert isinstance(backend, str)
    return backend


@pytest.fixture
def _threads_interleave() -> Iterator[None]:
    """Let threads take turns 5,000 times as often as usual, so that races become likely."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (
        "EVENTBUS_NODE",
        "EVENTBUS_SESSION_ID",
        "EVENTBUS_DIR",
        "EVENTBUS_PROGRESS",
        "EVENTBUS_SYNC",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/no settings of the user")


@pytest.fixture(autouse=True)
def _no_host_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())  # a thread left behind by another test is that test's fault
    yield
    hosts = [each for each in threading.enumerate() if each.name.endswith("-host") and each not in before]
    if hosts:
        gc.collect()
    for thread in hosts:
        thread.join(2)
    left = [thread.name for thread in hosts if thread.is_alive()]
    assert not left, f"threads left behind: {left}"
