"""One call of Oneiric's `execute_dag`, observed: its hooks, its runners, and how it ends.

A node has begun when its runner has, not when Oneiric's hook says so: with a durable store all the
nodes of a generation have been announced before the first of them runs. And only the runner tells a
retry from another, and what it raised. So the runners are wrapped; the hooks tell the rest.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any

from eventbus.fork_safety import ForkSafeLock
from eventbus.integrations.known_oneiric import Graph, Task, known_dag, node_in_log_context
from eventbus.integrations.observed_run import ObservedRun
from eventbus.session import session_scope
from eventbus.trackers.guards import as_text

__all__ = ["ChainedHook", "ObservedDag", "dag_here", "end_executing"]


_here: ContextVar[ObservedDag | None] = ContextVar("eventbus_observed_dag", default=None)
_lock = ForkSafeLock()
_executing: set[ObservedDag] = set()
_logger = logging.getLogger("eventbus.integrations")


def dag_here() -> ObservedDag | None:
    """Return in which observed call the code runs; None outside of any, as in a pool's thread."""
    return _here.get()


def end_executing(error: BaseException) -> None:
    """Close the books of all that is being executed: the process is about to end.

    Args:
        error: What ends it.
    """
    for dag in list(_executing):
        dag.end(error)


class ObservedDag:
    """What is observed of one call, told to one run for each observer.

    Args:
        graph: What is executed.
        hooks: Those the caller gave.
        begin: Makes the runs, as soon as it is known which it is: by id and workflow.
        session_id: The session its phases are in; None to leave them in theirs.

    Attributes:
        graph: What is executed.
        runs: The runs; none before the first hook.
        hooks: What to execute the graph with: ours first, then the caller's.
    """

    def __init__(
        self,
        graph: Graph,
        hooks: Any,
        begin: Callable[[object, object], Sequence[ObservedRun]],
        session_id: str | None = None,
    ) -> None:
        self.graph = graph
        self.runs: Sequence[ObservedRun] = ()
        self._begin = begin
        self._session_id = session_id
        self._runners: dict[str, ObservedRunner] = {}
        self.hooks: Any = copy.copy(hooks) if hooks else known_dag().DAGExecutionHooks()
        self.hooks.on_run_start = ChainedHook(self._on_run_start, self.hooks.on_run_start)
        self.hooks.on_node_skip = ChainedHook(self._on_node_skip, self.hooks.on_node_skip)
        if self.hooks.on_node_start is not None:
            # Only in the caller's hook can a node be cut short before its runner has begun.
            self.hooks.on_node_start = ChainedHook(self._on_node_start, self.hooks.on_node_start)

    @contextmanager
    def executing(self) -> Generator[None]:
        """Observe the enclosed call, and put the runners back after it."""
        self._runners = _wrap_runners(self.graph)
        token = _here.set(self)
        _executing.add(self)
        try:
            with nullcontext() if self._session_id is None else session_scope(self._session_id):
                yield
        finally:
            _executing.discard(self)
            # ValueError: a coroutine that nobody finished is closed in whatever context finds it.
            with suppress(ValueError):
                _here.reset(token)
            _unwrap_runners(self._runners.values())

    def end(self, error: BaseException | None) -> None:
        """Close the books of the runs.

        Args:
            error: What came out of the call, if something did.
        """
        for run in self.runs:
            run.end(error)

    def node_here(self) -> str | None:
        """Return the node whose runner the code runs in."""
        node_id = as_text(node_in_log_context())
        return node_id if node_id in self._runners else None

    def tell_progress(self, node_id: str, **how_far: Any) -> None:
        """Tell how far a node got, from any thread; see `ObservedRun.tell_progress`."""
        for run in self.runs:
            run.tell_progress(node_id, **how_far)

    def _on_run_start(self, *, run_id: object, workflow_key: object, **_: Any) -> None:
        self.runs = self._begin(run_id, workflow_key)
        nodes = _planned(self.graph)
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
    """Two hooks as one: ours, which goes no further than here, then the caller's, exactly as it is.

    Oneiric logs a hook that failed, by its `str`: which is therefore that of the caller's.
    """

    __slots__ = ("_ours", "_theirs")

    def __init__(self, ours: Callable[..., None], theirs: Callable[..., Any] | None) -> None:
        self._ours = ours
        self._theirs = theirs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call both; return what the caller's returned, for Oneiric to await if need be."""
        try:
            self._ours(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - Oneiric lets some of a hook's exceptions end the run
            _warn(error)
        return None if self._theirs is None else self._theirs(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self._theirs)


class ObservedRunner:
    """A task's runner, each call of which is one attempt at its node.

    It stands in the task itself: a copy of the graph would cost as much again as all of observing.
    It asks in whose execution it is called, so that two at a time may share a graph, and it is only
    a detour where nobody observes.
    """

    __slots__ = ("_key", "_task", "runner", "users")

    def __init__(self, task: Task, runner: Callable[[], Awaitable[Any]]) -> None:
        self._task = task
        self._key = as_text(task.key)
        self.runner: Callable[[], Awaitable[Any]] = runner
        self.users: int = 1
        task.runner = self

    async def __call__(self) -> Any:
        """Run, and tell."""
        dag = _here.get()
        if dag is None:
            return await self.runner()
        key = self._key
        for run in dag.runs:
            run.start_node(key)
        try:
            result = await self.runner()
        except BaseException as error:
            for run in dag.runs:
                run.end_node(key, error)
            raise
        for run in dag.runs:
            run.end_node(key)
        return result

    def leave(self) -> None:
        """Put the task's own runner back, if nobody else executes it and nobody else replaced it."""
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
    except Exception as error:  # noqa: BLE001 - a graph that is none: Oneiric will say so itself
        _warn(error)
    return wrapped


def _unwrap_runners(runners: Iterable[ObservedRunner]) -> None:
    with _lock, suppress(Exception):
        for runner in runners:
            runner.leave()


def _planned(graph: Graph) -> list[str]:
    try:
        return [node for level in known_dag().plan_levels(graph) for node in level]
    except Exception:  # noqa: BLE001 - a graph with a cycle: Oneiric is about to say so itself
        return []


def _warn(error: Exception) -> None:
    _logger.warning("observing failed: %s; what is observed goes on", type(error).__name__)
