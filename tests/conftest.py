"""Shared by all tests: both backends, and checks that no thread or bus is left behind."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

# In the background, or under nohup, these signals are ignored: by the tests, and so by every
# program that they start and interrupt.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


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
