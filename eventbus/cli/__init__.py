"""The command line: parse, do, print. Results go to stdout, progress and notes to stderr."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import FrameType

from eventbus.cli.exit_codes import USAGE, CommandError, error_line
from eventbus.errors import PluginError

__all__ = ["main"]

_PIPE_BROKEN = 141  # what shells report of any program whose reader has left


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program ``eventbus``.

    Args:
        arguments: What follows the program's name; by default the process's own.

    Returns:
        The exit code: 0 ok, 1 problems found, 2 usage, 3 not found, 130 interrupted, 143 terminated.
    """
    with _termination_as_interrupt() as signals:
        try:
            code = _run(sys.argv[1:] if arguments is None else list(arguments))
            sys.stdout.flush()
        except CommandError as error:
            print(error.line, file=sys.stderr)
            return error.exit_code
        except PluginError as error:
            print(error_line(error.problem, error.hint), file=sys.stderr)
            return USAGE
        except KeyboardInterrupt:
            return 128 + (signals[0] if signals else signal.SIGINT)
        except BrokenPipeError:
            _discard_output()
            return _PIPE_BROKEN
        return code


def _run(arguments: list[str]) -> int:
    try:
        from eventbus.cli.app import parse  # noqa: PLC0415 - typer is an extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich", "click"):
            raise
        raise CommandError(
            f"the command line needs {error.name}, which is not installed",
            "install it with: pip install 'eventbus[cli]'",
            USAGE,
        ) from error
    return parse(arguments)()


@contextmanager
def _termination_as_interrupt() -> Generator[list[int]]:
    """Have SIGTERM end the program as Ctrl-C does, with all books closed; yield those that came."""
    came: list[int] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        # Whoever handles Ctrl-C now: while a loop runs, its way is to cancel the main task.
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: signals are not ours
        yield came
        return
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def _discard_output() -> None:
    """Have what is still buffered go nowhere: the interpreter flushes at its exit, and would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
