"""Oneiric is observed from the program's own import on, in whatever order the program imports its modules.

A small stand-in for it cannot be imported `oneiric.domains.workflows` first, as is 0.33.3.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventbus import Event, EventBus, WorkflowCompleted, WorkflowEvent, WorkflowStarted
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
    if hooks is not None:
        hooks.on_run_start(run_id=run_id, workflow_key=workflow_key)
    return "done"
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


@pytest.mark.parametrize("first", [name.removesuffix("/__init__.py").removesuffix(".py") for name in FILES])
def test_any_module_may_be_imported_first(
    oneiric: Path, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    """Where Oneiric's own order of imports fails, the program sees that, and a later import is observed."""
    name = "oneiric" if first == "__init__" else f"oneiric.{first.replace('/', '.')}"
    with observe_oneiric(EventBus()) as observed:
        assert observed
        with suppress(ImportError):
            importlib.import_module(name)
        workflows = _workflows()
        assert _is_observed(workflows)
    assert not _is_observed(workflows)
    assert caplog.records == []


def test_an_oneiric_that_is_imported_again(oneiric: Path) -> None:
    """Its modules were removed from `sys.modules` or reloaded: old and new ones are observed, each once."""
    with observe_oneiric(EventBus()):
        old = _workflows()
        for name in _imported():
            del sys.modules[name]
        assert _is_observed(old)
        new = _workflows()
        assert new is not old
        importlib.reload(new)
        for workflows in (old, new):
            assert _is_observed(workflows)
            assert not hasattr(workflows.execute_dag.__wrapped__, "__wrapped__")
    assert not _is_observed(old)
    assert not _is_observed(new)


def test_an_oneiric_that_the_program_no_longer_has(oneiric: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What the program runs of it after removing it from `sys.modules` is observed, and imports nothing."""
    events: list[Event] = []
    with EventBus() as bus, observe_oneiric(bus):
        bus.subscribe(events.append, WorkflowEvent)
        workflows = _workflows()
        for name in _imported():
            del sys.modules[name]
        assert asyncio.run(workflows.execute_dag(SimpleNamespace(nodes={}), run_id="r1")) == "done"
        assert _imported() == []
    assert [type(event) for event in events] == [WorkflowStarted, WorkflowCompleted]
    assert caplog.records == []


def test_an_oneiric_that_may_not_be_imported(
    oneiric: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts as not installed: one warning."""
    monkeypatch.setitem(sys.modules, "oneiric", None)
    with caplog.at_level(logging.WARNING, "eventbus"), observe_oneiric(EventBus()) as observed:
        assert not observed
    (record,) = caplog.records
    assert "it is not installed" in record.getMessage()


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
