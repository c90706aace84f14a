"""Where nothing is installed to be observed: one warning, and a program that runs as ever."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from collections.abc import Callable

import pytest

from eventbus import EventBus, IntegrationError
from eventbus.integrations.crackerjack import observe_crackerjack
from eventbus.integrations.oneiric import dag_hooks, observe_oneiric


@pytest.mark.skipif(importlib.util.find_spec("oneiric") is not None, reason="oneiric is installed")
def test_a_missing_oneiric_gives_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """`observe_oneiric` says that it observes nothing, and why, and lets the program run."""
    with caplog.at_level(logging.WARNING, "eventbus"), observe_oneiric(EventBus()) as observed:
        assert not observed
    (record,) = caplog.records
    assert "oneiric.runtime.dag cannot be imported: ModuleNotFoundError" in record.getMessage()
    with pytest.raises(IntegrationError, match="cannot be imported"):
        dag_hooks(EventBus())


def test_a_missing_crackerjack_is_waited_for() -> None:
    """`observe_crackerjack` imports nothing, warns of nothing, and leaves nothing behind."""
    before = list(sys.meta_path)
    with observe_crackerjack(EventBus()):
        assert len(sys.meta_path) == len(before) + 1
    assert sys.meta_path == before


def test_integrations_import_nothing_of_what_they_observe() -> None:
    """Importing an integration imports neither its library, nor, with `eventbus`, the integration."""
    script = (
        "import sys, eventbus\n"
        "assert not any(name.startswith('eventbus.integrations') for name in sys.modules)\n"
        "import eventbus.integrations.crackerjack, eventbus.integrations.oneiric\n"
        "assert not {'oneiric', 'crackerjack', 'networkx', 'structlog'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("observe", [observe_oneiric, observe_crackerjack])
def test_what_is_no_bus_is_refused(observe: Callable[..., object]) -> None:
    """A value without `publish` is told at once, and by its type."""
    with pytest.raises(TypeError, match="str is no bus"), observe("not a bus"):  # type: ignore[attr-defined]
        pass
