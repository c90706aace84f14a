"""Observe one call of Oneiric's `execute_dag`: its hooks, its runners, and its end.

A node begins when its runner is called, not when Oneiric calls the hook: with a durable store it calls
the hooks of a whole generation before the first runner. Only the runner shows each retry and the
exception. Therefore the runners are wrapped, and hooks report the rest.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from eventbus.delivery.rate_limited_log import RateLimitedLog
from eventbus.ground.fork_safety import ForkSafeLock
from eventbus.integrations.known_oneiric import Graph, Task, node_in_log_context
from eventbus.integrations.observed_run import ObservedRun
from eventbus.running_node import NodeScope
from eventbus.session import session_scope
from eventbus.trackers.guards import as_text, warn_of_failure

__all__ = ["ChainedHook", "ObservedDag", "dag_here", "end_executing", "exporting_nodes"]


_here: ContextVar[ObservedDag | None] = ContextVar("eventbus_observed_dag", default=None)
_lock = ForkSafeLock()
_executing: set[ObservedDag] = set()
_exporting: set[object] = set()
_log = RateLimitedLog(logging.getLogger("eventbus.integrations"), "observing")


def dag_here() -> ObservedDag | None:
    """Return the observed call in this context; None outside of one, as in a pool's thread."""
    return _here.get()


def end_executing(error: BaseException) -> None:
    """End every run that is being executed, because the process is about to end.

    Args:
        error: What ends it.
    """
    for dag in list(_executing):
        dag.end(error)


@contextmanager
def exporting_nodes() -> Generator[None]:
    """Name the running node in the environment while the block runs, for the processes that it starts.

    Not always: it costs a node of microseconds a tenth of its time, and an Oneiric may run in a server.
    """
    mark = object()
    _exporting.add(mark)
    try:
        yield
    finally:
        _exporting.discard(mark)


class ObservedDag:
    """One observed call, reported to one `ObservedRun` per observer.

    Args:
        dag: The module that executes it. The program may have removed it from `sys.modules` since.
        graph: The graph that is executed.
        hooks: The caller's hooks.
        begin: Makes the runs from run id and workflow key, which the first hook call brings.
        session_id: The session of its phases. None: they keep their own.

    Attributes:
        graph: The graph that is executed.
        runs: The runs; none before the first hook call.
        hooks: The hooks to execute the graph with: each calls ours first, then the caller's.
    """

    def __init__(
        self,
        dag: ModuleType,
        graph: Graph,
        hooks: Any,
        begin: Callable[[object, object], Sequence[ObservedRun]],
        session_id: str | None = None,
    ) -> None:
        self._dag = dag
        self.graph = graph
        self.runs: Sequence[ObservedRun] = ()
        self._begin = begin
        self._session_id = session_id
        self._runners: dict[str, ObservedRunner] = {}
        self.hooks: Any = copy.copy(hooks) if hooks else dag.DAGExecutionHooks()
        self.hooks.on_run_start = ChainedHook(self._on_run_start, self.hooks.on_run_start)
        self.hooks.on_node_skip = ChainedHook(self._on_node_skip, self.hooks.on_node_skip)
        if self.hooks.on_node_start is not None:
            # A node can only be cancelled before its runner begins if the caller's hook waits.
            self.hooks.on_node_start = ChainedHook(self._on_node_start, self.hooks.on_node_start)

    @contextmanager
    def executing(self) -> Generator[None]:
        """Observe the enclosed call, and restore the runners after it."""
        self._runners = _wrap_runners(self.graph)
        token = _here.set(self)
        _executing.add(self)
        try:
            with nullcontext() if self._session_id is None else session_scope(self._session_id):
                yield
        finally:
            _executing.discard(self)
            # ValueError: an unfinished coroutine may be closed in another context.
            with suppress(ValueError):
                _here.reset(token)
            _unwrap_runners(self._runners.values())

    def end(self, error: BaseException | None) -> None:
        """End the runs.

        Args:
            error: The exception that the call raised.
        """
        for run in self.runs:
            run.end(error)

    def node_here(self) -> str | None:
        """Return the node whose runner is executing in this context."""
        node_id = as_text(node_in_log_context())
        return node_id if node_id in self._runners else None

    def report_progress(self, node_id: str, **progress: Any) -> None:
        """Publish a node's progress, from any thread; see `ObservedRun.report_progress`."""
        for run in self.runs:
            run.report_progress(node_id, **progress)

    def _on_run_start(self, *, run_id: object, workflow_key: object, **_: Any) -> None:
        self.runs = self._begin(run_id, workflow_key)
        nodes = _planned_nodes(self._dag, self.graph)
        for run in self.runs:
            run.begin(nodes)

    def _on_node_start(self, *, node: object, **_: Any) -> None:
        node_id = as_text(node)
        if node_id in self._runners:
            for run in self.runs:
                run.expect_node(node_id)

    def _on_node_skip(self, *, node: object, **_: Any) -> None:
        for run in self.runs:
            run.end_node(as_text(node), status="skipped")


class ChainedHook:
    """A hook that calls ours, then the caller's. What ours raises is logged; the caller's may raise.

    Oneiric logs the `str` of a hook that failed, which is therefore that of the caller's hook.
    """

    __slots__ = ("_ours", "_theirs")

    def __init__(self, ours: Callable[..., None], theirs: Callable[..., Any] | None) -> None:
        self._ours = ours
        self._theirs = theirs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call both; return the result of the caller's hook, which Oneiric may await."""
        try:
            self._ours(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - some exceptions of a hook would end the run
            warn_of_failure(_log, error)
        return None if self._theirs is None else self._theirs(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self._theirs)


class ObservedRunner:
    """Wraps a task's runner; each call is one attempt at its node.

    It replaces the runner in the task itself: copying the graph would double the cost of observing.
    Concurrent executions may share a graph, so each call looks up its execution in the context;
    outside an observed one it only calls the runner.
    """

    __slots__ = ("_key", "_task", "runner", "users")

    def __init__(self, task: Task, runner: Callable[[], Awaitable[Any]]) -> None:
        self._task = task
        self._key = as_text(task.key)
        self.runner: Callable[[], Awaitable[Any]] = runner
        self.users: int = 1
        task.runner = self

    async def __call__(self) -> Any:
        """Call the runner and report the attempt."""
        dag = _here.get()
        if dag is None:
            return await self.runner()
        key = self._key
        for run in dag.runs:
            run.start_node(key)
        try:
            with NodeScope(dag.runs[0].running_node(key) if dag.runs else None, exported=bool(_exporting)):
                result = await self.runner()
        except BaseException as error:
            for run in dag.runs:
                run.end_node(key, error)
            raise
        for run in dag.runs:
            run.end_node(key)
        return result

    def release(self) -> None:
        """Restore the task's runner after its last execution, unless it was replaced since."""
        self.users -= 1
        if not self.users and self._task.runner is self:
            self._task.runner = self.runner


def _wrap_runners(graph: Graph) -> dict[str, ObservedRunner]:
    wrapped: dict[str, ObservedRunner] = {}
    try:
        with _lock:
            for attributes in graph.nodes.values():
                task: Task = attributes["task"]
                runner = task.runner
                if isinstance(runner, ObservedRunner):
                    runner.users += 1
                    wrapped[as_text(task.key)] = runner
                elif runner:
                    wrapped[as_text(task.key)] = ObservedRunner(task, runner)
    except Exception as error:  # noqa: BLE001 - not a graph: Oneiric will raise, too
        warn_of_failure(_log, error)
    return wrapped


def _unwrap_runners(runners: Iterable[ObservedRunner]) -> None:
    with _lock, suppress(Exception):
        for runner in runners:
            runner.release()


def _planned_nodes(dag: ModuleType, graph: Graph) -> list[str]:
    try:
        return [node for level in dag.plan_levels(graph) for node in level]
    except Exception:  # noqa: BLE001 - a graph with a cycle: Oneiric is about to raise, too
        return []
