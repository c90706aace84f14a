"""Crackerjack's hook executor as it is known to be, and as it is not; without crackerjack."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from eventbus import EventBus
from eventbus.integrations import crackerjack
from eventbus.integrations.crackerjack import observe_crackerjack

HOOKS = [SimpleNamespace(name=name, disabled=name == "off") for name in ("ruff", "mypy", "off")]


class _HookExecutor:
    """Does as crackerjack's does: some hooks here, some in a pool."""

    enable_hooks: frozenset[str] = frozenset()

    def execute_strategy(self, strategy: Any) -> list[str]:
        enabled = [hook for hook in strategy.hooks if not hook.disabled]
        first = self.execute_single_hook(enabled[0])
        with ThreadPoolExecutor(1) as pool:
            return [
                each.status for each in (first, pool.submit(self.execute_single_hook, enabled[1]).result())
            ]

    def execute_single_hook(self, hook: Any) -> Any:
        if hook.name == "broken":
            raise LookupError(hook.name)
        return SimpleNamespace(status="passed")


class _Dag:
    """A run in whose phase `tests` the code is."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def node_here(self) -> str:
        return "tests"

    def tell_progress(self, node_id: str, **how_far: Any) -> None:
        self.told.append((node_id, how_far["completed"], how_far["total"], how_far["message"]))


@pytest.fixture
def dag(monkeypatch: pytest.MonkeyPatch) -> _Dag:
    """Put a crackerjack in place that has nothing but a hook executor, within a phase."""
    dag = _Dag()
    for name in ("crackerjack", "crackerjack.executors", "crackerjack.executors.hook_executor"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    executor = type("HookExecutor", (), dict(vars(_HookExecutor)))
    vars(sys.modules["crackerjack.executors.hook_executor"])["HookExecutor"] = executor
    monkeypatch.setattr(crackerjack, "dag_here", lambda: dag)
    return dag


def _executor() -> Any:
    return vars(sys.modules["crackerjack.executors.hook_executor"])["HookExecutor"]


@pytest.mark.parametrize("times", [1, 2])
def test_each_hook_is_told_twice_in_its_phase(dag: _Dag, times: int) -> None:
    """A hook's start and end are told, in a pool's thread, too, and once however often it is observed."""
    before = dict(vars(_executor()))
    bus = EventBus()
    with observe_crackerjack(bus):
        if times == 1:
            assert _executor()().execute_strategy(SimpleNamespace(hooks=HOOKS)) == ["passed", "passed"]
        else:
            with observe_crackerjack(bus):
                assert _executor()().execute_strategy(SimpleNamespace(hooks=HOOKS)) == ["passed", "passed"]
    assert dag.told == [
        ("tests", 0, 2, "ruff"),
        ("tests", 1, 2, "ruff: passed"),
        ("tests", 1, 2, "mypy"),
        ("tests", 2, 2, "mypy: passed"),
    ]
    assert dict(vars(_executor())) == before


def test_a_hook_that_raises_is_told_and_raises(dag: _Dag) -> None:
    """A hook that ends by an exception ends as an error, and the exception is the hook's own."""
    with observe_crackerjack(EventBus()), pytest.raises(LookupError, match="broken"):
        _executor()().execute_single_hook(SimpleNamespace(name="broken"))
    assert [told[3] for told in dag.told] == ["broken", "broken: error"]


def _without_parameter(self: Any) -> None: ...


@pytest.mark.parametrize("change", [None, _without_parameter])
def test_another_hook_executor_is_left_alone(
    dag: _Dag, caplog: pytest.LogCaptureFixture, change: Callable[..., None] | None
) -> None:
    """A method that is not as it is known to be gives one warning, and is not touched."""
    _executor().execute_single_hook = change
    with caplog.at_level(logging.WARNING, "eventbus"), observe_crackerjack(EventBus()):
        assert _executor().execute_single_hook is change
    (record,) = caplog.records
    assert "HookExecutor.execute_single_hook is not observed" in record.getMessage()
    assert dag.told == []
