"""A callback runs before a signal ends the process, and the signal ends it as usual."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys, time
from eventbus.cli import on_termination as module
from eventbus.cli.on_termination import on_termination
module._TIMEOUT_SECONDS = 0.2
before = signal.getsignal(signal.SIGTERM)
def callback():
    print("called", flush=True)
    {then}
with on_termination(callback):
    {first}
    os.kill(os.getpid(), signal.{name})
    print("not ended", flush=True)
assert signal.getsignal(signal.SIGTERM) is before
"""


def _run(
    tmp_path: Path, name: str = "SIGTERM", first: str = "pass", then: str = "pass"
) -> tuple[int, str, str]:
    script = SCRIPT.format(name=name, first=first, then=then)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_the_callback_runs_and_the_signal_ends_the_process(tmp_path: Path, name: str) -> None:
    """The callback runs first; then the process ends by the signal itself."""
    assert _run(tmp_path, name) == (-signal.Signals[name], "called\n", "")


def test_a_callback_that_hangs_is_abandoned(tmp_path: Path) -> None:
    """A process whose callback does not return ends all the same."""
    assert _run(tmp_path, then="time.sleep(60)") == (-signal.SIGTERM, "called\n", "")


def test_a_handler_of_the_program_replaces_ours(tmp_path: Path) -> None:
    """A program that handles the signal itself is not ended, and no callback runs."""
    code, out, _ = _run(tmp_path, first="signal.signal(signal.SIGTERM, lambda *_: print('theirs'))")
    assert (code, out) == (0, "theirs\nnot ended\n")


def test_the_previous_handlers_are_restored(tmp_path: Path) -> None:
    """After the block the signal has the handler that it had before."""
    assert _run(tmp_path, name="SIGUSR1", first="signal.signal(signal.SIGUSR1, signal.SIG_IGN)")[0] == 0
