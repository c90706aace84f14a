"""Cost of correlating a stored history: all sessions without an index, and one session with it.

Each entry runs in a new process, which gets the log's directory as an argument. It prints its duration,
without start-up and imports, and its peak memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale
from benchmarks.stored_log import EVENTS_A_SESSION, write_log

__all__ = ["CONTESTS"]

_SESSIONS, _FEW_SESSIONS = 50_000, 1_000

_BEFORE = """
import sys, time
from contextlib import suppress
from pathlib import Path
directory = Path(sys.argv[1])
segments = sorted((directory / "events").iterdir())
"""
# Not `ru_maxrss`: a process inherits it from its parent.
_AFTER = """
taken = time.perf_counter_ns() - began
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
peak = [line for line in lines if line.startswith("VmHWM")]
print(taken, int(peak[0].split()[1]) / 1024 if peak else "nan")
"""
_DECODE = """
import msgspec, operator
from functools import reduce
from eventbus import events
classes = [events.SkillStarted, events.SkillCompleted, events.WorkflowStarted, events.WorkflowCompleted,
           events.NodeStarted, events.NodeCompleted]
decoder = msgspec.json.Decoder(reduce(operator.or_, classes))
began = time.perf_counter_ns()
for segment in segments:
    with segment.open("rb") as file:
        file.readline()
        rest = b""
        while block := file.read(256 * 1024):
            end = block.rfind(b"\\n") + 1
            decoder.decode_lines(rest + block[:end])
            rest = block[end:]
"""
_CORRELATE = """
import eventbus.history.folded_log, eventbus.history.session_history
from eventbus import SkillsWorkflowCorrelator
with suppress(FileNotFoundError):
    (directory / "index.sqlite3").unlink()
began = time.perf_counter_ns()
SkillsWorkflowCorrelator(log=directory).generate_correlation_report()
"""
_INDEX = """
from eventbus.history import EventLog
from eventbus.history.session_history import SessionHistory
with suppress(FileNotFoundError):
    (directory / "index.sqlite3").unlink()
began = time.perf_counter_ns()
with SessionHistory(EventLog(directory)) as history:
    for _ in history.figures():
        pass
"""
# The rejected design: load all files into a list, then group the list by session.
_NAIVE = """
import json
began = time.perf_counter_ns()
events = [json.loads(line) for segment in segments for line in segment.open()]
by_session = {}
for event in events:
    by_session.setdefault(event["session_id"], []).append(event)
sessions = {}
for session_id, group in by_session.items():
    sessions[session_id] = {
        "start_time": min(event["timestamp"] for event in group),
        "end_time": max(event["timestamp"] for event in group),
        "nodes": sum(event["event_type"] == "node_completed" for event in group),
        "seconds": sum(event.get("duration_seconds") or 0 for event in group),
    }
"""
_ONE = """
from eventbus.history import EventLog
from eventbus.history.session_history import SessionHistory
from eventbus.correlation import correlation_report
with SessionHistory(EventLog(directory)) as history:
    name = history.names("8", 1)[0]
began = time.perf_counter_ns()
with SessionHistory(EventLog(directory)) as history:
    correlation_report({name: history.session(name)})
"""
_ONE_UNINDEXED = """
from eventbus.correlation import Correlation, correlation_report
from eventbus.history import EventLog
name = next(iter(EventLog(directory))).session_id
began = time.perf_counter_ns()
correlation = Correlation()
correlation.add_all(EventLog(directory).events(session_id=name))
correlation_report(correlation.sessions())
"""
_ALL = {
    "msgspec decodes typed events, a block at a time": _DECODE,
    "report of all sessions, no index": _CORRELATE,
    "figures of all sessions, building the index": _INDEX,
    "json.loads of everything": _NAIVE,
}


def _ran(directory: Path, program: str) -> tuple[float, float]:
    """Return how many nanoseconds a program took and its peak memory in megabytes."""
    command = [sys.executable, "-c", _BEFORE + program + _AFTER, str(directory)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    nanoseconds, megabytes = done.stdout.split()
    return float(nanoseconds), float(megabytes)


def _log(stack: AsyncExitStack, scale: Scale) -> tuple[Path, int]:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    sessions = _FEW_SESSIONS if scale.is_short else _SESSIONS
    return directory, write_log(directory, sessions)


async def _time(directory: Path, program: str, share: float) -> Samples:
    return (_ran(directory, program)[0] / share,)


async def _memory(directory: Path, program: str) -> Samples:
    return (_ran(directory, program)[1],)


async def _correlate(stack: AsyncExitStack, scale: Scale) -> Rounds:
    directory, events = _log(stack, scale)
    return {name: partial(_time, directory, program, events) for name, program in _ALL.items()}


async def _peak(stack: AsyncExitStack, scale: Scale) -> Rounds:
    directory, _ = _log(stack, scale)
    return {name: partial(_memory, directory, program) for name, program in _ALL.items()}


async def _one(stack: AsyncExitStack, scale: Scale) -> Rounds:
    directory, events = _log(stack, scale)
    _ran(directory, _INDEX)

    def through(program: str) -> Round:
        return partial(_time, directory, program, 1e6)

    return {
        "through the index": through(_ONE),
        "scan of the whole log": through(_ONE_UNINDEXED),
        f"json.loads of all {events // EVENTS_A_SESSION:,} sessions": through(_NAIVE),
    }


CONTESTS = [
    Contest("correlate stored events", "ns", _correlate, rounds=3),
    Contest("correlate stored events, peak memory", "MB", _peak, rounds=1),
    Contest("report on one stored session", "ms", _one, rounds=3),
]
