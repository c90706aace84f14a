"""A known and an unknown hook executor, without crackerjack."""

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
    """Runs some hooks in the calling thread and some in a pool, as crackerjack's does."""

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
    """A run that is in its phase `tests`."""

    def __init__(self) -> None:
        self.reported: list[tuple[Any, ...]] = []

    def node_here(self) -> str:
        return "tests"

    def report_progress(self, node_id: str, **progress: Any) -> None:
        self.reported.append((node_id, progress["completed"], progress["total"], progress["message"]))


@pytest.fixture
def dag(monkeypatch: pytest.MonkeyPatch) -> _Dag:
    """Install a crackerjack that has only a hook executor, and is in a phase."""
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
def test_each_hook_publishes_two_events_of_its_phase(dag: _Dag, times: int) -> None:
    """They are its start and its end, also in a pool's thread and also in nested blocks."""
    before = dict(vars(_executor()))
    bus = EventBus()
    with observe_crackerjack(bus):
        if times == 1:
            assert _executor()().execute_strategy(SimpleNamespace(hooks=HOOKS)) == ["passed", "passed"]
        else:
            with observe_crackerjack(bus):
                assert _executor()().execute_strategy(SimpleNamespace(hooks=HOOKS)) == ["passed", "passed"]
    assert dag.reported == [
        ("tests", 0, 2, "ruff"),
        ("tests", 1, 2, "ruff: passed"),
        ("tests", 1, 2, "mypy"),
        ("tests", 2, 2, "mypy: passed"),
    ]
    assert dict(vars(_executor())) == before


def test_hooks_that_ran_in_another_way_are_published_from_the_result(
    dag: _Dag, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that crackerjack's language server checked, for example; each other hook is published once."""
    own = _executor().execute_strategy

    def execute_strategy(self: Any, strategy: Any) -> Any:
        own(self, strategy)
        names = (("ruff", "passed"), ("mypy", "passed"), ("zuban", "failed"))
        return SimpleNamespace(
            results=[SimpleNamespace(name=name, status=status, duration=0.5) for name, status in names]
        )

    monkeypatch.setattr(_executor(), "execute_strategy", execute_strategy)
    with observe_crackerjack(EventBus()):
        assert len(_executor()().execute_strategy(SimpleNamespace(hooks=HOOKS)).results) == 3
    assert [message for *_, message in dag.reported] == [
        "ruff", "ruff: passed", "mypy", "mypy: passed", "zuban: failed",
    ]  # fmt: skip


def test_a_hook_that_raises_is_published_as_an_error(dag: _Dag) -> None:
    """The exception passes through."""
    with observe_crackerjack(EventBus()), pytest.raises(LookupError, match="broken"):
        _executor()().execute_single_hook(SimpleNamespace(name="broken"))
    assert [message for *_, message in dag.reported] == ["broken", "broken: error"]


def _without_parameter(self: Any) -> None: ...


@pytest.mark.parametrize("change", [None, _without_parameter])
def test_an_unknown_hook_executor_is_not_changed(
    dag: _Dag, caplog: pytest.LogCaptureFixture, change: Callable[..., None] | None
) -> None:
    """An unknown method is not replaced, and one warning is logged."""
    _executor().execute_single_hook = change
    with caplog.at_level(logging.WARNING, "eventbus"), observe_crackerjack(EventBus()):
        assert _executor().execute_single_hook is change
    (record,) = caplog.records
    assert "HookExecutor.execute_single_hook is not observed" in record.getMessage()
    assert dag.reported == []
