"""The program: how long a command takes to start, and what each costs over a log of thousands of segments."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from benchmarks.rounds import Contest, Round, Rounds, Samples, Scale, Timing
from benchmarks.stored_log import write_small_segments
from eventbus.history import EventLog

__all__ = ["COMMANDS", "CONTESTS", "LARGEST", "NAMES", "NOTHING", "SESSIONS", "VERSION"]

NOTHING, NAMES = "python -c pass", "from eventbus import *"
VERSION, SESSIONS = "eventbus --version", "eventbus sessions, 1 session"
LARGEST = "the largest of all commands"
COMMANDS = (
    "report, first time",
    "report",
    "sessions",
    "sessions --limit 0",
    "stats",
    "doctor",
    "show SESSION",
    "export",
    "export SESSION",
    "cat",
    "cat --session SESSION",
    "cat --format csv",
)
"""The measured commands. Only the first has no index yet."""

_SEGMENTS, _FEW_SEGMENTS = 2_000, 20
# Bytecode is kept, as after an installation: the first, untimed round compiles it.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path))
}
# Not `ru_maxrss`: a process inherits it from its parent.
_WITH_PEAK = """
import sys
from eventbus.cli import main
main(sys.argv[1:])
lines = open("/proc/self/status").read().splitlines()
print(*(line.split()[1] for line in lines if line.startswith("VmHWM")), file=sys.stderr)
"""


def _process(*words: str) -> Round:
    """Time a process from its start to its end, in milliseconds."""

    async def take() -> Samples:
        return (_run(words),)

    return take


def _run(words: Sequence[str]) -> Timing:
    command = [sys.executable, *words]
    began = time.perf_counter()
    with subprocess.Popen(command, env=_ENVIRONMENT, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    return Timing((time.perf_counter() - began) * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3)


async def _starts(stack: AsyncExitStack, _scale: Scale) -> Rounds:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    write_small_segments(directory, 1)
    return {
        NOTHING: _process("-c", "pass"),
        NAMES: _process("-c", NAMES),
        VERSION: _process("-m", "eventbus", "--version"),
        SESSIONS: _process("-m", "eventbus", "sessions", "--dir", str(directory)),
    }


def _many_segments(stack: AsyncExitStack, scale: Scale) -> dict[str, list[str]]:
    """Write the log; return the words of each command."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    write_small_segments(directory, _FEW_SEGMENTS if scale.is_short else _SEGMENTS)
    session = str(next(EventLog(directory).events()).session_id)
    return {
        name: [*name.partition(",")[0].replace("SESSION", session).split(), "--dir", str(directory)]
        for name in COMMANDS
    }


async def _times(stack: AsyncExitStack, scale: Scale) -> Rounds:
    commands = _many_segments(stack, scale)
    rounds = {name: _process("-m", "eventbus", *words) for name, words in commands.items()}
    first, directory = rounds[COMMANDS[0]], Path(commands["cat"][-1])

    async def without_index() -> Samples:
        with suppress(FileNotFoundError):
            (directory / "index.sqlite3").unlink()
        return await first()

    return rounds | {COMMANDS[0]: without_index}


async def _peaks(stack: AsyncExitStack, scale: Scale) -> Rounds:
    commands = _many_segments(stack, scale)

    def peak(words: list[str]) -> float:
        done = subprocess.run(
            [sys.executable, "-c", _WITH_PEAK, *words],
            env=_ENVIRONMENT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        return int(done.stderr) / 1024

    async def largest() -> Samples:
        return (max(map(peak, commands.values())),)

    return {LARGEST: largest}


CONTESTS = [
    Contest("start of a command", "ms", _starts, rounds=15),
    Contest("commands over many segments", "ms", _times, rounds=3),
    Contest("commands over many segments, peak memory", "MB", _peaks, rounds=1),
]
