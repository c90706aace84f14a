"""How fast the persister stores events, beside writing the same lines with nothing in between."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale, elapsed
from benchmarks.silent import Events, to_the_end
from eventbus import Event, EventBus, NodeCompleted, encode_lines
from subscribers.json_persister import JsonPersister

__all__ = ["CONTESTS"]

_BATCH = 512


def _node_completed(number: int) -> Event:
    return NodeCompleted(
        session_id="0123456789ab",
        workflow_id="crackerjack",
        run_id="ba9876543210",
        node_id=f"node-{number % 10}",
        duration_seconds=number / 1_000,
    )


def _writes(path: Path, events: list[Event]) -> Round:
    async def take() -> Samples:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        began = time.perf_counter_ns()
        for first in range(0, len(events), _BATCH):
            os.write(file, encode_lines(events[first : first + _BATCH]))
        taken = elapsed(began, len(events))
        os.close(file)
        return taken

    return take


async def _store(stack: AsyncExitStack, scale: Scale) -> Rounds:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    listed = [_node_completed(number) for number in range(scale.events * 20)]
    events = Events(len(listed), lambda: listed)
    here = await stack.enter_async_context(EventBus([JsonPersister(directory / "here")]))
    there = stack.enter_context(EventBus([JsonPersister(directory / "there")]))
    return {
        f"encode_lines and os.write, {_BATCH} at a time": _writes(directory / "floor.jsonl", listed),
        "JsonPersister, the caller's loop": to_the_end(here.publish, events, here.drain),
        "JsonPersister, the bus's own thread": to_the_end(there.publish, events, there.drain),
    }


CONTESTS = [Contest("store events", "ns", _store, rounds=15)]
