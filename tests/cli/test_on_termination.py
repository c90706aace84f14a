"""Before a signal ends a process: what there is to say is said, and the signal does what it would."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys, time
from eventbus.cli.on_termination import last_words
before = signal.getsignal(signal.SIGTERM)
def say():
    print("said", flush=True)
    {then}
with last_words(say):
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
def test_the_words_are_said_and_the_signal_ends_the_process(tmp_path: Path, name: str) -> None:
    """The process ends by the signal itself, after what was to be said."""
    assert _run(tmp_path, name) == (-signal.Signals[name], "said\n", "")


def test_words_that_take_too_long_are_cut_short(tmp_path: Path) -> None:
    """A process that cannot finish speaking ends all the same."""
    assert _run(tmp_path, then="time.sleep(60)") == (-signal.SIGTERM, "said\n", "")


def test_a_signal_that_the_program_ignores_or_handles_is_its_own(tmp_path: Path) -> None:
    """A handler of the program's own replaces ours, as it would replace the default."""
    code, out, _ = _run(tmp_path, first="signal.signal(signal.SIGTERM, lambda *_: print('theirs'))")
    assert (code, out) == (0, "theirs\nnot ended\n")


def test_afterwards_the_handlers_are_as_they_were(tmp_path: Path) -> None:
    """Leaving the block puts back what was there."""
    assert _run(tmp_path, name="SIGUSR1", first="signal.signal(signal.SIGUSR1, signal.SIG_IGN)")[0] == 0
