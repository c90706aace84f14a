"""``eventbus hook``: set up the hooks of an agent. What they run is in `agent_hook`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Callable
from difflib import unified_diff
from functools import partial
from pathlib import Path
from typing import Annotated

from eventbus.cli.agent_hook import run_hook
from eventbus.cli.arguments import Option
from eventbus.cli.exit_codes import OK, PROBLEMS, USAGE, CommandError
from eventbus.cli.hook_settings import SettingsTextError, hooks_of, with_hooks, without_hooks
from eventbus.ground.atomic_file import write_atomically
from eventbus.integrations.claude_code import HOOK_EVENTS

__all__ = ["claude_code"]

_COMMAND = "eventbus hook claude-code"


def claude_code(
    install: Annotated[
        bool, Option("--install", help="Add the hooks to .claude/settings.json, and show the change.")
    ] = False,
    uninstall: Annotated[
        bool, Option("--uninstall", help="Take them out, and leave all else as it is.")
    ] = False,
    print_: Annotated[
        bool, Option("--print", help="Print the hooks, to be pasted into some settings.")
    ] = False,
    user: Annotated[
        bool,
        Option("--user", help="In the user's settings, for all projects; by default in this one's."),
    ] = False,
) -> int:
    """Record the skills that Claude Code uses.

    Without an option this is what the hooks run: it reads one JSON object and appends events to the log.
    """
    if install + uninstall + print_ > 1:
        raise CommandError("--install, --uninstall and --print exclude each other", "give one of them", USAGE)
    if print_:
        print(json.dumps(hooks_of(HOOK_EVENTS, _command()), indent=2))
        return OK
    if install or uninstall:
        change = partial(with_hooks, events=HOOK_EVENTS, command=_command()) if install else without_hooks
        return _change(_settings_file(user), change)
    if user:
        raise CommandError("--user needs --install or --uninstall", "give one of them", USAGE)
    return run_hook()


def _settings_file(user: bool) -> Path:
    if not user:
        return Path(".claude", "settings.json").absolute()
    directory = os.environ.get("CLAUDE_CONFIG_DIR")
    return (
        Path(directory).expanduser() / "settings.json" if directory else Path.home() / ".claude/settings.json"
    )


def _change(path: Path, change: Callable[[str], str]) -> int:
    """Change a settings file, and show how."""
    try:
        before = _read(path)
        bom = before[: before.startswith("\ufeff")]
        after = bom + change(before.removeprefix(bom))
        if after != before:
            _write(path, after)
    except SettingsTextError as error:
        raise CommandError(
            f"{path} was left as it is: {error}", "correct it, and try again", PROBLEMS
        ) from error
    except OSError as error:
        cause = error.strerror or error
        raise CommandError(f"{path} was left as it is: {cause}", "check its permissions", PROBLEMS) from error
    print(f"{path}: {'changed' if after != before else 'nothing to change'}")
    lines = unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="")
    for line in lines:
        print(line)
    return OK


def _read(path: Path) -> str:
    """Return the text of a settings file, which may begin with a BOM; empty if there is none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SettingsTextError("it is not a regular file")
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise SettingsTextError("it is not UTF-8") from error


def _write(path: Path, text: str) -> None:
    """Replace a settings file whole, with the mode that it has or that a new file would have."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0o077)
        os.umask(mask)
        mode = 0o666 & ~mask
    write_atomically(path, text.encode())
    path.chmod(mode)


def _command() -> str:
    """Return what the hooks run: the program by its name where the agent finds it, otherwise by its path."""
    program = Path(sys.executable).with_name("eventbus")
    found = shutil.which("eventbus")
    if found is not None and os.path.realpath(found) == os.path.realpath(program):
        return _COMMAND
    if program.exists():
        return f"{shlex.quote(str(program))} hook claude-code"
    # -P: not a file `eventbus.py` of the project that the agent works in.
    return f"{shlex.quote(sys.executable)} -P -m {_COMMAND}"
