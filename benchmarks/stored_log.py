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

__all__ = ["EVENTS_A_SESSION", "write_log", "write_small_segments"]

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
    directory.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700)
    dice = random.Random(7)
    path, size, seq = folder, _SEGMENT_BYTES, 0
    for number in range(sessions):
        began = _BEGAN + timedelta(minutes=number)
        lines: list[bytes] = []
        if size >= _SEGMENT_BYTES:
            path, size = folder / f"{began:%Y%m%dT%H%M%S.%fZ}-1-abcdef012345.jsonl", 0
            lines.append(_header(began, seq + 1))
        for event in _session(dice, began, f"{dice.getrandbits(48):012x}"):
            seq += 1
            lines.append(b'{"seq":%d,%b\n' % (seq, encode(event)[1:]))
        with path.open("ab") as file:
            size += file.write(b"".join(lines))
    return seq


def write_small_segments(directory: Path, segments: int) -> int:
    """Write segments of a session of 100 events and a bus each, 65 minutes apart; return how many events."""
    folder = directory / "events"
    directory.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700)
    dice = random.Random(7)
    for number in range(segments):
        began, bus_id = _BEGAN + timedelta(minutes=65 * number), f"{dice.getrandbits(48):012x}"
        session_id = f"{dice.getrandbits(48):012x}"
        events = [
            event
            for part in range(5)
            for event in _session(dice, began + timedelta(minutes=part), session_id)
        ]
        lines = [b'{"seq":%d,%b\n' % (seq, encode(event)[1:]) for seq, event in enumerate(events, 1)]
        path = folder / f"{began:%Y%m%dT%H%M%S.%fZ}-{number + 1}-{bus_id}.jsonl"
        path.write_bytes(_header(began, 1, bus_id, number + 1) + b"".join(lines))
        path.chmod(0o600)
    return segments * 5 * EVENTS_A_SESSION


def _session(dice: random.Random, began: datetime, session_id: str) -> Iterator[Event]:
    """Yield the events of a skill with a run in it."""
    run_id, invocation_id = (f"{dice.getrandbits(48):012x}" for _ in range(2))
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


def _header(start: datetime, first_seq: int, bus_id: str = "abcdef012345", pid: int = 1) -> bytes:
    header: dict[str, Any] = {
        "event_type": "segment_started",
        "session_id": None,
        "timestamp": start,
        "metadata": {},
        "schema_version": 1,
        "bus_id": bus_id,
        "pid": pid,
        "first_seq": first_seq,
        "utc_offset_seconds": 0,
    }
    return msgspec.json.encode(header) + b"\n"
