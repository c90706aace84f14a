"""What the hooks of Claude Code report, as events: shapes of several versions, and nonsense."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.detached_skills.skill_uses import SkillUse, use_of
from eventbus.events import SkillCompleted, SkillEvent, SkillFollowedUp, SkillStarted, encode
from eventbus.integrations.claude_code import HOOK_EVENTS, Observation, events_for, link_to_job, observe
from eventbus.integrations.shell_actions import actions_in

ALLOWED = ("crackerjack", "crackerjack run", "git commit", "git push", "gh pr")
COMMON: dict[str, Any] = {
    "session_id": "0b5c7f9e-5f3a-4c39-9a54-2f1b3f0c8f11",
    "transcript_path": "/home/someone/.claude/projects/-home-someone-private/0b5c7f9e.jsonl",
    "cwd": "/home/someone/private",
    "permission_mode": "default",
}


def hook(name: str, **fields: Any) -> dict[str, Any]:
    return {**COMMON, "hook_event_name": name, **fields}


def tool(name: str, way: str = "PreToolUse", **fields: Any) -> dict[str, Any]:
    return hook(way, tool_name=name, **fields)


# What is reported, and what is read from it: the skill, whose skills end, if they succeeded, and actions.
SHAPES: list[tuple[dict[str, Any], tuple[str, str, bool, tuple[str, ...]]]] = [
    # A skill that the model calls: the input of 2026, of late 2025, and others that were seen.
    (tool("Skill", tool_input={"skill": "docs", "args": "private"}), ("docs", "none", True, ())),
    (tool("Skill", tool_input={"skill": "docs"}, tool_use_id="toolu_01"), ("docs", "none", True, ())),
    (tool("Skill", tool_input={"skill": "plugin-dev:a-skill"}), ("plugin-dev:a-skill", "none", True, ())),
    (tool("Skill", tool_input={"command": "docs"}), ("docs", "none", True, ())),
    (tool("Skill", tool_input={"name": "docs", "arguments": "private"}), ("docs", "none", True, ())),
    (tool("Skill", tool_input={"command": "/docs private words"}), ("docs", "none", True, ())),
    (tool("Skill", tool_input="docs"), ("docs", "none", True, ())),
    (tool("SlashCommand", tool_input={"command": "/docs private"}), ("docs", "none", True, ())),
    (tool("Skill", "PostToolUse", tool_input={"skill": "docs"}, x=1), ("docs", "none", True, ())),
    (tool("Skill", tool_input={}), ("", "none", True, ())),
    (tool("Skill", tool_input={"skill": None, "name": 3}), ("", "none", True, ())),
    (tool("Skill", tool_input={"skill": "$(private)"}), ("", "none", True, ())),
    (tool("Read", tool_input={"file_path": "/private", "name": "docs"}), ("", "none", True, ())),
    # A skill that the user types.
    (
        hook("UserPromptExpansion", expansion_type="slash_command", command_name="docs",
             command_args="private", command_source="project", prompt="/docs private"),
        ("docs", "none", True, ()),
    ),
    (hook("UserPromptExpansion", command_name="/docs"), ("docs", "none", True, ())),
    (hook("UserPromptExpansion", command="docs private"), ("docs", "none", True, ())),
    (hook("UserPromptExpansion", command={"name": "docs", "args": "private"}), ("docs", "none", True, ())),
    (hook("UserPromptExpansion", expansion={"command_name": "/docs"}), ("docs", "none", True, ())),
    (hook("UserPromptExpansion", prompt="/docs private"), ("docs", "none", True, ())),
    (hook("UserPromptExpansion", expansion_type="mcp_prompt", command_name="docs"), ("", "none", True, ())),
    (hook("UserPromptSubmit", prompt="/docs private"), ("docs", "none", True, ())),
    (hook("UserPromptSubmit", prompt="/docs"), ("docs", "none", True, ())),
    (hook("UserPromptSubmit", prompt="/my-plugin:docs\nprivate"), ("my-plugin:docs", "none", True, ())),
    (
        hook("UserPromptSubmit", prompt="<command-message>docs is running…</command-message>\n"
             "<command-name>/docs</command-name>\n<command-args>private</command-args>"),
        ("docs", "none", True, ()),
    ),
    (hook("UserPromptSubmit", prompt="please run /docs"), ("", "none", True, ())),
    (hook("UserPromptSubmit", prompt="/home/someone/private is broken"), ("", "none", True, ())),
    (hook("UserPromptSubmit", prompt="/etc is full"), ("", "none", True, ())),
    (hook("UserPromptSubmit", prompt="/clear"), ("", "none", True, ())),
    (hook("UserPromptSubmit", prompt="/ docs"), ("", "none", True, ())),
    (hook("UserPromptSubmit", prompt=["/docs"]), ("", "none", True, ())),
    # Ends.
    (hook("Stop", stop_hook_active=False, last_assistant_message="private"), ("", "agent", True, ())),
    (hook("StopFailure", error="rate_limit"), ("", "agent", False, ())),
    (hook("SubagentStop", agent_id="a1", agent_type="Explore"), ("", "agent", True, ())),
    (hook("SubagentStop", stop_hook_active=False), ("", "none", True, ())),
    (hook("SessionEnd", reason="prompt_input_exit"), ("", "session", True, ())),
    (hook("SessionEnd", reason="clear"), ("", "session", True, ())),
    (hook("SessionEnd"), ("", "session", True, ())),
    (hook("SessionEnd", reason="other"), ("", "session", False, ())),
    (hook("SessionEnd", reason="bypass_permissions_disabled"), ("", "session", False, ())),
    (hook("SessionEnd", reason=["x"]), ("", "session", False, ())),
    # Commands.
    (
        tool("Bash", "PostToolUse", tool_input={"command": "git commit -m 'private'"}),
        ("", "none", True, ("git commit",)),
    ),
    (tool("Bash", "PostToolUse", tool_input={"command": "ls private"}), ("", "none", True, ())),
    (tool("Bash", "PreToolUse", tool_input={"command": "git commit"}), ("", "none", True, ())),
    (tool("Bash", "PostToolUse", tool_input={"command": None}), ("", "none", True, ())),
    (tool("Bash", "PostToolUse", tool_input="git commit"), ("", "none", True, ())),
    # Others.
    (hook("SessionStart", source="startup", model="m"), ("", "none", True, ())),
    (hook("Notification", message="private"), ("", "none", True, ())),
    (hook("AnEventOfNextYear", skill="docs"), ("", "none", True, ())),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "read"), SHAPES)
def test_a_shape_is_read(shape: dict[str, Any], read: tuple[str, str, bool, tuple[str, ...]]) -> None:
    """Each recorded shape of a hook's JSON is read as what it says."""
    seen = observe(shape, ALLOWED)
    assert seen is not None
    assert (seen.skill, seen.ends, seen.succeeded, seen.actions) == read


@pytest.mark.parametrize(
    "nonsense",
    [None, [], "x", 3, {}, {"session_id": "s"}, {"hook_event_name": "Stop"}, hook("Stop", session_id=3)],
)
def test_what_is_of_no_session_is_ignored(nonsense: object) -> None:
    """JSON without a session or an event reports nothing."""
    assert observe(nonsense, ALLOWED) is None


ANSWER = '{\n  "job_id": "ede3534e",\n  "status": "running"\n}'
JOB_TOOL = "mcp__crackerjack__crackerjack_execute"


@pytest.mark.parametrize(
    "response",
    [
        ANSWER, [{"type": "text", "text": ANSWER}], {"content": [{"type": "text", "text": ANSWER}]},
        {"structuredContent": {"result": ANSWER}}, {"job_id": "ede3534e"}, {"result": {"job_id": "ede3534e"}},
        json.dumps({"result": ANSWER}), json.dumps({"job_id": "ede3534e"}, separators=(",", ":")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", [JOB_TOOL, "mcp__plugin_crackerjack__execute_crackerjack"])
def test_a_job_that_the_agent_starts(name: str, response: Any) -> None:
    """The response has the job's id, which links the job to the session."""
    seen = observe(tool(name, "PostToolUse", tool_response=response), ALLOWED)
    assert seen is not None
    assert not seen.is_empty
    link = link_to_job(seen, "s")
    assert link is not None
    assert (link.session_id, link.other) == ("s", "ede3534e")
    assert events_for(seen, [], "s", "0123456789ab") == []


@pytest.mark.parametrize(
    "shape",
    [
        tool(JOB_TOOL, "PreToolUse", tool_response=ANSWER), tool("Bash", "PostToolUse", tool_response=ANSWER),
        tool("crackerjack_execute", "PostToolUse", tool_response=ANSWER), tool(JOB_TOOL, "PostToolUse"),
        tool("mcp__other__get_job_progress", "PostToolUse", tool_response=ANSWER),
        tool(JOB_TOOL, "PostToolUse", tool_response={"job_id": 3, "error": "private"}),
        tool(JOB_TOOL, "PostToolUse", tool_response='{"job_id": "$(private)"}'),
        tool(JOB_TOOL, "PostToolUse", tool_response=[[[[[[[[[ANSWER]]]]]]]]]),
    ],
)  # fmt: skip
def test_what_starts_no_job(shape: dict[str, Any]) -> None:
    """Another tool, another time, or a response without an id: nothing is linked, and nothing kept."""
    seen = observe(shape, ALLOWED)
    assert seen is not None
    assert seen.is_empty
    assert link_to_job(seen, "s") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["agent_id", "command", "command_name", "expansion_type", "prompt", "reason", "tool_name", "tool_input",
     "tool_use_id", "tool_response"]
)  # fmt: skip


@given(
    st.sampled_from([*HOOK_EVENTS, "x"]),
    st.dictionaries(FIELDS, JSON | st.sampled_from(["Skill", "Bash", JOB_TOOL])),
)
def test_any_json_is_read(way: str, fields: dict[str, Any]) -> None:
    """Whatever a hook's JSON contains, reading it raises nothing, and the events can be encoded."""
    seen = observe(hook(way, **fields), ALLOWED)
    assert seen is not None
    for event in events_for(seen, [], "s", "0123456789ab"):
        encode(event)


# The events of several hooks in a row.


class Agent:
    """The hooks of a session, one after the other, and the events so far."""

    def __init__(self) -> None:
        self.events: list[SkillEvent] = []
        self._ids = count(1)

    def reports(self, *shapes: dict[str, Any]) -> None:
        """Run the hooks."""
        for shape in shapes:
            seen = observe(shape, ALLOWED)
            assert seen is not None
            self.events += events_for(seen, self._uses(seen), "s", f"use {next(self._ids)}", seen.agent)

    def _uses(self, seen: Observation) -> list[SkillUse]:
        ids = dict.fromkeys(event.invocation_id for event in reversed(self.events))
        uses = [use_of([event for event in self.events if event.invocation_id == each]) for each in ids]
        mine = [use for use in uses if use is not None]
        return [use for use in mine if seen.ends == "session" or use.started.metadata["agent"] == seen.agent]

    def told(self) -> list[str]:
        """Return the events as words."""
        words: dict[type[SkillEvent], str] = {
            SkillStarted: "start",
            SkillCompleted: "end",
            SkillFollowedUp: "then",
        }
        return [
            "abandon" if isinstance(each, SkillCompleted) and not each.completed else words[type(each)]
            for each in self.events
        ]


PRE = tool("Skill", tool_input={"skill": "docs"}, tool_use_id="t1")
POST = tool("Skill", "PostToolUse", tool_input={"skill": "docs"}, tool_use_id="t1")
EXPANDED = hook("UserPromptExpansion", command_name="docs")
TYPED = hook("UserPromptSubmit", prompt="/docs private")
STOP = hook("Stop")
OTHER = tool("Skill", tool_input={"skill": "review"}, tool_use_id="t2")
OTHER_LOADED = tool("Skill", "PostToolUse", tool_input={"skill": "review"}, tool_use_id="t2")
COMMIT = tool("Bash", "PostToolUse", tool_input={"command": "git commit -m private"})


def without_ids(*shapes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the reports of a version without the ids of tool calls."""
    return [{key: value for key, value in shape.items() if key != "tool_use_id"} for shape in shapes]


@pytest.mark.parametrize(
    "ways",
    [
        [PRE], [POST], [PRE, POST], [EXPANDED], [TYPED], [EXPANDED, TYPED], [TYPED, EXPANDED],
        [TYPED, PRE, POST], [EXPANDED, TYPED, PRE, POST], without_ids(PRE, POST),
        without_ids(EXPANDED, TYPED, PRE, POST),
    ],
)  # fmt: skip
def test_one_use_counts_once(ways: list[dict[str, Any]]) -> None:
    """A use that is reported in several ways is one use, whichever of them a version has."""
    agent = Agent()
    agent.reports(*ways, STOP)
    assert agent.told() == ["start", "end"]
    agent.reports(*ways, STOP)
    assert agent.told() == (["start", "end"] * 2 if "tool_use_id" not in ways[0] else ["start", "end"])


@pytest.mark.parametrize(("first", "second"), [(EXPANDED, PRE), (PRE, TYPED), (TYPED, EXPANDED)])
def test_a_use_after_a_stop_is_another_one(first: dict[str, Any], second: dict[str, Any]) -> None:
    """A skill that was used before the agent stopped is used again, in whichever way."""
    agent = Agent()
    agent.reports(first, STOP, second, STOP)
    assert agent.told() == ["start", "end", "start", "end"]


@pytest.mark.parametrize("shape", [EXPANDED, TYPED, *without_ids(PRE)])
def test_one_way_twice_is_two_uses(shape: dict[str, Any]) -> None:
    """A turn that the user interrupted has no stop: the same report again is another use."""
    agent = Agent()
    agent.reports(shape, shape, STOP)
    assert agent.told() == ["start", "end", "start", "end"]


def test_two_calls_are_two_uses() -> None:
    """Two calls of one skill in one turn are two uses; the second ends the first."""
    agent = Agent()
    again = [{**shape, "tool_use_id": "t9"} for shape in (PRE, POST)]
    agent.reports(PRE, POST, *again, STOP)
    assert agent.told() == ["start", "end", "start", "end"]


@pytest.mark.parametrize(
    "shapes", [[PRE, OTHER, POST, OTHER_LOADED], without_ids(PRE, OTHER, POST, OTHER_LOADED)]
)
def test_tools_that_are_called_at_once(shapes: list[dict[str, Any]]) -> None:
    """A skill that is reported as loaded after another one began does not begin again."""
    agent = Agent()
    agent.reports(*shapes, STOP)
    assert agent.told() == ["start", "end", "start", "end"]


def test_a_skill_ends_at_the_next_one() -> None:
    """The next skill of an agent ends the one before, at the same time."""
    agent = Agent()
    agent.reports(PRE, POST, OTHER)
    assert agent.told() == ["start", "end", "start"]
    assert [event.skill_name for event in agent.events] == ["docs", "docs", "review"]


def test_a_subagent_has_skills_of_its_own() -> None:
    """A subagent's skills end no others and are ended by its own stop; the session's end ends all."""
    agent = Agent()
    of_sub = {**OTHER, "agent_id": "a1"}
    agent.reports(PRE, of_sub, hook("SubagentStop", agent_id="a2"), hook("SubagentStop"))
    assert agent.told() == ["start", "start"]
    agent.reports(hook("SubagentStop", agent_id="a1"))
    assert [(type(each), each.skill_name) for each in agent.events[2:]] == [(SkillCompleted, "review")]
    agent.reports({**of_sub, "tool_use_id": "t3"}, hook("SessionEnd", reason="other"))
    assert agent.told()[4:] == ["abandon", "abandon"]


def test_an_end_of_nothing_is_none() -> None:
    """A stop without an open skill, and a second one, give no event."""
    agent = Agent()
    agent.reports(STOP, PRE, STOP, STOP, hook("SessionEnd", reason="other"))
    assert agent.told() == ["start", "end"]


def test_a_skill_that_could_not_be_loaded() -> None:
    """A failed call of the tool abandons the skill that it should have loaded, and no other."""
    agent = Agent()
    failed = tool(
        "Skill", "PostToolUseFailure", tool_input={"skill": "docs"}, tool_use_id="t1", error="private"
    )
    agent.reports(failed, OTHER, failed)
    assert agent.told() == ["start"]
    agent.reports({**PRE, "tool_use_id": "t5"}, {**failed, "tool_use_id": "t5"})
    assert agent.told() == ["start", "end", "start", "abandon"]
    ended = agent.events[-1]
    assert isinstance(ended, SkillCompleted)
    assert ended.error_type == "SkillNotLoaded"


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a report of one of few skills, agents and calls."""
    skill = draw(st.sampled_from(["docs", "review"]))
    fields = {
        "tool_name": "Skill",
        "tool_input": {"skill": skill},
        "command_name": skill,
        "prompt": f"/{skill} private",
        "agent_id": draw(st.sampled_from(["", "a1"])),
        "tool_use_id": draw(st.sampled_from(["", "t1", "t2"])),
        "reason": "other",
    }
    way = draw(st.sampled_from([*HOOK_EVENTS, "commit"]))
    return COMMIT if way == "commit" else hook(way, **fields)


@given(st.lists(reports(), max_size=25))
def test_any_reports_in_a_row(drawn: list[dict[str, Any]]) -> None:
    """Each use begins and ends once; an agent has one open at most; after the session's end none is."""
    agent = Agent()
    for report in drawn:
        agent.reports(report)
        starts = [event for event in agent.events if isinstance(event, SkillStarted)]
        ends = [event.invocation_id for event in agent.events if isinstance(event, SkillCompleted)]
        assert len(ends) == len(set(ends))
        assert len(starts) == len({event.invocation_id for event in starts})
        assert set(ends) <= {event.invocation_id for event in starts}
        owners = [event.metadata["agent"] for event in starts if event.invocation_id not in ends]
        assert len(owners) == len(set(owners))
        assert {event.skill_name for event in starts} <= {"docs", "review"}
    agent.reports(hook("SessionEnd", reason="other"))
    words = agent.told()
    assert words.count("start") == words.count("end") + words.count("abandon")


def test_actions_follow_the_latest_skill() -> None:
    """A known command is an action of the agent's latest skill, open or ended; its arguments are not kept."""
    agent = Agent()
    agent.reports(COMMIT)
    assert agent.events == []
    agent.reports(PRE, COMMIT, STOP, COMMIT)
    assert agent.told() == ["start", "then", "end", "then"]
    ended = agent.events[2]
    assert isinstance(ended, SkillCompleted)
    assert ended.follow_up_actions == ("git commit",)


def test_nothing_private_is_kept() -> None:
    """No event contains a word of a prompt, of arguments, of outputs or of paths."""
    for shape, _ in SHAPES:
        agent = Agent()
        agent.reports(OTHER, {**shape, "tool_response": {"stdout": "private"}, "agent_type": "private"}, STOP)
        stored = b"".join(map(encode, agent.events))
        for word in (b"private", b"someone", b"/"):
            assert word not in stored


@pytest.mark.parametrize(
    ("command", "actions"),
    [
        ("git commit -m x", ["git commit"]),
        ("cd a && git add . && git commit -m 'git push'", ["git commit"]),
        ("git add .\ngit commit\ngit push origin main", ["git commit", "git push"]),
        ("git commit; gh pr create | cat", ["git commit", "gh pr"]),
        ("GIT_DIR=$X sudo /usr/bin/git push", ["git push"]),
        ("uv run crackerjack run --fast", ["crackerjack run"]),
        ("python -m crackerjack --ai-fix", ["crackerjack"]),
        ("if true; then git push; fi", ["git push"]),
        ("git commit -m \"$(cat <<'EOF'\ngit push\nEOF\n)\"", ["git commit"]),
        ("cat <<EOF\ngit push\nEOF", []),
        ("echo git commit", []),
        ("echo 'git commit", []),
        ("git commit-graph write", []),
        ("gitcommit", []),
        ("git status", []),
        ("", []),
        ("# git push\n", []),
    ],
)
def test_actions_in_a_command(command: str, actions: list[str]) -> None:
    """The words at the beginning of a command are compared with the list; texts and arguments are not."""
    assert list(actions_in(command, ALLOWED)) == actions


@given(st.text(alphabet=" \n\"'\\$();|&<>#=gitcommit") | st.text())
def test_any_command_is_read(command: str) -> None:
    """Whatever a command is, only actions of the list come out."""
    assert set(actions_in(f"git commit {command}", ALLOWED)) <= set(ALLOWED)
    assert set(actions_in(command, ("", "git", "git commit", "a b c"))) <= {"git", "git commit", "a b c"}
