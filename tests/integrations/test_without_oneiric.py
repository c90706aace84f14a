"""Without the observed library: one warning at most, and the program runs unchanged."""

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
    """`observe_oneiric` logs the reason, yields False and lets the program run."""
    with caplog.at_level(logging.WARNING, "eventbus"), observe_oneiric(EventBus()) as observed:
        assert not observed
    (record,) = caplog.records
    assert "Oneiric is not observed: it is not installed" in record.getMessage()
    with pytest.raises(IntegrationError, match="cannot be imported"):
        dag_hooks(EventBus())


def test_a_missing_crackerjack_gives_no_warning() -> None:
    """`observe_crackerjack` waits for the import of crackerjack, and removes its finder afterwards."""
    before = list(sys.meta_path)
    with observe_crackerjack(EventBus()):
        assert len(sys.meta_path) == len(before) + 1
    assert sys.meta_path == before


def test_integrations_do_not_import_what_they_observe() -> None:
    """Importing an integration does not import its library; `eventbus` imports no integration."""
    script = (
        "import sys\n"
        "from eventbus import EventBus\n"
        "assert not any(name.startswith('eventbus.integrations') for name in sys.modules)\n"
        "import eventbus.integrations.crackerjack, eventbus.integrations.oneiric\n"
        "assert not {'oneiric', 'crackerjack', 'networkx', 'structlog'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("observe", [observe_oneiric, observe_crackerjack])
def test_a_value_that_is_not_a_bus_raises(observe: Callable[..., object]) -> None:
    """The error names the type of a value without `publish`."""
    with pytest.raises(TypeError, match="str is not a bus"), observe("not a bus"):  # type: ignore[attr-defined]
        pass
