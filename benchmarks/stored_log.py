"""A log to measure on: skills, and the runs of a workflow within them, as a persister stores them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from eventbus import (
    Event,
    NodeCompleted,
    NodeStarted,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
    encode,
)

__all__ = ["EVENTS_A_SESSION", "write_log"]

EVENTS_A_SESSION = 20
_BEGAN = datetime(2026, 1, 5, 9, tzinfo=UTC)
_NODES = (
    "config_cleanup",
    "configuration",
    "fast_hooks",
    "cleaning",
    "tests",
    "comprehensive",
    "publishing",
    "commit",
)
_SEGMENT_BYTES = 16 * 1024 * 1024


def write_log(directory: Path, sessions: int) -> int:
    """Write the segments of so many sessions; return how many events there are."""
    folder = directory / "events"
    folder.mkdir(mode=0o700, parents=True)
    dice = random.Random(7)
    path, size, seq = folder, _SEGMENT_BYTES, 0
    for number in range(sessions):
        began = _BEGAN + timedelta(minutes=number)
        lines: list[bytes] = []
        if size >= _SEGMENT_BYTES:
            path, size = folder / f"{began:%Y%m%dT%H%M%S.%fZ}-1-abcdef012345.jsonl", 0
            lines.append(_header(began, seq + 1))
        for event in _session(dice, began):
            seq += 1
            lines.append(b'{"seq":%d,%b\n' % (seq, encode(event)[1:]))
        with path.open("ab") as file:
            size += file.write(b"".join(lines))
    return seq


def _session(dice: random.Random, began: datetime) -> Iterator[Event]:
    session_id, run_id, invocation_id = (f"{dice.getrandbits(48):012x}" for _ in range(3))
    skill: dict[str, Any] = {
        "session_id": session_id,
        "skill_name": "crackerjack-run",
        "invocation_id": invocation_id,
        "workflow_path": "comprehensive",
    }
    run: dict[str, Any] = {"session_id": session_id, "workflow_id": "crackerjack", "run_id": run_id}
    now = began
    yield SkillStarted(**skill, timestamp=now)
    yield WorkflowStarted(**run, timestamp=now, nodes=_NODES)
    for node_id in _NODES:
        yield NodeStarted(**run, node_id=node_id, timestamp=now)
        seconds = dice.random() * 5
        now += timedelta(seconds=seconds)
        failed = dice.random() < 0.05
        yield NodeCompleted(
            **run,
            node_id=node_id,
            timestamp=now,
            status="failed" if failed else "ok",
            success=not failed,
            duration_seconds=seconds,
            error_type="AssertionError" if failed else None,
        )
    took = (now - began).total_seconds()
    yield WorkflowCompleted(**run, timestamp=now, duration_seconds=took)
    yield SkillCompleted(**skill, timestamp=now, duration_seconds=took, follow_up_actions=("git commit",))


def _header(start: datetime, first_seq: int) -> bytes:
    header: dict[str, Any] = {
        "event_type": "segment_started",
        "session_id": None,
        "timestamp": start,
        "metadata": {},
        "schema_version": 1,
        "bus_id": "abcdef012345",
        "pid": 1,
        "first_seq": first_seq,
        "utc_offset_seconds": 0,
    }
    return msgspec.json.encode(header) + b"\n"
