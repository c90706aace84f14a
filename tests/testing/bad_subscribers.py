"""Subscribers with one defect each, which the conformance suite has to find."""

# ruff: noqa: ASYNC110, ASYNC230, ASYNC240, ASYNC251, D101, D102

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.lowlevel

from eventbus import (
    Event,
    EventBus,
    EventsLost,
    NodeCompleted,
    NodeEvent,
    Overflow,
    PatternDetected,
    SkillCompleted,
    SkillEvent,
    Subscriber,
    WorkflowEvent,
)
from eventbus.testing import Limits

LIMITS = Limits(step_seconds=0.05, call_seconds=0.3, stop_seconds=0.2)


class HandlesNothing(Subscriber[NodeEvent]):
    async def handel(self, event: NodeEvent) -> None: ...


class NeedsArguments(Subscriber[NodeEvent]):
    def __init__(self, address: str) -> None: ...

    async def handle(self, event: NodeEvent) -> None: ...


class HoldsNothing(Subscriber[NodeEvent]):
    capacity = 0

    async def handle(self, event: NodeEvent) -> None: ...


class CoalescesWithoutKey(Subscriber[NodeEvent]):
    overflow = Overflow.COALESCE

    async def handle(self, event: NodeEvent) -> None: ...


class BlocksInHandle(Subscriber[NodeCompleted]):
    async def handle(self, event: NodeCompleted) -> None:
        if event.node_id == "tests":
            time.sleep(0.1)


class ComputesInBatch(Subscriber[NodeEvent]):
    async def handle_batch(self, events: Sequence[NodeEvent]) -> None:
        until = time.perf_counter() + 0.1
        while len(events) > 1 and time.perf_counter() < until:
            pass


class BlocksInStart(Subscriber[NodeEvent]):
    async def start(self, bus: EventBus) -> None:
        time.sleep(0.1)

    async def handle(self, event: NodeEvent) -> None: ...


class WaitsForALock(Subscriber[NodeEvent]):
    """Blocks for ever, but for the test's sake only for as long as the suite waits."""

    async def handle(self, event: NodeEvent) -> None:
        threading.Event().wait(0.1)


class SwallowsCancellation(Subscriber[NodeEvent]):
    async def handle(self, event: NodeEvent) -> None:
        try:  # noqa: SIM105 - the defect
            await anyio.lowlevel.checkpoint()
        except BaseException:
            pass


class FailsWhenCancelled(Subscriber[NodeEvent]):
    async def handle(self, event: NodeEvent) -> None:
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException as error:
            raise RuntimeError("cleaning up failed") from error


class KeepsItsLock(Subscriber[NodeEvent]):
    """Cannot stop after a cancellation, as it still holds a lock."""

    def __init__(self) -> None:
        self.is_busy = False

    async def handle(self, event: NodeEvent) -> None:
        self.is_busy = True
        await anyio.lowlevel.checkpoint()
        self.is_busy = False

    async def stop(self) -> None:
        while self.is_busy:
            await anyio.sleep(0.01)


class KnowsAllClasses(Subscriber[Event]):
    async def handle(self, event: Event) -> None:
        assert type(event).__module__.startswith("eventbus.events"), "unknown class"


class ExpectsNodes(Subscriber[Event]):
    async def handle(self, event: Event) -> None:
        _ = event.workflow_id  # type: ignore[attr-defined]


class ExpectsDurations(Subscriber[NodeCompleted]):
    async def handle(self, event: NodeCompleted) -> None:
        round(event.duration_seconds)  # type: ignore[arg-type]


class ExpectsASession(Subscriber[SkillEvent]):
    async def handle(self, event: SkillEvent) -> None:
        assert event.session_id is not None


class ExpectsStarts(Subscriber[WorkflowEvent]):
    def __init__(self) -> None:
        self.runs: dict[str | None, int] = {}

    async def handle(self, event: WorkflowEvent) -> None:
        if type(event).__name__ == "WorkflowStarted":
            self.runs[event.run_id] = 0
        self.runs[event.run_id] += 1


class FailsOnLoss(Subscriber[NodeEvent | EventsLost]):
    async def handle(self, event: NodeEvent | EventsLost) -> None:
        assert not isinstance(event, EventsLost)


class MakesFileNames(Subscriber[SkillCompleted]):
    async def handle(self, event: SkillCompleted) -> None:
        Path("/tmp", event.skill_name[:300]).resolve(strict=False)
        event.skill_name.encode("ascii")


class StopHangs(Subscriber[NodeEvent]):
    async def handle(self, event: NodeEvent) -> None: ...

    async def stop(self) -> None:
        await anyio.sleep(60)


class HandleHangs(Subscriber[NodeEvent]):
    async def handle(self, event: NodeEvent) -> None:
        await anyio.sleep(60)


class StopNeedsEvents(Subscriber[NodeEvent]):
    last: NodeEvent

    async def handle(self, event: NodeEvent) -> None:
        self.last = event

    async def stop(self) -> None:
        _ = self.last.node_id


class StartFails(Subscriber[NodeEvent]):
    async def start(self, bus: EventBus) -> None:
        raise ConnectionError("nobody there")

    async def handle(self, event: NodeEvent) -> None: ...


class LeaksATask(Subscriber[NodeEvent]):
    async def start(self, bus: EventBus) -> None:
        # On trio this fails, which is a defect, too.
        self.task = asyncio.get_running_loop().create_task(asyncio.sleep(60))

    async def handle(self, event: NodeEvent) -> None: ...


class LeaksAThread(Subscriber[NodeEvent]):
    gate = threading.Event()

    async def start(self, bus: EventBus) -> None:
        threading.Thread(target=self.gate.wait, args=(5,), name="left-by-a-plugin", daemon=True).start()

    async def handle(self, event: NodeEvent) -> None: ...


_open: list[Any] = []


class LeaksAFile(Subscriber[NodeEvent]):
    async def start(self, bus: EventBus) -> None:
        _open.append(open(os.devnull))  # noqa: PTH123, SIM115 - the defect

    async def handle(self, event: NodeEvent) -> None: ...


class IsLeftToChance(Subscriber[NodeCompleted]):
    async def start(self, bus: EventBus) -> None:
        self.bus = bus

    async def handle(self, event: NodeCompleted) -> None:
        self.bus.publish(PatternDetected(pattern="chance", message=str(random.random())))


class SharesState(Subscriber[NodeCompleted]):
    seen: ClassVar[list[str]] = []

    async def start(self, bus: EventBus) -> None:
        self.bus = bus

    async def handle(self, event: NodeCompleted) -> None:
        self.seen.append(event.node_id)
        self.bus.publish(PatternDetected(pattern="count", message=str(len(self.seen))))


class OnlyAsyncio(Subscriber[NodeEvent]):
    async def handle(self, event: NodeEvent) -> None:
        await asyncio.sleep(0)


class Exits(Subscriber[NodeCompleted]):
    async def handle(self, event: NodeCompleted) -> None:
        if event.status == "failed":
            raise SystemExit(1)


class PublishesWithoutEnd(Subscriber[PatternDetected | NodeCompleted]):
    async def start(self, bus: EventBus) -> None:
        self.bus = bus

    async def handle(self, event: PatternDetected | NodeCompleted) -> None:
        self.bus.publish(PatternDetected(pattern="again", message="and again"))


class ChangesEvents(Subscriber[NodeEvent]):
    async def handle(self, event: NodeEvent) -> None:
        if event.metadata:
            event.metadata["seen"] = True


class ChangesTheDirectory(Subscriber[NodeEvent]):
    async def start(self, bus: EventBus) -> None:
        os.environ["CHANGED_BY_A_PLUGIN"] = os.environ.get("CHANGED_BY_A_PLUGIN", "") + "x"

    async def handle(self, event: NodeEvent) -> None: ...


BAD: dict[Callable[[], Subscriber[Any]], str] = {
    HandlesNothing: "overrides neither handle nor handle_batch",
    NeedsArguments: "missing 1 required positional argument: 'address'",  # type: ignore[dict-item]
    HoldsNothing: "capacity=0 holds nothing",
    CoalescesWithoutKey: "COALESCE needs key=",
    BlocksInHandle: "handle of a NodeCompleted blocks the loop",
    ComputesInBatch: "events blocks the loop",
    BlocksInStart: "start blocks the loop",
    WaitsForALock: "blocks the loop",
    SwallowsCancellation: "swallows its cancellation",
    FailsWhenCancelled: "raises RuntimeError: cleaning up failed",
    KeepsItsLock: "stop does not return within 0.2 s",
    KnowsAllClasses: "raises AssertionError: unknown class",
    ExpectsNodes: "raises AttributeError",
    ExpectsDurations: "raises TypeError",
    ExpectsASession: "raises AssertionError",
    ExpectsStarts: "raises KeyError",
    FailsOnLoss: "handle of a EventsLost raises AssertionError",
    MakesFileNames: "raises UnicodeEncodeError",
    StopHangs: "stop does not return within 0.2 s",
    HandleHangs: "does not return within 0.3 s",
    StopNeedsEvents: "stop raises AttributeError",
    StartFails: "start raises ConnectionError: nobody there",
    LeaksATask: "leaves a task running",
    LeaksAThread: "leaves the thread 'left-by-a-plugin' behind",
    LeaksAFile: "leaves 1 files or sockets open",
    IsLeftToChance: "publishes other events when the same events are replayed",
    SharesState: "publishes other events when the same events are replayed",
    OnlyAsyncio: "library written for some other framework like asyncio",
    Exits: "raises SystemExit: 1, which ends the program",
    PublishesWithoutEnd: "publishes without end",
    ChangesEvents: "changes the events that it gets",
    ChangesTheDirectory: "changes the environment of the process",
}
"""The bad subscribers, and a part of what has to be said about each."""
