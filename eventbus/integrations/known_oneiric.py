"""What is used of Oneiric, and whether the Oneiric that is installed is as it is known to be.

The only place that imports it, and the one seam where it has no types: it needs Python 3.13, and is
no dependency.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, Protocol

from eventbus.errors import IntegrationError

__all__ = [
    "EXECUTE",
    "HOOKS",
    "WORKFLOWS",
    "Graph",
    "Task",
    "forget_checks",
    "known_dag",
    "known_workflows",
    "node_in_log_context",
]

WORKFLOWS = "oneiric.domains.workflows"
"""The module through which every `WorkflowBridge` executes its graphs."""
EXECUTE = "execute_dag"
"""What it calls for that, looked up in the module at each call."""

HOOKS = (
    "on_run_start",
    "on_run_complete",
    "on_run_error",
    "on_node_start",
    "on_node_complete",
    "on_node_skip",
    "on_node_error",
)
"""The hooks that are used; those of generations tell nothing that these do not."""

_DAG = "oneiric.runtime.dag"
_MAJOR = "0"


class Task(Protocol):
    """A node's `DAGTask`."""

    key: object
    runner: Callable[[], Awaitable[Any]] | None


class Graph(Protocol):
    """A networkx graph whose nodes have a ``task`` each."""

    @property
    def nodes(self) -> Mapping[object, Mapping[str, Any]]:
        """The attributes of each node."""
        ...


def known_workflows() -> ModuleType:
    """Return the module whose `EXECUTE` is to be observed, imported if need be.

    Raises:
        IntegrationError: Oneiric is not installed, cannot be imported, or is another than is known.
    """
    known_dag()
    workflows = _imported(WORKFLOWS)
    if not callable(getattr(workflows, EXECUTE, None)):
        raise IntegrationError(f"{WORKFLOWS} has no {EXECUTE}")
    return workflows


def known_dag() -> ModuleType:
    """Return the module that executes graphs: its `DAGExecutionHooks` and `plan_levels` are used.

    Raises:
        IntegrationError: Oneiric is not installed, cannot be imported, or is another than is known.
    """
    dag = _imported(_DAG)
    _check(dag)
    return dag


def node_in_log_context() -> object:
    """Return the node that Oneiric's log context names; None outside of any node.

    A context variable of our own would say so, too, and cost each node more than an event does.
    """
    contextvars = sys.modules.get("structlog.contextvars")
    return None if contextvars is None else contextvars.get_contextvars().get("node")


@lru_cache(maxsize=1)  # asked for at each run; a module that was reloaded is another one
def _check(dag: Any) -> None:
    _check_version()
    try:
        parameters = inspect.signature(dag.execute_dag).parameters
        hooks = dag.DAGExecutionHooks()
        task = dag.DAGTask(key="a node")
        task.runner = hooks.on_node_start
        known = next(iter(parameters)) == "graph" and {"hooks", "run_id", "workflow_key"} <= set(parameters)
        known &= inspect.iscoroutinefunction(dag.execute_dag) and callable(dag.plan_levels)
        known &= all(getattr(hooks, name) is None for name in HOOKS)
    except Exception as error:
        raise IntegrationError(f"{_DAG} is not as it was: {type(error).__name__}: {error}") from error
    if not known:
        raise IntegrationError(f"{_DAG} is not as it was: execute_dag or its hooks take other arguments")


forget_checks: Callable[[], None] = _check.cache_clear
"""Look anew, after the module was changed in place."""


def _check_version() -> None:
    try:
        version = importlib.metadata.version("oneiric")
    except importlib.metadata.PackageNotFoundError:
        return  # run from its sources: its shape must do
    if version.partition(".")[0] != _MAJOR:
        raise IntegrationError(f"its version is {version}, and {_MAJOR}.x is what is known")


def _imported(name: str) -> ModuleType:
    module = sys.modules.get(name)
    if module is not None:
        return module
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise IntegrationError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
