"""Time per event to store, against writing the same lines directly.

The floor only encodes and writes: it does not check for unencodable or oversized events, for secrets or
for a missing file, it adds no numbers, and it does not sync. The persister alone does not sync either.
It includes the hop to its thread, but no bus: it gets batches of the size that a bus delivers. The entries
with a bus include everything from `publish` to the file, and sync every second.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio.lowlevel
import msgspec
from eventbus_subscribers.json_persister import JsonPersister

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale, elapsed, now
from benchmarks.workload import Events, timed_calls, until_handled
from eventbus import Event, EventBus, NodeCompleted, NodeProgress, SkillStarted

__all__ = ["CONTESTS"]

_BATCH = 512
_FLOOR = f"encode_lines and os.write, {_BATCH} at a time"


def _node_completed(number: int) -> Event:
    return NodeCompleted(
        session_id="0123456789ab",
        workflow_id="crackerjack",
        run_id="ba9876543210",
        node_id=f"node-{number % 10}",
        duration_seconds=number / 1_000,
    )


def _skill_started(number: int) -> Event:
    return SkillStarted(
        session_id="0123456789ab", skill_name="run", invocation_id=f"{number:012x}", workflow_path="quick"
    )


def _writes(path: Path, events: list[Event]) -> Round:
    encode_lines = msgspec.json.Encoder().encode_lines

    async def take() -> Samples:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        began = now()
        for first in range(0, len(events), _BATCH):
            os.write(file, encode_lines(events[first : first + _BATCH]))
        taken = elapsed(began, len(events))
        os.close(file)
        return taken

    return take


def _direct(persister: JsonPersister, events: list[Event]) -> Round:
    async def take() -> Samples:
        began = now()
        for first in range(0, len(events), persister.max_batch):
            await persister.handle_batch(events[first : first + persister.max_batch])
        return elapsed(began, len(events))

    return take


async def _store(stack: AsyncExitStack, scale: Scale) -> Rounds:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    listed = [_node_completed(number) for number in range(scale.events * 20)]
    skills = [_skill_started(number) for number in range(len(listed))]
    events = Events(len(listed), lambda: listed)
    alone = JsonPersister(directory / "alone", sync="never")
    await alone.start(cast("EventBus", SimpleNamespace(id="0123456789ab")))
    stack.push_async_callback(alone.stop)
    here = await stack.enter_async_context(EventBus([JsonPersister(directory / "here")]))
    there = stack.enter_context(EventBus([JsonPersister(directory / "there")]))
    return {
        _FLOOR: _writes(directory / "floor.jsonl", listed),
        "JsonPersister alone": _direct(alone, listed),
        "JsonPersister alone, skills with an id each": _direct(alone, skills),
        "JsonPersister on a bus in the caller's loop": until_handled(here.publish, events, here.drain),
        "JsonPersister on a bus in its own thread": until_handled(there.publish, events, there.drain),
    }


_LOG_LINE = (
    "INFO 2026-11-26 10:11:12,345 worker 7: compiled module_x in 0.31 s; wrote build/lib/x.py and "
    "tests/test_x.py passed, 3 of 9 done\n"
)


def _with_text(length: int) -> Callable[[int], Event]:
    text = (_LOG_LINE * (length // len(_LOG_LINE) + 1))[:length]
    return lambda number: NodeProgress(
        session_id="0123456789ab", workflow_id="ci", node_id="tests", message=f"{number} {text}"[:length]
    )


def _with_numbers(number: int) -> Event:
    return NodeProgress(
        session_id="0123456789ab", workflow_id="ci", node_id="tests", metadata={"done": number, "of": 9.5}
    )


async def _store_new(
    stack: AsyncExitStack, scale: Scale, *, build: Callable[[int], Event], share: int
) -> Rounds:
    """Store events of which each holds something that was never stored before.

    Of short ones as many a round as of known names: a hop to a thread that finds nothing in the cache
    costs 0.3 ms, which would be a sixth of storing 1,000 events.
    """
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    alone = JsonPersister(directory / "alone", sync="never")
    await alone.start(cast("EventBus", SimpleNamespace(id="0123456789ab")))
    stack.push_async_callback(alone.stop)
    numbers = count()
    events = max(64, scale.events * 20 // share)

    def fresh(round_of: Callable[[list[Event]], Round]) -> Round:
        async def take() -> Samples:
            return await round_of([build(next(numbers)) for _ in range(events)])()

        return take

    return {
        _FLOOR: fresh(partial(_writes, directory / "floor.jsonl")),
        "JsonPersister alone": fresh(partial(_direct, alone)),
    }


class _HungPersister(JsonPersister):
    """A persister whose writes block until `released` is set."""

    def __init__(self, released: threading.Event, **options: Any) -> None:
        super().__init__(**options)
        self._released = released

    def _write_batch(self, events: Sequence[Event]) -> None:
        del events
        self._released.wait()


async def _with_hung_disk(stack: AsyncExitStack, scale: Scale) -> Rounds:
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    released = threading.Event()
    healthy = stack.enter_context(EventBus([JsonPersister(directory)], history=0))
    hung = stack.enter_context(EventBus([_HungPersister(released, directory=directory)], history=0))
    stack.callback(hung.close, 0.1)
    stack.callback(released.set)
    listed = [_node_completed(number) for number in range(scale.events)]
    events = Events(len(listed), lambda: listed)
    return {
        "healthy disk": timed_calls(healthy.publish, events, healthy.drain),
        "hung disk": timed_calls(hung.publish, events, partial(_until_distributed, hung)),
    }


async def _until_distributed(bus: EventBus) -> None:
    bus.statistics()
    await anyio.lowlevel.checkpoint()


CONTESTS = [
    Contest("store events", "ns", _store, rounds=15),
    Contest(
        "store new texts of 120 characters",
        "ns",
        partial(_store_new, build=_with_text(120), share=1),
        rounds=30,
    ),
    Contest("store new texts of 16 kB", "ns", partial(_store_new, build=_with_text(16_000), share=400)),
    Contest("store metadata of numbers", "ns", partial(_store_new, build=_with_numbers, share=1), rounds=30),
    Contest("publish to a log", "ns", _with_hung_disk),
]
