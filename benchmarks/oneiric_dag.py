"""Cost of observing a real Oneiric workflow whose nodes do nothing.

Without a store a node takes about 50 us, nearly all of it in Oneiric. With the durable store, which
Oneiric's orchestrator and therefore crackerjack use, a node takes as long as two small transactions.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.rounds import Contest, Rounds, Samples, Scale
from eventbus import Event, EventBus, Subscriber
from eventbus.integrations.oneiric import observe_oneiric

__all__ = ["BARE", "CONTESTS", "DURABLE", "OBSERVED", "UNOBSERVED"]

BARE = "Oneiric DAG, 1,000 no-op nodes"
DURABLE = "Oneiric DAG with durable store, 100 no-op nodes"
UNOBSERVED = "unobserved"
OBSERVED = "observed, bus in its own thread"


class _NoopBatches(Subscriber[Event]):
    """A subscriber that discards batches."""

    async def handle_batch(self, events: Sequence[Event]) -> None:
        """Discard a batch."""


class _Task:
    async def run(self, payload: Any = None) -> None:
        """Do nothing."""


def _bridge(number: int, store: Any) -> Any:
    def attribute(module: str, name: str) -> Any:
        return getattr(importlib.import_module(f"oneiric.{module}"), name)

    attribute("core.logging", "configure_logging")(
        attribute("core.logging", "LoggingConfig")(level="WARNING")
    )
    candidate = attribute("core.resolution", "Candidate")
    resolver = attribute("core.resolution", "Resolver")()
    nodes = [{"id": f"node-{each}", "task": "nothing"} for each in range(number)]
    resolver.register(candidate(domain="task", key="nothing", provider="here", factory=_Task))
    resolver.register(
        candidate(
            domain="workflow", key="dag", provider="here", factory=object, metadata={"dag": {"nodes": nodes}}
        )
    )
    manager = attribute("core.lifecycle", "LifecycleManager")(resolver)
    settings = attribute("core.config", "LayerSettings")()
    tasks = attribute("domains.tasks", "TaskBridge")(resolver, manager, settings)
    return attribute("domains.workflows", "WorkflowBridge")(
        resolver, manager, settings, task_bridge=tasks, execution_store=store
    )


def _rounds(stack: AsyncExitStack, number: int, store: Any) -> Rounds:
    bridge = _bridge(number, store)
    bus = stack.enter_context(EventBus([_NoopBatches()]))

    def timed(observing: Callable[[], Any]) -> Callable[[], Any]:
        async def take() -> Samples:
            with observing():
                began = time.perf_counter_ns()
                await bridge.execute_dag("dag")
                return ((time.perf_counter_ns() - began) / number,)

        return take

    return {UNOBSERVED: timed(nullcontext), OBSERVED: timed(lambda: observe_oneiric(bus))}


async def _bare(stack: AsyncExitStack, scale: Scale) -> Rounds:
    return _rounds(stack, scale.events, None)


async def _durable(stack: AsyncExitStack, _: Scale) -> Rounds:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    durable = importlib.import_module("oneiric.runtime.durable")
    return _rounds(stack, 100, durable.WorkflowExecutionStore(directory / "store.sqlite"))


def _contests() -> list[Contest]:
    if importlib.util.find_spec("oneiric") is None:
        print(
            "SKIPPED: oneiric is not installed (it needs Python 3.13 or newer): make test-oneiric",
            file=sys.stderr,
        )
        return []
    return [Contest(BARE, "ns", _bare), Contest(DURABLE, "ns", _durable, rounds=10)]


CONTESTS = _contests()
