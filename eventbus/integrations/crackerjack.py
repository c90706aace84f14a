"""Observe crackerjack: its runs, phases and hooks, each with the session of its run.

    with EventBus([...]) as bus, observe_crackerjack(bus):
        from crackerjack.__main__ import cli   # may also be imported before
        cli()

The phases of a run are its nodes, as in any `WorkflowBridge`. Each pass of a hook publishes two
`NodeProgress` events of its phase, with name, status and seconds in the metadata, from which correlation
has the hooks of a session. Hooks are not nodes: the run plans one node for a phase of 16 hooks, and every
count of nodes would differ from the plan. Rejected: an event class for the end of a hook, which older
logs do not have, and which would publish each end twice.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import partial, wraps
from types import ModuleType
from typing import Any

from eventbus.contracts import EventSink
from eventbus.errors import IntegrationError
from eventbus.fork_safety import ForkSafeLock
from eventbus.integrations.known_oneiric import WORKFLOWS
from eventbus.integrations.observed_dag import ObservedDag, dag_here, end_executing
from eventbus.integrations.oneiric import observe_workflows, observer_added, warn_unknown
from eventbus.integrations.post_import import when_imported
from eventbus.integrations.replacement import Replacement
from eventbus.session import current_session_id, session_scope
from eventbus.trackers.guards import as_text, finite

__all__ = ["end_executing", "observe_crackerjack"]

_PIPELINE = "crackerjack.core.workflow_orchestrator"
_HOOKS = "crackerjack.executors.hook_executor"
_LSP_HOOKS = "crackerjack.executors.lsp_aware_hook_executor"


@contextmanager
def observe_crackerjack(bus: EventSink | None = None, *, error_messages: bool = False) -> Generator[None]:
    """Publish the events of crackerjack's runs while the block runs.

    A run has the session it begins in, such as the environment's ``EVENTBUS_SESSION_ID``; if there is
    none, it has crackerjack's own. A method of crackerjack that has changed is not observed, and one
    warning is logged.

    Args:
        bus: Where to publish. None: to the current bus, looked up at each event.
        error_messages: Whether to keep the texts of exceptions, their first 500 characters. They
            may be private.

    Raises:
        TypeError: `bus` has no `publish` method.
    """
    with ExitStack() as stack:
        stack.enter_context(observer_added(bus, error_messages=error_messages))
        replace = partial(_replace, stack)
        stack.enter_context(
            when_imported(
                {
                    WORKFLOWS: observe_workflows,
                    _PIPELINE: lambda module: replace(
                        module, "WorkflowPipeline.run_complete_workflow", "options", _in_session
                    ),
                    _HOOKS: lambda module: _observe_hooks(module, replace),
                    _LSP_HOOKS: lambda module: replace(
                        module, "LSPAwareHookExecutor.execute_strategy", "strategy", _observing_strategy
                    ),
                }
            )
        )
        yield


def _observe_hooks(module: ModuleType, replace: Callable[..., None]) -> None:
    replace(module, "HookExecutor.execute_strategy", "strategy", _observing_strategy)
    replace(module, "HookExecutor.execute_single_hook", "hook", _reporting_hook)


def _replace(
    stack: ExitStack, module: ModuleType, method: str, parameter: str, wrap: Callable[..., Any]
) -> None:
    """Replace a method until the stack is closed, if the method has the known parameter.

    Args:
        stack: Restores the method.
        module: The module of its class.
        method: Class and name of the method.
        parameter: The name of its only parameter.
        wrap: Makes the wrapper.
    """
    owner, _, name = method.partition(".")
    cls: Any = getattr(module, owner, None)
    try:
        parameters = list(inspect.signature(getattr(cls, name)).parameters)
    except (AttributeError, TypeError, ValueError):
        parameters = []
    if parameters == ["self", parameter]:
        stack.callback(Replacement(cls, name, wrap).restore)
    else:
        what = f"{module.__name__}.{method}"
        warn_unknown(what, IntegrationError(f"it is not a method with the parameter {parameter}"))


def _in_session(run: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    @wraps(run)
    async def run_complete_workflow(self: Any, *args: Any, **kwargs: Any) -> Any:
        session_id = _session_of(self) if replacement.active else None
        if session_id is None:
            return await run(self, *args, **kwargs)
        with session_scope(session_id):
            return await run(self, *args, **kwargs)

    return run_complete_workflow


def _session_of(pipeline: Any) -> str | None:
    own = getattr(getattr(pipeline, "session", None), "session_id", None)
    return current_session_id() or (as_text(own) if own else None)


class _PhaseHooks:
    """Counts and reports the hooks of one strategy in one phase, from any thread."""

    def __init__(self, dag: ObservedDag, node_id: str, total: int | None) -> None:
        self._dag = dag
        self._node_id = node_id
        self._total = total
        self._done = 0
        self._ended: set[str] = set()
        self._lock = ForkSafeLock()

    def report(self, hook: str, status: str, seconds: float | None = None) -> None:
        with self._lock:
            if seconds is not None:
                self._done += 1
                self._ended.add(hook)
            done = self._done
        total = None if self._total is None else max(self._total, done)  # hooks may be retried
        details = {"hook": hook, "status": status}
        self._dag.report_progress(
            self._node_id,
            completed=done,
            total=total,
            message=hook if seconds is None else f"{hook}: {status}",
            metadata=details if seconds is None else {**details, "duration_seconds": seconds},
        )

    def report_others(self, result: Any) -> None:
        """Report the hooks of a strategy's result that ran in another way, such as by a language server."""
        for each in getattr(result, "results", ()):
            name = as_text(getattr(each, "name", "hook"))
            if name not in self._ended:
                self.report(name, as_text(getattr(each, "status", "done")), finite(each.duration) or 0.0)


_reported_hook: ContextVar[object] = ContextVar("eventbus_reported_hook", default=None)
# By executor, since the threads of its pool do not inherit the context of the phase.
_phases: dict[int, _PhaseHooks] = {}


def _phase_here(total: int | None = None) -> _PhaseHooks | None:
    dag = dag_here()
    node_id = None if dag is None else dag.node_here()
    return None if dag is None or node_id is None else _PhaseHooks(dag, node_id, total)


def _observing_strategy(execute: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    @wraps(execute)
    def execute_strategy(self: Any, *args: Any, **kwargs: Any) -> Any:
        phase = _phase_here(_enabled(self, *args, **kwargs)) if replacement.active else None
        if phase is None:
            return execute(self, *args, **kwargs)
        _phases[id(self)] = phase
        try:
            result = execute(self, *args, **kwargs)
        finally:
            _phases.pop(id(self), None)
        with suppress(Exception):  # another kind of result
            phase.report_others(result)
        return result

    return execute_strategy


def _enabled(executor: Any, strategy: Any = None) -> int | None:
    """Return how many hooks will run; None if that is not known."""
    try:
        return sum(not hook.disabled or hook.name in executor.enable_hooks for hook in strategy.hooks)
    except Exception:  # noqa: BLE001 - another kind of strategy
        return None


def _reporting_hook(execute: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    @wraps(execute)
    def execute_single_hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        phase = (_phases.get(id(self)) or _phase_here()) if replacement.active else None
        hook = args[0] if args else kwargs.get("hook")
        # Nested blocks wrap the method twice; only one wrapper reports.
        if phase is None or _reported_hook.get() is hook:
            return execute(self, *args, **kwargs)
        token = _reported_hook.set(hook)
        try:
            return _execute_reported(
                phase, as_text(getattr(hook, "name", "hook")), partial(execute, self, *args, **kwargs)
            )
        finally:
            _reported_hook.reset(token)

    return execute_single_hook


def _execute_reported(phase: _PhaseHooks, hook: str, execute: Callable[[], Any]) -> Any:
    phase.report(hook, "running")
    began = time.perf_counter()
    status = "error"
    try:
        result = execute()
        status = as_text(getattr(result, "status", "done"))
    finally:
        phase.report(hook, status, time.perf_counter() - began)
    return result
