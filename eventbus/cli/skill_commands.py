"""``eventbus skill``: track a skill from a shell, a Makefile or a markdown guide.

Each command is a process of its own; what they share is the log.
"""

from __future__ import annotations

import os
import signal
from argparse import PARSER
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from eventbus.cli.arguments import Argument, Option
from eventbus.cli.child_process import blocked_signals, start_child, wait_for_child
from eventbus.cli.exit_codes import NOT_FOUND, OK, PROBLEMS, USAGE, CommandError
from eventbus.cli.gitignore import create_ignored_directory
from eventbus.cli.humanize import duration
from eventbus.cli.notes import note
from eventbus.cli.options import AsJson, LogDirectory, SessionId, settings_with
from eventbus.detached_skills.appending import Appender, appending
from eventbus.detached_skills.skill_uses import SkillUse, completion, new_start
from eventbus.detached_skills.skills import DetachedSkills, session_of_terminal, tag_of_invocation
from eventbus.events import Event, SkillCompleted, SkillStarted
from eventbus.events.json_safe import safe_text
from eventbus.events.printable import printable
from eventbus.ground.session_names import name_to_bytes, spell
from eventbus.history.skill_segments import SkillSegments
from eventbus.session import SESSION_VARIABLE, current_session_id, new_id, session_scope
from eventbus.settings import Settings

__all__ = ["abandon", "complete", "follow_up", "list_open", "run", "start"]

_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_Name = Annotated[str, Argument(metavar="NAME", help="The skill's name.")]
_Path = Annotated[str | None, Option("--path", metavar="PATH", help="The path chosen through the skill.")]
_Id = Annotated[str, Argument(metavar="ID", help="The id that start printed, or one that list shows.")]
_FollowUps = Annotated[
    list[str] | None,
    Option(
        "--follow-up",
        action="append",
        metavar="ACTION",
        help="An action that was taken next; may be repeated.",
    ),
]


def start(
    name: _Name, path: _Path = None, session_id: SessionId = None, directory: LogDirectory = None
) -> int:
    """Begin a skill; print the id of this use of it.

    The session is EVENTBUS_SESSION_ID, unless --session names one. Without either a session is made, and
    printed to stderr.
    """
    name, settings = _given(name, "NAME"), settings_with(directory, None)
    create_ignored_directory(settings.directory)
    session = session_id or current_session_id() or _new_session()
    with _writing(settings):
        started = DetachedSkills(settings).start(name, path, session)
    print(started.invocation_id)
    return OK


def follow_up(
    invocation_id: _Id,
    action: Annotated[str, Argument(metavar="ACTION", help="What was done next, as 'git commit'.")],
    directory: LogDirectory = None,
) -> int:
    """Add an action that was taken next; the skill may have ended."""
    settings = settings_with(directory, None)
    with _writing(settings):
        skills, use = _find(settings, invocation_id)
        skills.follow_up(use, [_given(action, "ACTION")])
    return OK


def complete(invocation_id: _Id, follow_ups: _FollowUps = None, directory: LogDirectory = None) -> int:
    """End a skill as completed; repeating it changes nothing."""
    return _end(settings_with(directory, None), invocation_id, follow_ups or [], completed=True)


def abandon(
    invocation_id: _Id,
    error_type: Annotated[
        str | None,
        Option("--error-type", metavar="TYPE", help="The error that ended it, such as Timeout."),
    ] = None,
    follow_ups: _FollowUps = None,
    directory: LogDirectory = None,
) -> int:
    """End a skill as not completed; repeating it changes nothing."""
    settings = settings_with(directory, None)
    return _end(settings, invocation_id, follow_ups or [], completed=False, error_type=error_type)


def run(
    name: _Name,
    command: Annotated[
        list[str], Argument(nargs=PARSER, metavar="COMMAND", help="The command and its arguments.")
    ],
    path: _Path = None,
    session_id: SessionId = None,
    directory: LogDirectory = None,
) -> int:
    """Run a command as a use of a skill: eventbus skill run NAME -- make check.

    The exit code is the command's own, 128 + n if signal n ended it, 127 if it was not found. What it
    publishes is in the same session and log.
    """
    settings = settings_with(directory, None)
    create_ignored_directory(settings.directory)
    session_id = session_id or current_session_id() or session_of_terminal(settings)
    with session_scope(session_id or new_id()) as session:
        environment = {**os.environ, **_environment(settings, session)}
        started = new_start(_given(name, "NAME"), path, session, {})
        with blocked_signals() as signals, _recording(settings, started) as record:
            pid = start_child(command, environment)
            record(started)
            code = wait_for_child(pid, signals)
            record(_end_of_command(started, code))
    return code if code >= 0 else 128 - code


def _environment(settings: Settings, session_id: str) -> dict[str, str | bytes]:
    found: dict[str, str | bytes] = {SESSION_VARIABLE: name_to_bytes(session_id)}
    with suppress(OSError):  # the working directory was deleted
        found["EVENTBUS_DIR"] = str(settings.directory.absolute())
    return found


def list_open(directory: LogDirectory = None, as_json: AsJson = False) -> int:
    """List the skills that are open, the latest first."""
    # Opening the sessions of a log is slow to import, and no other command here needs it.
    from eventbus.cli.session_access import open_history  # noqa: PLC0415

    with open_history(directory) as history:
        names = [each.session_id for each in history.figures() if each.skills_open]
        found = [started for name in names for started in history.open_skills(name)]
        for started in sorted(found, key=lambda each: each.timestamp, reverse=True):
            print(_as_json(started) if as_json else _as_text(started))
    return OK


def _end(
    settings: Settings,
    invocation_id: str,
    follow_ups: Sequence[str],
    *,
    completed: bool,
    error_type: str | None = None,
) -> int:
    with _writing(settings):
        skills, use = _find(settings, invocation_id)
        is_news = skills.end(
            use, completed=completed, follow_up_actions=follow_ups, error_type=error_type or None
        )
    if not is_news and use.ended is not None:
        note(f"{invocation_id} had ended before: {'completed' if use.ended.completed else 'abandoned'}")
    return OK


def _find(settings: Settings, invocation_id: str) -> tuple[DetachedSkills, SkillUse]:
    skills = DetachedSkills(settings)
    use = skills.find(_given(invocation_id, "ID"))
    if use is None:
        raise CommandError(
            f"no skill was started as {invocation_id!r} in the log in {settings.directory}",
            "list the open ones with: eventbus skill list",
            NOT_FOUND,
        )
    return skills, use


@contextmanager
def _writing(settings: Settings) -> Generator[None]:
    """Turn an error of the log's files into one of the command."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise _not_stored(settings, error) from error


def _not_stored(settings: Settings, error: Exception) -> CommandError:
    cause = (isinstance(error, OSError) and error.strerror) or error
    return CommandError(
        f"nothing was stored: the event log in {settings.directory} cannot be used: {cause}",
        "name a directory with --dir or EVENTBUS_DIR",
        PROBLEMS,
    )


@contextmanager
def _recording(settings: Settings, started: SkillStarted) -> Generator[Any]:
    """Yield a function that stores an event; what cannot be stored is noted, and the command goes on."""

    def record(event: Event) -> None:
        try:
            appender.append([event])
        except (OSError, ValueError) as error:
            note(_not_stored(settings, error).problem)

    appender: Appender
    with appending(settings, _writer_id(settings, started)) as appender:
        yield record


def _writer_id(settings: Settings, started: SkillStarted) -> str:
    tag = tag_of_invocation(started.invocation_id)
    try:
        return SkillSegments(settings.directory).new_writer_id(tag)
    except OSError:  # appending will fail, and say so
        return tag


def _end_of_command(started: SkillStarted, code: int) -> SkillCompleted:
    """Return the end of a skill whose command ended with an exit code, or minus a signal's number."""
    if code < 0:
        name = signal.Signals(-code).name
        return completion(started, False, (), None if -code in _INTERRUPTIONS else name)
    return completion(started, code == 0, (), "CommandFailed" if code else None, {"exit_code": code})


def _new_session() -> str:
    session = new_id()
    note(f"this is session {session}; join others to it with: export {SESSION_VARIABLE}={session}")
    return session


def _given(text: str, name: str) -> str:
    if not text.strip():
        raise CommandError(f"{name} is empty", "see eventbus skill --help", USAGE)
    return safe_text(text)


def _as_json(started: SkillStarted) -> str:
    fields = {
        "invocation_id": started.invocation_id,
        "skill_name": started.skill_name,
        "workflow_path": started.workflow_path,
        "session_id": started.session_id and spell(started.session_id),
        "started_at": started.timestamp,
        "elapsed_seconds": _elapsed(started),
    }
    return msgspec.json.encode(fields).decode()


def _as_text(started: SkillStarted) -> str:
    path = f" ({printable(started.workflow_path)})" if started.workflow_path else ""
    session = "-" if started.session_id is None else printable(started.session_id, scrubbed=False)
    name = f"{printable(started.skill_name)}{path}"
    return f"{printable(started.invocation_id)}  {duration(_elapsed(started))}  {name}  session {session}"


def _elapsed(started: SkillStarted) -> float:
    return max(0.0, (datetime.now(UTC) - started.timestamp).total_seconds())
