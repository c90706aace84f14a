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
from typing import Any, cast

from eventbus.contracts import EventSink
from eventbus.errors import IntegrationError
from eventbus.events import SessionLinked
from eventbus.ground.fork_safety import ForkSafeLock
from eventbus.integrations.known_oneiric import WORKFLOWS
from eventbus.integrations.observed_dag import ObservedDag, dag_here, end_executing, exporting_nodes
from eventbus.integrations.observed_run import run_details
from eventbus.integrations.oneiric import observe_workflows, observer_added, warn_unknown
from eventbus.integrations.post_import import when_imported
from eventbus.integrations.replacement import Replacement
from eventbus.session import current_session_id, session_scope
from eventbus.trackers.guards import GuardedSink, as_text, finite

__all__ = ["AGENT_SESSION", "end_executing", "observe_crackerjack"]

_PIPELINE = "crackerjack.core.workflow_orchestrator"
_HOOKS = "crackerjack.executors.hook_executor"
_JOBS = "crackerjack.mcp.tools.workflow_executor"
_LSP_HOOKS = "crackerjack.executors.lsp_aware_hook_executor"
_STRATEGY, _JOB = ("self", "strategy"), ("job_id", "args", "kwargs", "context")
AGENT_SESSION = "eventbus_session_id"
"""With it an agent passes its session to the MCP tool that runs crackerjack, in the tool's ``kwargs``."""


@contextmanager
def observe_crackerjack(bus: EventSink | None = None, *, error_messages: bool = False) -> Generator[None]:
    """Publish the events of crackerjack's runs while the block runs.

    A run has the session it begins in, such as the environment's ``EVENTBUS_SESSION_ID``; if there is
    none, it has crackerjack's own. A job of crackerjack's MCP server is a session of its own, whose id is
    the job's: a server serves several agents, whatever its environment says. A method of crackerjack that
    has changed is not observed, and one warning is logged.

    Args:
        bus: Where to publish. None: to the current bus, looked up at each event.
        error_messages: Whether to keep the texts of exceptions, their first 500 characters. They
            may be private.

    Raises:
        TypeError: `bus` has no `publish` method.
    """
    with ExitStack() as stack:
        stack.enter_context(observer_added(bus, error_messages=error_messages))
        stack.enter_context(exporting_nodes())  # pytest is a process of its own
        replace = partial(_replace, stack)
        sink = GuardedSink(bus)
        stack.enter_context(
            when_imported(
                {
                    WORKFLOWS: observe_workflows,
                    _PIPELINE: lambda module: replace(
                        module, "WorkflowPipeline.run_complete_workflow", ("self", "options"), _in_session
                    ),
                    _HOOKS: lambda module: _observe_hooks(module, replace),
                    _LSP_HOOKS: lambda module: replace(
                        module, "LSPAwareHookExecutor.execute_strategy", _STRATEGY, _observing_strategy
                    ),
                    _JOBS: lambda module: replace(
                        module, "_execute_crackerjack_sync", _JOB, partial(_in_job, sink)
                    ),
                }
            )
        )
        yield


def _observe_hooks(module: ModuleType, replace: Callable[..., None]) -> None:
    replace(module, "HookExecutor.execute_strategy", _STRATEGY, _observing_strategy)
    replace(module, "HookExecutor.execute_single_hook", ("self", "hook"), _reporting_hook)


def _replace(
    stack: ExitStack, module: ModuleType, name: str, parameters: tuple[str, ...], wrap: Callable[..., Any]
) -> None:
    """Replace a function or a method until the stack is closed, if it has the known parameters.

    Args:
        stack: Restores it.
        module: Its module.
        name: Its name, after that of its class.
        parameters: The names of its parameters.
        wrap: Makes the wrapper.
    """
    class_name, _, name = name.rpartition(".")
    owner: Any = getattr(module, class_name, None) if class_name else module
    try:
        found = tuple(inspect.signature(getattr(owner, name)).parameters)
    except (AttributeError, TypeError, ValueError):
        found = ()
    if found == parameters:
        stack.callback(Replacement(owner, name, wrap).restore)
    else:
        what = ".".join(filter(None, (module.__name__, class_name, name)))
        warn_unknown(what, IntegrationError(f"it does not take ({', '.join(parameters)})"))


def _in_job(sink: GuardedSink, run: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    """Make a job of crackerjack's MCP server a session of its own, and link it to the agent's.

    Only the agent knows its own session and the job id that it is given. It may pass the session as
    `AGENT_SESSION` in the tool's ``kwargs``; otherwise something on its side publishes `SessionLinked`.
    """

    @wraps(run)
    async def execute(job_id: object, args: object, kwargs: Any, context: object) -> Any:
        if not replacement.active:
            return await run(job_id, args, kwargs, context)
        job = as_text(job_id)
        agent = cast("dict[object, object]", kwargs).get(AGENT_SESSION) if type(kwargs) is dict else None
        if agent and isinstance(agent, str):
            sink.publish(SessionLinked(session_id=agent, other=job))
        with session_scope(job), run_details({"job_id": job}):
            return await run(job_id, args, kwargs, context)

    return execute


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
