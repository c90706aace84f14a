"""The command line: parse, do, print. Results go to stdout, progress and notes to stderr."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from eventbus import __version__
from eventbus.cli.exit_codes import OK, PROBLEMS, USAGE, CommandError, defect, error_line
from eventbus.cli.standard_streams import make_streams_sound, settle_streams
from eventbus.errors import PluginError, RemoteError, SettingsError

__all__ = ["main"]

_BROKEN_PIPE = 141
"""128 + SIGPIPE: the exit code that shells report for a program whose reader has left."""

_HOOK = ["hook", "claude-code"]
"""It runs at each step of an agent: without the other commands, and with an exit code of its own."""


_COMPLETION = ["completion", "words"]
"""A shell runs it at each press of the tab key: without the other commands, and it never fails."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program ``eventbus``.

    Args:
        arguments: The words after the program's name; by default the process's own.

    Returns:
        The exit code: 0 ok, 1 problems found, 2 usage, 3 not found, 4 damaged data, 130 interrupted,
        141 broken pipe, 143 terminated.
    """
    make_streams_sound()
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:2] == _COMPLETION:
        code = _complete(words[2:])
    else:
        code = _run_hook() if words == _HOOK else _ended(words)
    settle_streams()
    return code


def _complete(words: Sequence[str]) -> int:
    from eventbus.cli.completion_words import print_words  # noqa: PLC0415 - `--version` does without it

    return print_words(words)


def _run_hook() -> int:
    from eventbus.cli.agent_hook import run_hook  # noqa: PLC0415 - `--version` does without it

    return run_hook()


def _ended(arguments: Sequence[str]) -> int:
    """Run a command, and turn whatever ends it into its exit code and one line."""
    with _sigterm_as_interrupt() as received:
        try:
            code = _run(arguments)
            if not sys.stdout.closed:  # the servers of mcp 1 close it
                sys.stdout.flush()
        except CommandError as error:
            return _fail(error.problem, error.hint, error.exit_code)
        except (PluginError, SettingsError) as error:
            return _fail(error.problem, error.hint, USAGE)
        except RemoteError as error:
            return _fail(error.problem, error.hint, PROBLEMS)
        except KeyboardInterrupt:
            return 128 + (received[0] if received else signal.SIGINT)
        except BrokenPipeError:
            return _BROKEN_PIPE
        except OSError as error:  # of the output, too: a full disk, a closed descriptor
            code = _fail(str(error), _remedy(error), PROBLEMS)
        except Exception as error:  # noqa: BLE001 - a defect, of ours or of a plugin
            code = _fail(defect(error), "please report this line", PROBLEMS)
        return code


def _run(arguments: Sequence[str]) -> int:
    if list(arguments) == ["--version"]:  # shells and editors ask for it: without the rest of the program
        print(f"eventbus {__version__}")
        return OK
    # `--version` does without these.
    from eventbus.cli.app import run  # noqa: PLC0415
    from eventbus.cli.extras import from_extra  # noqa: PLC0415

    with from_extra("cli", "rich", wanted_by="a coloured screen"):
        return run(arguments)


def _remedy(error: OSError) -> str:
    """Return what to do about an error of the system that no command has turned into its own."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space, and try again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "check the permissions"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the number of files that may be open: ulimit -n"
    return "check the file that it names, or where the output goes"


def _fail(problem: str, hint: str, exit_code: int) -> int:
    with suppress(OSError):  # the exit code says it, too
        print(error_line(problem, hint), file=sys.stderr)
    return exit_code


@contextmanager
def _sigterm_as_interrupt() -> Generator[list[int]]:
    """Make SIGTERM end the program as Ctrl-C does, so that subscribers drain; yield the signals received."""
    received: list[int] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        # The handler of this moment: while an event loop runs, Ctrl-C cancels its main task.
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # only the main thread may handle signals
        yield received
        return
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)
