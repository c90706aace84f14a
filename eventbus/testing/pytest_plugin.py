"""Fixtures for pytest, in projects that ask for them in their conftest.py:

    pytest_plugins = ["eventbus.testing.pytest_plugin"]

Rejected: an entry point that pytest loads by itself. It would cost every pytest run in the environment the
import of `eventbus`, before coverage measures and warnings are configured, and add its fixtures there.
"""  # noqa: D415 - it ends in a colon

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventbus.testing.recorder import Recorder
from eventbus.testing.settling_bus import SettlingBus

__all__ = ["eventbus_bus", "eventbus_directory", "eventbus_recorder"]


@pytest.fixture
def eventbus_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory of the event log, for all that the test stores; no other variable counts."""
    for variable in [name for name in os.environ if name.startswith("EVENTBUS_")]:
        monkeypatch.delenv(variable)
    directory = tmp_path / "eventbus"
    monkeypatch.setenv("EVENTBUS_DIR", str(directory))
    return directory


@pytest.fixture
def eventbus_recorder() -> Recorder:
    """The recorder that is subscribed to `eventbus_bus`."""
    return Recorder()


@pytest.fixture
def eventbus_bus(
    eventbus_directory: Path,  # noqa: ARG001 - for subscribers that store
    eventbus_recorder: Recorder,
) -> Iterator[SettlingBus]:
    """A running bus that settles, with a recorder; subscribe what is to be tested."""
    with SettlingBus([eventbus_recorder]) as bus:
        yield bus
        bus.settle()
