"""Observe Oneiric: the runs of every `WorkflowBridge` in the process, or single calls of `execute_dag`.

    with EventBus([...]) as bus, observe_oneiric(bus):   # nothing else in the program changes
        asyncio.run(bridge.execute_dag("quality"))

    await execute_dag(graph, hooks=dag_hooks(bus))       # for your own calls: nothing is patched

Results, exceptions, checkpoints, stored rows and calls of runners are the same, observed or not,
whatever the bus does. Host the bus in its own thread (``with``, not ``async with``): phases block the
loop, and a subscriber in that loop would get their events only afterwards.

`observe_oneiric` does not see graphs that the program passes to Oneiric's own `execute_dag`; use
`dag_hooks` for them. Neither sees the steps inside a phase, which only the phase can publish.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from types import ModuleType
from typing import Any

from eventbus.contracts import EventSink
from eventbus.errors import IntegrationError
from eventbus.ground.fork_safety import ForkSafeLock
from eventbus.integrations.dag_hooks import dag_hooks
from eventbus.integrations.known_oneiric import (
    EXECUTE,
    WORKFLOWS,
    check_installed,
    known_dag,
    known_workflows,
)
from eventbus.integrations.observed_dag import ObservedDag, dag_here
from eventbus.integrations.observed_run import ObservedRun
from eventbus.integrations.post_import import when_imported
from eventbus.integrations.replacement import Replacement
from eventbus.trackers.guards import GuardedSink

__all__ = ["dag_hooks", "observe_oneiric", "observe_workflows", "observer_added", "warn_unknown"]

_logger = logging.getLogger("eventbus.integrations")


class _Observer:
    """A bus that gets the events of every run, and how many blocks use it."""

    def __init__(self, bus: EventSink | None, session_id: str | None, error_messages: bool) -> None:
        self.bus = bus
        self.session_id = session_id
        self.uses: int = 0
        self._sink = GuardedSink(bus)
        self._error_messages = error_messages

    def new_run(self, run_id: object, workflow_key: object) -> ObservedRun:
        return ObservedRun(
            self._sink,
            workflow_key,
            run_id,
            session_id=self.session_id,
            error_messages=self._error_messages,
        )


_lock = ForkSafeLock()
_observers: tuple[_Observer, ...] = ()  # replaced, never mutated: a run keeps the observers it began with
_replacements: list[Replacement] = []  # of `EXECUTE`; more than one only if the program has patched it, too


@contextmanager
def observe_oneiric(
    bus: EventSink | None = None, *, session_id: str | None = None, error_messages: bool = False
) -> Generator[bool]:
    """Publish the events of every workflow that a `WorkflowBridge` executes while the block runs.

    A run publishes a `WorkflowStarted` with its planned nodes, a `NodeStarted` and a `NodeCompleted`
    for each attempt of a node's runner, a skipped `NodeCompleted` for each node whose result is in
    the checkpoint, a cancelled one for each node that was interrupted, and a `WorkflowCompleted`,
    also if an interrupt or an exit ends the run.

    Blocks nest. A bus that is passed several times gets each event once; each of several buses gets
    it. A run that began inside the block is observed to its end, even after the block. Oneiric is not
    imported: it is observed from its import on, in whatever order and thread the program imports its
    modules, also if it does again. If it is missing or not a known one, one warning is logged and
    nothing is changed.

    Args:
        bus: Where to publish. None: to the current bus, looked up at each event.
        session_id: The session of all runs and of the events that their phases publish. None: each
            run has the session it begins in.
        error_messages: Whether to keep the texts of exceptions, their first 500 characters. They
            may be private.

    Yields:
        True if Oneiric is observed, or will be when the program imports it.

    Raises:
        TypeError: `bus` has no `publish` method.
        ValueError: `session_id` is empty.
    """
    with observer_added(bus, session_id=session_id, error_messages=error_messages):
        try:
            check_installed()
        except IntegrationError as error:
            warn_unknown("Oneiric", error)
            yield False
            return
        with when_imported({WORKFLOWS: observe_workflows}):
            yield True


@contextmanager
def observer_added(
    bus: EventSink | None, *, session_id: str | None = None, error_messages: bool = False
) -> Generator[None]:
    """Publish every run to a bus once `observe_workflows` has been called; the last block undoes that."""
    if session_id is not None and not session_id:
        raise ValueError("a session id must not be empty. Pass None for the session each run begins in")
    observer = _add_observer(_Observer(bus, session_id, error_messages))
    try:
        yield
    finally:
        _remove_observer(observer)


def observe_workflows(_: ModuleType) -> None:
    """Replace the function that executes graphs, unless that is done already; for `when_imported`."""
    try:
        workflows = known_workflows()
    except IntegrationError as error:
        warn_unknown("Oneiric", error)
        return
    with _lock:
        if _observers and not any(each.owner is workflows and each.in_place for each in _replacements):
            _replacements.append(Replacement(workflows, EXECUTE, partial(_observed, known_dag())))


def warn_unknown(what: str, error: Exception) -> None:
    """Log that something runs unobserved, and why.

    Args:
        what: Its name.
        error: The reason.
    """
    _logger.warning("%s is not observed: %s", what, error)


def _add_observer(new: _Observer) -> _Observer:
    global _observers  # noqa: PLW0603
    with _lock:
        observer = next((each for each in _observers if each.bus is new.bus), new)
        if observer is new:
            _observers = (*_observers, new)
        observer.uses += 1
        return observer


def _remove_observer(observer: _Observer) -> None:
    global _observers  # noqa: PLW0603
    with _lock:
        observer.uses -= 1
        if observer.uses:
            return
        _observers = tuple(each for each in _observers if each is not observer)
        while not _observers and _replacements:
            _replacements.pop().restore()


def _observed(dag: ModuleType, execute: Callable[..., Any], replacement: Replacement) -> Callable[..., Any]:
    @wraps(execute)
    async def execute_dag(*args: Any, **kwargs: Any) -> Any:
        observed = _observed_dag(dag, args, kwargs) if replacement.active else None
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


def _observed_dag(dag: ModuleType, args: Sequence[Any], kwargs: dict[str, Any]) -> ObservedDag | None:
    """Return the observation of a call; None if a wrapper above this one observes it already."""
    observers = _observers
    graph: Any = args[0] if args else kwargs.get("graph")
    above = dag_here()
    if not observers or (above is not None and above.graph is graph):
        return None
    session_id = next((each.session_id for each in reversed(observers) if each.session_id), None)

    def begin(run_id: object, workflow_key: object) -> list[ObservedRun]:
        return [observer.new_run(run_id, workflow_key) for observer in observers]

    try:
        return ObservedDag(dag, graph, kwargs.get("hooks"), begin, session_id)
    except Exception as error:  # noqa: BLE001 - hooks that cannot be copied, or not a graph
        warn_unknown("this run", error)
        return None
