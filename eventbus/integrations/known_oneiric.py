"""The parts of Oneiric that are used, and a check that the installed Oneiric still has them.

Oneiric is not a dependency, since it needs Python 3.13 or newer; therefore it has no types here. Only
`known_workflows` and `known_dag` import it, and `observe_oneiric` calls them once the program has:
which of its modules can be imported first differs between versions.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, Protocol

from eventbus.errors import IntegrationError
from eventbus.integrations.post_import import is_imported

__all__ = [
    "EXECUTE",
    "HOOKS",
    "WORKFLOWS",
    "Graph",
    "Task",
    "check_installed",
    "known_dag",
    "known_workflows",
    "node_in_log_context",
]

WORKFLOWS = "oneiric.domains.workflows"
"""The module through which every `WorkflowBridge` executes its graphs."""
EXECUTE = "execute_dag"
"""The function that they call, looked up in the module at each call."""

HOOKS = (
    "on_run_start",
    "on_run_complete",
    "on_run_error",
    "on_node_start",
    "on_node_complete",
    "on_node_skip",
    "on_node_error",
)
"""The hooks that are used; generation hooks add no information."""

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


def check_installed() -> None:
    """Check an imported Oneiric as `known_workflows` does, otherwise the installed one without importing it.

    Raises:
        IntegrationError: Oneiric is not installed, or the installed one is not a known one.
    """
    if is_imported(WORKFLOWS):
        known_workflows()
    elif sys.modules.get("oneiric") is None and importlib.util.find_spec("oneiric") is None:
        raise IntegrationError("it is not installed")
    else:
        _check_version()


def known_workflows() -> ModuleType:
    """Return the module whose `EXECUTE` is replaced, and import it if necessary.

    Raises:
        IntegrationError: Oneiric cannot be imported, or the installed one is not a known one.
    """
    known_dag()
    workflows = _import(WORKFLOWS)
    if not callable(getattr(workflows, EXECUTE, None)):
        raise IntegrationError(f"{WORKFLOWS} has no {EXECUTE}")
    return workflows


def known_dag() -> ModuleType:
    """Return the module that executes graphs, with `DAGExecutionHooks` and `plan_levels`.

    Raises:
        IntegrationError: Oneiric cannot be imported, or the installed one is not a known one.
    """
    dag = _import(_DAG)
    _check(dag)
    return dag


def node_in_log_context() -> object:
    """Return the node in Oneiric's log context; None outside a node.

    Setting a context variable of our own would cost each node more than an event does.
    """
    current = getattr(
        sys.modules.get("structlog.contextvars"), "get_contextvars", None
    )  # may be half imported
    return None if current is None else current().get("node")


@lru_cache(maxsize=1)  # called at each run; a reloaded module is checked again
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
        raise IntegrationError(f"{_DAG} has changed: {type(error).__name__}: {error}") from error
    if not known:
        raise IntegrationError(f"{_DAG} has changed: execute_dag or its hooks take other arguments")


def _check_version() -> None:
    try:
        version = importlib.metadata.version("oneiric")
    except importlib.metadata.PackageNotFoundError:
        return  # run from its sources: only its shape can be checked
    if version.partition(".")[0] != _MAJOR:
        raise IntegrationError(f"its version is {version}, only {_MAJOR}.x is known")


def _import(name: str) -> ModuleType:
    module = sys.modules.get(name)
    if module is not None:
        return module
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise IntegrationError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
