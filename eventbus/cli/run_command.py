"""``eventbus run``: run any command as an observed workflow run.

This process publishes and stores the start and the end of the command. Processes of the command that
publish events store them in segments of their own; this process follows the log to show them.
"""

from __future__ import annotations

import os
import signal
import time
from argparse import PARSER
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal

from eventbus.cli.arguments import Argument
from eventbus.cli.child_process import blocked_signals, start_child, wait_for_child
from eventbus.cli.free_descriptors import check_free_descriptors
from eventbus.cli.gitignore import create_ignored_directory
from eventbus.cli.log_access import note
from eventbus.cli.options import LogDirectory, Progress, SessionId, settings_with
from eventbus.cli.run_ending import Ending, append_only
from eventbus.cli.standard_streams import settle_streams
from eventbus.contracts import EventSink
from eventbus.detached_skills.skills import session_of_terminal
from eventbus.errors import PluginError
from eventbus.events import Event, WorkflowCompleted, WorkflowStarted, WorkflowStatus
from eventbus.ground.session_names import name_to_bytes
from eventbus.history import EventLog
from eventbus.running_node import RunningNode
from eventbus.runtime import build_runtime
from eventbus.session import SESSION_VARIABLE, current_session_id, new_id, session_scope
from eventbus.settings import Settings

__all__ = ["run"]

_FOLLOW_SECONDS = 0.15
"""How long the log is followed after the end of the command: three reads."""
_ENDED_BY_REQUEST = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(
    command: Annotated[
        list[str], Argument(nargs=PARSER, metavar="COMMAND", help="The command and its arguments.")
    ],
    session_id: SessionId = None,
    directory: LogDirectory = None,
    progress: Progress = None,
) -> int:
    """Run a command, and record it as a workflow run.

    Events that its processes publish are shown, too: eventbus run -- make test. What ran, how long it
    took and what failed is printed to stderr at the end, as by eventbus show. The exit code is the
    command's own, 128 + n if signal n ended it, 127 if it was not found.
    """
    settings = append_only(settings_with(directory, progress), progress)
    create_ignored_directory(settings.directory)
    environment: dict[str, str | bytes] = {}
    with suppress(OSError):  # the working directory was deleted
        environment["EVENTBUS_DIR"] = str(settings.directory.absolute())
    session_id = session_id or current_session_id() or _session_of_terminal(settings)
    with session_scope(session_id or new_id()) as session:
        environment[SESSION_VARIABLE] = name_to_bytes(session)  # the same in every locale
        ending = Ending(settings)
        with blocked_signals() as signals:
            with _observed(settings, session, ending) as publish:
                code = _run(command, {**os.environ, **environment}, signals, publish)
            ending.print()
    settle_streams()  # what a subscriber printed: if that fails, the exit code is the command's own still
    return code


def _session_of_terminal(settings: Settings) -> str | None:
    try:
        return session_of_terminal(settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not the command's
        note(f"the open skills of this terminal are not known: {_reason(error)}")
        return None


@contextmanager
def _observed(settings: Settings, session_id: str, ending: Ending) -> Generator[Callable[[Event], None]]:
    """Run the buses; where that cannot be done, yield a function that ignores events, and say so."""
    with ExitStack() as stack:
        try:
            check_free_descriptors()
            publish = stack.enter_context(_buses(settings, session_id, ending))
        except PluginError:  # which says how to run without storing
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the command's
            note(f"the command is not observed: {_reason(error)}")
            publish = _ignore
        yield publish
        try:
            stack.close()
        except Exception as error:  # noqa: BLE001 - as above
            note(f"the command was not observed to its end: {_reason(error)}")


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (isinstance(cause, OSError) and cause.strerror) or str(cause) or type(cause).__name__


def _ignore(event: Event) -> None:
    """Do nothing with an event."""


@contextmanager
def _buses(settings: Settings, session_id: str, ending: Ending) -> Generator[Callable[[Event], None]]:
    """Run two buses: one stores the events of this process, one shows these and the followed events."""
    # The live correlator is left out: it would report on the command's start and end only.
    stored = build_runtime(settings, without=("console_progress", "live_correlator"))
    shown = build_runtime(settings, only=("console_progress",))

    def publish(event: Event) -> None:
        stored.bus.publish(event)
        shown.bus.publish(event)

    shown.bus.subscribe(ending.add, Event, name="ending")
    following = _following(EventLog(settings.directory), session_id, shown.bus, ending.paths)
    with stored.bus, shown.bus, following:
        yield publish


@contextmanager
def _following(log: EventLog, session_id: str, screen: EventSink, paths: set[Path]) -> Generator[None]:
    """Publish the events that other processes append to the log, from a thread with its own loop."""

    async def follow(*, task_status: TaskStatus[None]) -> None:
        try:
            async with log.follow(session_id=session_id) as records:
                task_status.started()
                async for record in records:
                    paths.add(record.path)
                    screen.publish(record.event)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the command's
            note(f"events of the command's processes are not shown: {_reason(error)}")
            with suppress(RuntimeError):  # it has started already
                task_status.started()

    with start_blocking_portal() as portal:
        following, _ = portal.start_task(follow)
        try:
            yield
        finally:
            following.cancel()


def _run(
    command: Sequence[str],
    environment: Mapping[str, str | bytes],
    signals: set[int],
    publish: Callable[[Event], None],
) -> int:
    workflow_id, run_id = Path(command[0]).name, new_id()
    began = time.perf_counter()
    running = RunningNode(workflow_id, run_id, current_session_id())
    pid = start_child(command, {**environment, **running.variables()})
    publish(WorkflowStarted(workflow_id=workflow_id, run_id=run_id, metadata={"pid": pid}))
    code = wait_for_child(pid, signals)
    duration = time.perf_counter() - began
    time.sleep(_FOLLOW_SECONDS)
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
    return "cancelled" if -code in _ENDED_BY_REQUEST else "failed"
