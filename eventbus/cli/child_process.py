"""Run one child process as a shell would: its standard streams ours, its signals passed on.

All signals are blocked here and waited for, in one place, with the end of the child: a handler
would run between any two instructions, and Python's own tells nothing of where a signal came from.
That matters for Ctrl-C: the terminal sends it to the child, too, which must not get it twice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from eventbus.cli.exit_codes import USAGE, CommandError

__all__ = ["signals_waited_for", "start_child", "wait_for_child"]

_FROM_THE_KERNEL = 0x80  # SI_KERNEL: from the terminal, that is, not from a process
_NOT_EXECUTABLE = 126
_NO_SUCH_COMMAND = 127
_PASSED_ON = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")
# What Python ignores, and a child would inherit as ignored.
_TO_DEFAULT = ("SIGPIPE", "SIGXFSZ", "SIGXFZ")


@contextmanager
def signals_waited_for() -> Generator[set[int]]:
    """Have the signals wait that are passed on, in this thread and those it starts.

    Yields:
        Their numbers, and that of SIGCHLD.

    Raises:
        CommandError: This operating system cannot do it.
    """
    if not hasattr(os, "posix_spawnp") or not hasattr(signal, "pthread_sigmask"):
        raise CommandError("running a command needs a POSIX system", "run it by itself", USAGE)
    waited_for = {*_numbers(_PASSED_ON), int(signal.SIGCHLD)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    try:
        yield waited_for
    finally:
        # What came after the child's end was meant for the child.
        while signal.sigpending() & waited_for:
            signal.sigwait(signal.sigpending() & waited_for)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_child(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Start a command; return its process id.

    Args:
        command: Its name or path, and its arguments.
        environment: Its whole environment.

    Raises:
        CommandError: It cannot be started; 127 when there is none of that name, 126 otherwise.
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


def wait_for_child(pid: int, waited_for: set[int]) -> int:
    """Wait for a child's end, passing signals on; return its exit code, or minus the signal's number.

    Args:
        pid: Its process id.
        waited_for: What `signals_waited_for` yielded.
    """
    while True:
        number, is_the_childs_already = _next_signal(waited_for)
        if number == signal.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        elif not is_the_childs_already:
            os.kill(pid, number)  # not reaped yet: the id is still its own


def _next_signal(waited_for: set[int]) -> tuple[int, bool]:
    """Wait for a signal; answer its number, and whether the terminal sent it to the child as well."""
    if hasattr(signal, "sigwaitinfo"):
        information = signal.sigwaitinfo(waited_for)
        return information.si_signo, information.si_code == _FROM_THE_KERNEL
    number = signal.sigwait(waited_for)
    return number, number in (signal.SIGINT, signal.SIGQUIT) and _is_in_foreground()


def _is_in_foreground() -> bool:
    try:
        with Path("/dev/tty").open("rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _numbers(names: Sequence[str]) -> list[int]:
    return [int(number) for name in names if (number := getattr(signal, name, None)) is not None]
