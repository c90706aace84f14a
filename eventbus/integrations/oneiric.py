"""Observe Oneiric: every run of every `WorkflowBridge` in the process, or a graph one executes oneself.

    with EventBus([...]) as bus, observe_oneiric(bus):   # nothing else in the program changes
        asyncio.run(bridge.execute_dag("quality"))

    await execute_dag(graph, hooks=dag_hooks(bus))       # where one calls it oneself: no patch at all

Results, exceptions, checkpoints, stored rows and what a runner is called with are as without it,
whatever the bus does. Host the bus in a thread of its own (``with``, not ``async with``): phases
block the loop, and a consumer in it would hear of them when they are over.

What is not seen: a graph that the program hands to Oneiric's own `execute_dag`, for which there is
`dag_hooks`; and a phase's own steps, which only the phase can tell.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any

from eventbus.contracts import EventSink
from eventbus.errors import IntegrationError
from eventbus.fork_safety import ForkSafeLock
from eventbus.integrations.dag_hooks import dag_hooks
from eventbus.integrations.known_oneiric import EXECUTE, known_workflows
from eventbus.integrations.observed_dag import ObservedDag, dag_here
from eventbus.integrations.observed_run import ObservedRun
from eventbus.integrations.replacement import Replacement
from eventbus.trackers.guards import QuietSink

__all__ = ["dag_hooks", "install", "observe_oneiric", "observer_added", "warn_unknown"]

_logger = logging.getLogger("eventbus.integrations")


class _Observer:
    """One bus that is told of every run, and how often it was asked for."""

    def __init__(self, bus: EventSink | None, session_id: str | None, error_messages: bool) -> None:
        self.bus = bus
        self.session_id = session_id
        self.uses: int = 0
        self._sink = QuietSink(bus)
        self._error_messages = error_messages

    def run(self, run_id: object, workflow_key: object) -> ObservedRun:
        return ObservedRun(
            self._sink,
            workflow_key,
            run_id,
            session_id=self.session_id,
            error_messages=self._error_messages,
        )


_lock = ForkSafeLock()
_observers: tuple[_Observer, ...] = ()  # replaced, never changed in place: a run has those it began with
_layers: list[Replacement] = []  # of the one function; more than one only where others replaced it, too


@contextmanager
def observe_oneiric(
    bus: EventSink | None = None, *, session_id: str | None = None, error_messages: bool = False
) -> Generator[bool]:
    """Publish what happens in every workflow that a `WorkflowBridge` executes, while the block runs.

    Each run is told by a `WorkflowStarted` with its planned nodes, a `NodeStarted` and a
    `NodeCompleted` for each attempt of a node's runner, a skipped `NodeCompleted` for a node whose
    result is in the checkpoint, a cancelled one for each node that was cut short, and a
    `WorkflowCompleted`; also where an interrupt or an exit goes through it.

    Blocks nest. One bus is told once, however often it is given; several buses are all told. A run
    that began inside the block is told to its end, also after it. Where Oneiric is missing, or is
    not as it is known to be, that is logged as one warning, and nothing is changed.

    Args:
        bus: Where to publish. None: to the current bus, asked for at each event.
        session_id: The session of all runs, and of what their phases publish. None: the one each
            run begins in.
        error_messages: Whether to keep the texts of exceptions, their first 500 characters. They
            may be private.

    Yields:
        Whether it is observed.

    Raises:
        TypeError: `bus` has no `publish` method.
        ValueError: `session_id` is empty.
    """
    with observer_added(bus, session_id=session_id, error_messages=error_messages):
        try:
            install(known_workflows())
        except IntegrationError as error:
            warn_unknown("Oneiric", error)
            yield False
        else:
            yield True


@contextmanager
def observer_added(
    bus: EventSink | None, *, session_id: str | None = None, error_messages: bool = False
) -> Generator[None]:
    """Tell a bus of every run, once `install` has been called; with the last one, undo that.

    For whoever cannot have Oneiric imported yet; everybody else uses `observe_oneiric`.
    """
    if session_id is not None and not session_id:
        raise ValueError("an empty session id names nothing. Pass None for the one each run begins in")
    observer = _enter(_Observer(bus, session_id, error_messages))
    try:
        yield
    finally:
        _leave(observer)


def install(workflows: ModuleType) -> None:
    """Replace the function that executes graphs, if it is not replaced.

    Args:
        workflows: What `known_workflows` returns.
    """
    with _lock:
        if _observers and not any(layer.in_place for layer in _layers):
            _layers.append(Replacement(workflows, EXECUTE, _observed))


def warn_unknown(what: str, error: Exception) -> None:
    """Log that something is not observed, and why.

    Args:
        what: What it is.
        error: What is wrong with it.
    """
    _logger.warning("%s is not observed, and runs as if nobody asked: %s", what, error)


def _enter(new: _Observer) -> _Observer:
    global _observers  # noqa: PLW0603
    with _lock:
        observer = next((each for each in _observers if each.bus is new.bus), new)
        if observer is new:
            _observers = (*_observers, new)
        observer.uses += 1
        return observer


def _leave(observer: _Observer) -> None:
    global _observers  # noqa: PLW0603
    with _lock:
        observer.uses -= 1
        if observer.uses:
            return
        _observers = tuple(each for each in _observers if each is not observer)
        while not _observers and _layers:
            _layers.pop().restore()


def _observed(execute: Callable[..., Any], layer: Replacement) -> Callable[..., Any]:
    @wraps(execute)
    async def execute_dag(*args: Any, **kwargs: Any) -> Any:
        observed = _observed_dag(args, kwargs) if layer.active else None
        if observed is None:
            return await execute(*args, **kwargs)
        try:
            with observed.executing():
                result = await execute(*args, **{**kwargs, "hooks": observed.hooks})
        except BaseException as error:
            observed.end(error)
            raise
        observed.end(None)
        return result

    return execute_dag


def _observed_dag(args: Sequence[Any], kwargs: dict[str, Any]) -> ObservedDag | None:
    """Return what to observe of a call; None for a layer under another one, which observes it."""
    observers = _observers
    graph: Any = args[0] if args else kwargs.get("graph")
    above = dag_here()
    if not observers or (above is not None and above.graph is graph):
        return None
    session_id = next((each.session_id for each in reversed(observers) if each.session_id), None)

    def begin(run_id: object, workflow_key: object) -> list[ObservedRun]:
        return [observer.run(run_id, workflow_key) for observer in observers]

    try:
        return ObservedDag(graph, kwargs.get("hooks"), begin, session_id)
    except Exception as error:  # noqa: BLE001 - hooks that cannot be copied, a graph that is none
        warn_unknown("this run", error)
        return None
