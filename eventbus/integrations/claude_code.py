"""Turn what Claude Code's hooks report into the events of skills. Pure: no I/O.

A hook gets one JSON object. `observe` reads from it which skill is used, which ones end, or which actions
follow; `events_for` makes the events of that, given what the log knows of the agent so far.

One use of a skill may be reported in several ways, which differ between versions: a skill that the user
types by the expansion of its command, by the submitted prompt, and by the tool call that loads it; one that
the model calls before and after that call. Some versions report a use in one of these ways only. So the
first report begins the use, and the others are recognised as the same one.

Loading a skill is not its end: it ends at the agent's next skill, or when the agent stops.

A job that the agent starts on crackerjack's MCP server is linked to its session by the id in the response.

Nothing private gets into an event: of a prompt and of a tool's input only the name of a skill, of a shell
command only words that are in a list, of a response only the id of a job.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from eventbus.detached_skills.skill_uses import SkillUse, completion, new_start, of_use
from eventbus.events import SessionLinked, SkillEvent, SkillFollowedUp
from eventbus.events.outcomes import DETACHED
from eventbus.integrations.shell_actions import actions_in

__all__ = ["HOOK_EVENTS", "Observation", "events_for", "link_to_job", "observe", "starts_job"]

HOOK_EVENTS: dict[str, str] = {
    "SessionStart": "",
    "UserPromptExpansion": "",
    "UserPromptSubmit": "",
    "PreToolUse": "Skill",
    "PostToolUse": "Skill|Bash|mcp__.*__(execute_crackerjack|crackerjack_execute)",
    "PostToolUseFailure": "Skill",
    "SubagentStop": "",
    "Stop": "",
    "StopFailure": "",
    "SessionEnd": "",
}
"""The events to hook, each with the names of the tools that it is wanted for."""

_MAX_ID = 256
_SKILL_TOOLS = ("Skill", "SlashCommand")  # the latter in 2025
_JOB_TOOL = re.compile(r"mcp__.+__(?:execute_crackerjack|crackerjack_execute)")
_JOB_ID = re.compile(r'"job_id\\*"\s*:\s*\\*"([\w-]{1,64})\\*"')
_MAX_DEPTH = 6
_NAMES = ("skill", "name", "command", "skill_name")
_COMMAND_NAMES = ("command_name", "command", "expansion", "name")
_NAME = re.compile(r"/?([A-Za-z0-9_][\w.:@+-]{0,127})(?=\s|$)")
_TYPED = re.compile(
    r"(?:<command-message>[^<]*</command-message>\s*)?(?:<command-name>)?/([A-Za-z0-9_][\w.:@+-]{0,127})(?=\s|$|</)"
)
# Prompts that begin so load no skill: commands of the agent itself, and directories.
_NO_SKILLS = frozenset(
    """applications bin boot dev etc home lib library mnt opt proc root sbin srv sys tmp users usr var volumes
    add-dir agents clear compact config context cost doctor exit export fast help hooks ide login logout
    mcp memory model output-style permissions plan plugin privacy-settings quit release-notes rename resume
    rewind settings stats status statusline tasks terminal-setup theme todos upgrade usage vim""".split()  # noqa: SIM905
)
_GOOD_REASONS = ("clear", "exit", "logout", "prompt_input_exit", "resume")

_Fields: TypeAlias = "Mapping[str, Any]"
Scope: TypeAlias = Literal["none", "agent", "session"]


class Observation(NamedTuple):
    """What a hook reports.

    Attributes:
        session: The id of the agent's session.
        agent: The id of the subagent; empty for the main agent.
        way: The name of the hook's event.
        skill: The name of a skill that is used.
        call: The id of the tool call that loads it; empty in another way.
        ends: Whose open skills end: no one's, the agent's, or those of all agents of the session.
        succeeded: False if they are abandoned.
        error_type: The reason, if there is one.
        actions: Follow-up actions.
        job: The id of a job that the agent has started on crackerjack's MCP server.
    """

    session: str
    agent: str
    way: str
    skill: str = ""
    call: str = ""
    ends: Scope = "none"
    succeeded: bool = True
    error_type: str | None = None
    actions: tuple[str, ...] = ()
    job: str = ""

    @property
    def is_empty(self) -> bool:
        """True if nothing is to be stored."""
        return not (self.skill or self.actions or self.job) and self.ends == "none"


def observe(hook: object, allowed: Collection[str] = ()) -> Observation | None:
    """Return what a hook reports; None if it is none of a session. Never raises.

    Args:
        hook: The JSON object that the hook got, decoded.
        allowed: The follow-up actions to look for, such as ``git commit``.
    """
    if not isinstance(hook, Mapping):
        return None
    fields = cast("Mapping[str, Any]", hook)
    session, way = _text(fields, "session_id"), _text(fields, "hook_event_name")
    if not session or not way:
        return None
    seen = Observation(session, _text(fields, "agent_id"), way)
    reader = _READERS.get(way)
    return seen if reader is None else reader(seen, fields, allowed)


def events_for(
    seen: Observation, uses: Sequence[SkillUse], session_id: str, new_id: str, agent_key: str = ""
) -> list[SkillEvent]:
    """Return the events of what a hook reports, in order.

    Args:
        seen: The report.
        uses: The latest uses of skills by the agents that it concerns, the latest first.
        session_id: The session of the events.
        new_id: The id of a use that begins.
        agent_key: Stands for the agent in the metadata of a start.
    """
    if seen.skill and seen.way == "PostToolUseFailure":
        failed = [use for use in _open(uses) if _is_same_use(use, seen)]
        return list(_ends(failed, succeeded=False, error_type="SkillNotLoaded"))
    if seen.skill:
        if any(_is_same_use(use, seen) for use in uses):
            return []
        metadata = {DETACHED: True, "source": "claude-code", "way": seen.way, "agent": agent_key}
        if seen.call:
            metadata["call"] = seen.call
        return [*_ends(_open(uses)), new_start(seen.skill, None, session_id, metadata, new_id)]
    if seen.ends != "none":
        return list(_ends(_open(uses), succeeded=seen.succeeded, error_type=seen.error_type))
    latest = next(iter(uses), None)
    if latest is None:
        return []
    return [of_use(latest.started, SkillFollowedUp, action=action) for action in seen.actions]


def starts_job(tool: object) -> bool:
    """Return True for a tool that starts a job of crackerjack; its response has the job's id."""
    return isinstance(tool, str) and _JOB_TOOL.fullmatch(tool) is not None


def link_to_job(seen: Observation, session_id: str) -> SessionLinked | None:
    """Return the link between the agent's session and a job that it has started; None without one."""
    return SessionLinked(session_id=session_id, other=seen.job) if seen.job else None


def _of_expansion(seen: Observation, fields: _Fields, _: Collection[str]) -> Observation:
    if str(fields.get("expansion_type", "")).startswith("mcp"):
        return seen  # the prompts of an MCP server are no skills
    return seen._replace(skill=_first_name(fields, _COMMAND_NAMES) or _typed(fields))


def _of_prompt(seen: Observation, fields: _Fields, _: Collection[str]) -> Observation:
    return seen._replace(skill=_typed(fields))


def _of_tool(seen: Observation, fields: _Fields, allowed: Collection[str]) -> Observation:
    tool, given = _text(fields, "tool_name"), fields.get("tool_input")
    if tool in _SKILL_TOOLS:
        return seen._replace(skill=_first_name(given, _NAMES), call=_text(fields, "tool_use_id"))
    if tool == "Bash" and seen.way == "PostToolUse" and isinstance(given, Mapping):
        return seen._replace(actions=actions_in(_text(given, "command", limit=None), allowed))
    if seen.way == "PostToolUse" and starts_job(tool):
        return seen._replace(job=_job_in(fields.get("tool_response")))
    return seen


def _job_in(response: object, depth: int = 0) -> str:
    """Return the job id in a tool's response: JSON in a text, in one of its blocks, or decoded already."""
    if isinstance(response, str):
        found = _JOB_ID.search(response)
        return found[1] if found else ""
    values: Iterable[object] = ()
    if isinstance(response, Mapping):
        parts = cast("Mapping[object, object]", response)
        own = parts.get("job_id")
        values = (f'"job_id": "{own}"' if isinstance(own, str) else None, *parts.values())
    elif isinstance(response, list):
        values = cast("list[object]", response)
    ids = (_job_in(each, depth + 1) for each in values) if depth < _MAX_DEPTH else iter(())
    return next(filter(None, ids), "")


def _of_stop(seen: Observation, _: _Fields, __: Collection[str]) -> Observation:
    return seen._replace(ends="agent")


def _of_failure(seen: Observation, _: _Fields, __: Collection[str]) -> Observation:
    return seen._replace(ends="agent", succeeded=False, error_type="StopFailure")


def _of_subagent_stop(seen: Observation, _: _Fields, __: Collection[str]) -> Observation:
    # Without an id it could be any subagent, and the main agent goes on.
    return seen._replace(ends="agent" if seen.agent else "none")


def _of_session_end(seen: Observation, fields: _Fields, _: Collection[str]) -> Observation:
    reason = fields.get("reason")
    return seen._replace(ends="session", succeeded=reason is None or reason in _GOOD_REASONS)


_READERS: dict[str, Callable[[Observation, _Fields, Collection[str]], Observation]] = {
    "UserPromptExpansion": _of_expansion,
    "UserPromptSubmit": _of_prompt,
    "PreToolUse": _of_tool,
    "PostToolUse": _of_tool,
    "PostToolUseFailure": _of_tool,
    "Stop": _of_stop,
    "StopFailure": _of_failure,
    "SubagentStop": _of_subagent_stop,
    "SessionEnd": _of_session_end,
}


def _typed(fields: _Fields) -> str:
    match = _TYPED.match(_text(fields, "prompt", limit=None))
    name = match[1] if match else ""
    return "" if name.lower() in _NO_SKILLS else name


def _first_name(given: object, keys: Iterable[str]) -> str:
    """Return the name of a skill in a tool's input, or in an object in it, without its arguments."""
    values = _values(given, keys) if isinstance(given, Mapping) else [given]
    inner = [each for value in values if isinstance(value, Mapping) for each in _values(value, keys)]
    for value in (*values, *inner):
        match = _NAME.match(value.lstrip()) if isinstance(value, str) else None
        if match:
            return match[1]
    return ""


def _values(given: object, keys: Iterable[str]) -> list[object]:
    fields = cast("_Fields", given)
    return [fields.get(key) for key in keys]


def _text(fields: Mapping[Any, Any], key: str, *, limit: int | None = _MAX_ID) -> str:
    value = fields.get(key)
    return value[:limit] if isinstance(value, str) else ""


def _open(uses: Iterable[SkillUse]) -> list[SkillUse]:
    return [use for use in uses if use.ended is None]


def _is_same_use(use: SkillUse, seen: Observation) -> bool:
    """Return True if this report is about a use that another one began."""
    known = use.started.metadata
    if use.started.skill_name != seen.skill:
        return False
    if seen.call and known.get("call"):
        return bool(known["call"] == seen.call)
    if (known.get("way"), seen.way) == ("PreToolUse", "PostToolUse"):
        return True  # also if another call of a tool began and ended it meanwhile
    # The same way twice is two uses: each reports a use once.
    return use.ended is None and known.get("way") != seen.way


def _ends(
    uses: Iterable[SkillUse], *, succeeded: bool = True, error_type: str | None = None
) -> Iterator[SkillEvent]:
    for use in uses:
        yield completion(use.started, succeeded, use.follow_ups, error_type)
