"""``eventbus run``: any command as an observed run, with the events of those of its processes that publish.

Its own start and end are published, and stored, here. What its processes publish they store
themselves, each in its own segment of the log; here it is followed, and shown.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal

from eventbus.cli.child_process import signals_waited_for, start_child, wait_for_child
from eventbus.cli.exit_codes import USAGE, CommandError
from eventbus.cli.gitignore import keep_out_of_git
from eventbus.cli.log_access import note
from eventbus.contracts import EventSink
from eventbus.errors import SettingsError
from eventbus.events import Event, WorkflowCompleted, WorkflowStarted, WorkflowStatus
from eventbus.history import EventLog
from eventbus.runtime import build_runtime
from eventbus.session import SESSION_VARIABLE, current_session_id, new_id, session_scope
from eventbus.settings import ProgressMode, Settings, load_settings

__all__ = ["run_command"]

_LAST_LOOK_SECONDS = 0.15
"""After the command's end, so long for what it wrote last to be read: three looks at the log."""
_ENDED_ON_REQUEST = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_command(
    command: Sequence[str],
    session_id: str | None = None,
    directory: Path | None = None,
    progress: ProgressMode | None = None,
) -> int:
    """Run a command; return its exit code, or 128 + n where signal n ended it.

    Args:
        command: Its name or path, and its arguments.
        session_id: The session. None: the environment's, else a new one.
        directory: Where the event log goes; by default what the settings say.
        progress: How progress is shown; by default what the settings say.

    Raises:
        CommandError: The command cannot be started, or the settings cannot be used.
    """
    settings = _settings(directory, progress)
    keep_out_of_git(settings.directory)
    environment = {"EVENTBUS_DIR": str(settings.directory.absolute())}
    with session_scope(session_id or current_session_id() or new_id()) as session:
        environment[SESSION_VARIABLE] = session
        with signals_waited_for() as waited_for, _buses(settings, session) as publish:
            return _run(command, {**os.environ, **environment}, waited_for, publish)


def _settings(directory: Path | None, progress: ProgressMode | None) -> Settings:
    try:
        settings = load_settings(ignore_unreadable=True)
    except SettingsError as error:
        raise CommandError(error.problem, error.hint, USAGE) from error
    given = {"directory": directory and directory.absolute(), "progress": progress}
    return msgspec.structs.replace(settings, **{key: value for key, value in given.items() if value})


@contextmanager
def _buses(settings: Settings, session_id: str) -> Generator[Callable[[Event], None]]:
    """Run two buses: what is published here is stored and shown, what is followed only shown."""
    # The correlator would see only this command's own start and end, and say so as if it were all.
    stored = build_runtime(settings, without=("console_progress", "live_correlator"))
    shown = build_runtime(settings, only=("console_progress",))
    for failed in stored.failed:
        note(f"plugin {failed.plugin.name} of {failed.plugin.distribution} is left out: {failed.reason}")

    def publish(event: Event) -> None:
        stored.bus.publish(event)
        shown.bus.publish(event)

    with stored.bus, shown.bus as screen, _following(EventLog(settings.directory), session_id, screen):
        yield publish


@contextmanager
def _following(log: EventLog, session_id: str, screen: EventSink) -> Generator[None]:
    """Publish what other processes append to the log, in a loop and a thread of its own."""

    async def follow(*, task_status: TaskStatus[None]) -> None:
        try:
            async with log.follow(session_id=session_id) as records:
                task_status.started()
                async for record in records:
                    screen.publish(record.event)
        except OSError as error:
            note(f"what the command's processes publish is not shown: {error}")
            with suppress(RuntimeError):  # it had started
                task_status.started()

    with start_blocking_portal() as portal:
        following, _ = portal.start_task(follow)
        try:
            yield
        finally:
            following.cancel()


def _run(
    command: Sequence[str],
    environment: dict[str, str],
    waited_for: set[int],
    publish: Callable[[Event], None],
) -> int:
    workflow_id, run_id = Path(command[0]).name, new_id()
    began = time.perf_counter()
    pid = start_child(command, environment)
    publish(WorkflowStarted(workflow_id=workflow_id, run_id=run_id, metadata={"pid": pid}))
    code = wait_for_child(pid, waited_for)
    duration = time.perf_counter() - began
    time.sleep(_LAST_LOOK_SECONDS)
    publish(
        WorkflowCompleted(
            workflow_id=workflow_id,
            run_id=run_id,
            status=_status(code),
            success=code == 0,
            duration_seconds=duration,
            error_type=signal.Signals(-code).name if code < 0 else None,
            metadata={"exit_code": code} if code >= 0 else {},
        )
    )
    return code if code >= 0 else 128 - code


def _status(code: int) -> WorkflowStatus:
    if code == 0:
        return "ok"
    return "cancelled" if -code in _ENDED_ON_REQUEST else "failed"
