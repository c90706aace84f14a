"""``eventbus hook claude-code``: what the hooks of an agent run.

It reads one JSON object, appends events to the log, and exits with 0 whatever happens: an agent takes other
codes for a problem of its own. Nothing is printed on stdout, which would get into the agent's context.

It runs at every step of the agent. So no other command is imported, no bus runs, and the rest is imported
when it turns out to be needed. Between its calls all state is in the log: the agent's segments are found by
their names, the latest first, so a session of any length costs the same.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventbus.detached_skills.skill_uses import SkillUse
    from eventbus.history.skill_segments import SkillSegments
    from eventbus.integrations.claude_code import Observation
    from eventbus.settings import Settings

__all__ = ["export_session", "run_hook"]

_SESSION_VARIABLE = "EVENTBUS_SESSION_ID"
_MAX_INPUT = 64 * 1024 * 1024
_MAX_NOTE = 300
_WANTED = (
    "agent_id", "command", "command_name", "expansion", "expansion_type", "hook_event_name", "name", "prompt",
    "reason", "session_id", "tool_input", "tool_name", "tool_use_id",
)  # fmt: skip
_IS_SET = re.compile(rb"(?m)^[ \t]*(?:export[ \t]+)?EVENTBUS_SESSION_ID=")
_RECENT = 8
"""Segments that are always read: a call after a tool is recognised although another skill began meanwhile."""


def run_hook() -> int:
    """Read a hook's JSON object from stdin and append its events; never raises, and returns 0."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # one note is printed at most
    try:
        _run(_input())
    except BaseException as error:  # noqa: BLE001 - nothing must reach the agent, a Ctrl-C included
        with suppress(BaseException):
            text = f"{type(error).__name__}: {error}"[:_MAX_NOTE]
            shown = "".join(char if char.isprintable() else "?" for char in text)
            sys.stderr.write(f"eventbus: a hook's events were not stored: {shown}\n")
    finally:
        logging.disable(before)
    return 0


def _input() -> bytes:
    if sys.stdin.isatty():
        raise ValueError("its JSON is read from stdin. Set it up with --install")
    return sys.stdin.buffer.read(_MAX_INPUT)


def _run(data: bytes) -> None:
    from eventbus.integrations.claude_code import observe  # noqa: PLC0415

    hook = _decoded(data)
    settings: Settings | None = None
    allowed: tuple[str, ...] = ()
    if hook.get("tool_name") == "Bash":
        settings = _settings()
        allowed = settings.follow_up_actions
    seen = observe(hook, allowed)
    if seen is None:
        return
    if seen.way == "SessionStart":
        export_session(os.environ.get("CLAUDE_ENV_FILE", ""), seen.session, os.environ)
    if not seen.is_empty:
        _append(seen, settings or _settings())


def _decoded(data: bytes) -> dict[str, Any]:
    """Return the wanted fields of a hook; the others, such as most tools' output, are skipped unread."""
    import msgspec  # noqa: PLC0415

    from eventbus.integrations.claude_code import starts_job  # noqa: PLC0415

    try:
        raw = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        has_job = "tool_name" in raw and starts_job(msgspec.json.decode(raw["tool_name"]))
        wanted = (*_WANTED, "tool_response") if has_job else _WANTED
        return {key: msgspec.json.decode(raw[key]) for key in wanted if key in raw}
    except (msgspec.MsgspecError, ValueError):
        import json  # noqa: PLC0415 - it also reads half a surrogate pair and NaN

        found = json.loads(data.decode("utf-8", "replace"))
        return found if isinstance(found, dict) else {}


def _settings() -> Settings:
    """Return the settings of the agent's project, wherever in it the agent works at the moment."""
    from eventbus.settings import load_settings  # noqa: PLC0415

    project = os.environ.get("CLAUDE_PROJECT_DIR")
    start = Path(project) if project and os.path.isdir(project) else None  # noqa: PTH112
    return load_settings(start, ignore_unreadable=True)


def _append(seen: Observation, settings: Settings) -> None:
    from eventbus.history.skill_segments import SkillSegments, digest  # noqa: PLC0415
    from eventbus.integrations.claude_code import events_for, link_to_job  # noqa: PLC0415
    from eventbus.session import current_session_id  # noqa: PLC0415

    segments = SkillSegments(settings.directory)
    of_session = f"h{digest(seen.session, 4)}"
    tag = f"{of_session}{digest(seen.agent, 3)}"
    tags = segments.tags(of_session, len(tag)) if seen.ends == "session" else [tag]
    uses = [use for each in tags for use in _latest_uses(segments, each)]
    session_id = current_session_id() or seen.session
    call = digest(seen.call) if seen.call else ""
    # Processes that report one use at once make the same id, so that it counts once.
    new_id = digest("\0".join((tag, seen.skill, call or str(segments.number(tag) + 1))))
    events: list[Any] = events_for(seen._replace(call=call), uses, session_id, new_id, tag[1:])
    link = link_to_job(seen, session_id)
    if link is not None:
        events = [link]
    if events:
        _store(settings, segments.new_writer_id(tag), events)


def _store(settings: Settings, writer_id: str, events: list[Any]) -> None:
    from eventbus.cli.gitignore import create_ignored_directory  # noqa: PLC0415
    from eventbus.detached_skills.appending import appending  # noqa: PLC0415

    create_ignored_directory(settings.directory)
    with appending(settings, writer_id) as appender:
        appender.append(events)


def _latest_uses(segments: SkillSegments, tag: str) -> list[SkillUse]:
    """Return an agent's latest uses of skills, the latest first: all that may be open."""
    from eventbus.detached_skills.skill_uses import use_of  # noqa: PLC0415
    from eventbus.events import SkillStarted  # noqa: PLC0415
    from eventbus.history.skill_segments import events_with  # noqa: PLC0415

    found: dict[str, list[Any]] = {}
    starts: list[tuple[int, int, str]] = []
    for read, (number, path) in enumerate(segments.latest_first(tag)):
        # A start ends the uses before it. Starts with one number did not see each other.
        if starts and starts[-1][0] != number and read >= _RECENT:
            break
        for position, event in enumerate(events_with(path)):
            found.setdefault(event.invocation_id, []).append(event)
            if isinstance(event, SkillStarted):
                starts.append((number, position, event.invocation_id))
    ids = dict.fromkeys(invocation_id for _, _, invocation_id in sorted(starts, reverse=True))
    return [use for each in ids if (use := use_of(found[each])) is not None]


def export_session(env_file: str, session_id: str, environment: Mapping[str, str]) -> None:
    """Let the commands that an agent runs have its session, unless they have one already.

    Args:
        env_file: The file that the agent's shell reads; empty for none. It need not exist.
        session_id: The agent's session.
        environment: The environment of the hook.

    Raises:
        OSError: The file cannot be read or written, or is not a regular file.
    """
    if not env_file or environment.get(_SESSION_VARIABLE) or "\0" in session_id:
        return
    descriptor = os.open(env_file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{env_file} is not a regular file")
        content = os.pread(descriptor, _MAX_INPUT, 0)
        if not _IS_SET.search(content):
            import shlex  # noqa: PLC0415

            from eventbus.ground.session_names import name_to_bytes  # noqa: PLC0415

            line = name_to_bytes(f"export {_SESSION_VARIABLE}={shlex.quote(session_id)}\n")
            os.write(descriptor, b"\n" + line if content and not content.endswith(b"\n") else line)
    finally:
        os.close(descriptor)
