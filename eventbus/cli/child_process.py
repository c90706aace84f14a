"""Run one child process as a shell would: it inherits the standard streams and is sent our signals.

Signals are blocked and waited for, together with the end of the child. Handlers were rejected: they
do not learn where a signal comes from, and the terminal sends Ctrl-C to the child as well, which must
not receive it twice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from eventbus.cli.exit_codes import USAGE, CommandError

__all__ = ["blocked_signals", "start_child", "wait_for_child"]

_FROM_THE_KERNEL = 0x80  # SI_KERNEL: sent by the terminal, not by a process
_NOT_EXECUTABLE = 126
_NO_SUCH_COMMAND = 127
_PASSED_ON = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")
# Python ignores these, and a child would inherit that.
_TO_DEFAULT = ("SIGPIPE", "SIGXFSZ", "SIGXFZ")


@contextmanager
def blocked_signals() -> Generator[set[int]]:
    """Block the signals to pass on, in this thread and in those that it starts.

    Yields:
        Their numbers, and the number of SIGCHLD.

    Raises:
        CommandError: The operating system is not POSIX.
    """
    if not hasattr(os, "posix_spawnp") or not hasattr(signal, "pthread_sigmask"):
        raise CommandError("running a command needs a POSIX system", "run it without eventbus", USAGE)
    signals = {*_numbers(_PASSED_ON), int(signal.SIGCHLD)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield signals
    finally:
        # Signals that arrived after the child's end were meant for the child.
        while signal.sigpending() & signals:
            signal.sigwait(signal.sigpending() & signals)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_child(command: Sequence[str], environment: Mapping[str, str | bytes]) -> int:
    """Start a command; return its process id.

    Args:
        command: Its name or path, and its arguments.
        environment: Its whole environment.

    Raises:
        CommandError: The command cannot be started; exit code 127 if it does not exist, 126 otherwise.
    """
    try:
        return os.posix_spawnp(
            command[0], list(command), environment, setsigmask=[], setsigdef=_numbers(_TO_DEFAULT)
        )
    except FileNotFoundError as error:
        raise CommandError(
            f"there is no command {command[0]}", "check its spelling, or give its path", _NO_SUCH_COMMAND
        ) from error
    except (OSError, ValueError) as error:
        raise CommandError(
            f"{command[0]} cannot be run: {error}", "make it executable", _NOT_EXECUTABLE
        ) from error


def wait_for_child(pid: int, signals: set[int]) -> int:
    """Wait for a child to end, passing signals on; return its exit code, or minus the signal's number.

    Args:
        pid: Its process id.
        signals: The numbers that `blocked_signals` yielded.
    """
    while True:
        number, child_has_it = _next_signal(signals)
        if number == signal.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        elif not child_has_it:
            os.kill(pid, number)  # not reaped yet: the id still names the child


def _next_signal(signals: set[int]) -> tuple[int, bool]:
    """Wait for a signal; return its number, and whether the terminal sent it to the child as well."""
    if hasattr(signal, "sigwaitinfo"):
        information = signal.sigwaitinfo(signals)
        return information.si_signo, information.si_code == _FROM_THE_KERNEL
    number = signal.sigwait(signals)
    return number, number in (signal.SIGINT, signal.SIGQUIT) and _is_in_foreground()


def _is_in_foreground() -> bool:
    try:
        with Path("/dev/tty").open("rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _numbers(names: Sequence[str]) -> list[int]:
    return [int(number) for name in names if (number := getattr(signal, name, None)) is not None]
