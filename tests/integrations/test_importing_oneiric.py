"""Oneiric is observed from the program's own import on, in whatever order the program imports its modules.

A small stand-in for it cannot be imported `oneiric.domains.workflows` first, as is 0.33.3.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventbus import EventBus
from eventbus.integrations.oneiric import observe_oneiric

WORKFLOWS = "oneiric.domains.workflows"
DAG = """
class DAGTask:
    def __init__(self, key):
        self.key = key

class DAGExecutionHooks:
    on_run_start = on_run_complete = on_run_error = None
    on_node_start = on_node_complete = on_node_skip = on_node_error = None

def plan_levels(graph): ...

async def execute_dag(graph, *, hooks=None, run_id=None, workflow_key=None):
    return {}
"""
FILES = {
    "__init__.py": "",
    "runtime/__init__.py": "",
    "runtime/dag.py": DAG,
    "domains/__init__.py": "from oneiric.domains.base import DomainBridge\n",
    "domains/base.py": "import oneiric.adapters\nclass DomainBridge: ...\n",
    "domains/workflows.py": "from oneiric.runtime.dag import execute_dag\n",
    "adapters/__init__.py": "from oneiric.domains.base import DomainBridge\n",
}


@pytest.fixture
def oneiric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stand-in for Oneiric on the path, not yet imported; the installed one is hidden."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "oneiric"]:
        monkeypatch.delitem(sys.modules, name)
    for name, source in FILES.items():
        (tmp_path / "oneiric" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "oneiric" / name).write_text(source)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    yield tmp_path / "oneiric"
    for name in _imported():
        del sys.modules[name]


def _imported() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "oneiric"]


def _workflows() -> Any:
    importlib.import_module("oneiric.adapters")
    return importlib.import_module(WORKFLOWS)


def _is_observed(workflows: Any) -> bool:
    return hasattr(workflows.execute_dag, "__wrapped__")


def test_oneiric_is_observed_from_its_import_on(oneiric: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`observe_oneiric` imports nothing of Oneiric, and observes it as soon as the program imports it."""
    with observe_oneiric(EventBus()) as observed:
        assert observed
        assert _imported() == []
        with observe_oneiric(EventBus()):
            workflows = _workflows()
            assert _is_observed(workflows)
        assert _is_observed(workflows)
    assert not _is_observed(workflows)
    assert caplog.records == []


def test_an_oneiric_that_is_imported_already(oneiric: Path) -> None:
    """It is observed at once, and not after the block."""
    workflows = _workflows()
    with observe_oneiric(EventBus()) as observed:
        assert observed
        assert _is_observed(workflows)
    assert not _is_observed(workflows)


def test_an_import_of_the_program_that_fails_first(oneiric: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The program sees its own error, and its next import is observed."""
    with observe_oneiric(EventBus()):
        with pytest.raises(ImportError, match="partially initialized"):
            importlib.import_module(WORKFLOWS)
        assert _is_observed(_workflows())
    assert caplog.records == []


def test_a_block_that_has_ended_observes_no_later_import(oneiric: Path) -> None:
    """Oneiric imported after the block is unchanged."""
    before = list(sys.meta_path)
    with observe_oneiric(EventBus()):
        pass
    assert not _is_observed(_workflows())
    assert sys.meta_path == before


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("domains/workflows.py", "", "has no execute_dag"),
        ("runtime/dag.py", DAG.replace("hooks=None, ", ""), "take other arguments"),
        ("runtime/dag.py", "async def execute_dag(): ...", "has changed"),
    ],
)
def test_an_unknown_oneiric_that_is_imported_later(
    oneiric: Path, caplog: pytest.LogCaptureFixture, file: str, source: str, problem: str
) -> None:
    """One warning gives the reason, and the program's import goes on."""
    (oneiric / file).write_text(source)
    with caplog.at_level(logging.WARNING, "eventbus"), observe_oneiric(EventBus()):
        _workflows()
    (record,) = caplog.records
    assert problem in record.getMessage()
