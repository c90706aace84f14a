"""Shared by all tests: profiles, workers, repeated attempts, backends, and checks for leaks."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Generator, Iterator

import pytest

from tests.vocabulary import slow_attempts

# In the background, or under nohup, these signals are ignored: by the tests, and so by every
# program that they start and interrupt.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

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
def _no_session_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("EVENTBUS_SESSION_ID", "EVENTBUS_DIR", "EVENTBUS_PROGRESS", "EVENTBUS_SYNC"):
        monkeypatch.delenv(variable, raising=False)


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
