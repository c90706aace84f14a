"""The commands of the program: what the help says of each, and the function that does its work."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

__all__ = ["COMMANDS", "SECTIONS", "Command", "Group", "every_command"]

_DONE = {"0": "ok", "1": "not done, or with problems"}
_USAGE = {"2": "wrong usage, or a wrong setting"}
_SIGNALS = {"130": "interrupted, as by Ctrl-C; 143: terminated"}
_READS = {
    "1": "the output cannot be written; with --remote: the server cannot be reached, or refuses",
    "3": "there is no event log, or no such session",
    "4": "damaged parts of the log were skipped; all else was done",
}
_OF_CHILD = {"n": "the command's own; 128 + n: signal n ended it; 127: it was not found"}


class Command(NamedTuple):
    """A command of the program: a function of its name, in a module that is imported when it runs.

    Attributes:
        name: The word to type.
        summary: The first sentence of its help, for the list of commands.
        module: The module of `eventbus.cli` with the function, if not of the same name.
        passes_options_on: True if options that it does not know are arguments for another program.
        function: The function, if not of the same name.
        examples: Lines that can be typed, for its help.
        own_ends: What its exit codes mean, beside those of every command, or in place of them.
    """

    name: str
    summary: str
    module: str | None = None
    passes_options_on: bool = False
    function: str | None = None
    examples: tuple[str, ...] = ()
    own_ends: Mapping[str, str] = {}

    def load(self) -> Callable[..., int]:
        """Return the function."""
        module = importlib.import_module(f"eventbus.cli.{self.module or self.name}")
        return getattr(module, self.function or self.name)  # type: ignore[no-any-return]

    @property
    def ends(self) -> dict[str, str]:
        """What its exit codes mean."""
        if "n" in self.own_ends:  # another program's
            return {"n": self.own_ends["n"], **_USAGE, **self.own_ends}
        return {**_DONE, **_USAGE, **_SIGNALS, **self.own_ends}


class Group(NamedTuple):
    """Commands that begin with the same word.

    Attributes:
        name: The word to type before theirs.
        summary: What they are for.
        commands: The commands.
    """

    name: str
    summary: str
    commands: tuple[Command, ...]


_SKILL = Group(
    "skill",
    "Track a skill from a shell: start it, follow it up, end it.",
    (
        Command(
            "start",
            "Begin a skill, and print the id of this use of it.",
            "skill_commands",
            examples=("id=$(eventbus skill start release)",),
        ),
        Command(
            "follow-up",
            "Add an action that was taken next.",
            "skill_commands",
            function="follow_up",
            examples=("eventbus skill follow-up $id 'git commit'",),
            own_ends={"3": "no skill was started as ID"},
        ),
        Command(
            "complete",
            "End a skill as completed.",
            "skill_commands",
            examples=("eventbus skill complete $id --follow-up 'git push'",),
            own_ends={"3": "no skill was started as ID"},
        ),
        Command(
            "abandon",
            "End a skill as not completed.",
            "skill_commands",
            examples=("eventbus skill abandon $id --error-type Timeout",),
            own_ends={"3": "no skill was started as ID"},
        ),
        Command(
            "run",
            "Run a command as a use of a skill.",
            "skill_commands",
            examples=("eventbus skill run release -- make check",),
            own_ends=_OF_CHILD,
        ),
        Command(
            "list",
            "List the skills that are open.",
            "skill_commands",
            function="list_open",
            examples=("eventbus skill list", "eventbus skill list --json | jq -r .invocation_id"),
            own_ends=_READS,
        ),
    ),
)
_HOOK = Group(
    "hook",
    "Observe the skills of an agent through its hooks.",
    (
        Command(
            "claude-code",
            "Record the skills that Claude Code uses.",
            "hook_command",
            function="claude_code",
            examples=("eventbus hook claude-code --install",),
        ),
    ),
)
SECTIONS: Mapping[str, tuple[Command | Group, ...]] = {
    "run and observe": (
        Command(
            "demo",
            "Check a Python project with a small workflow, shown live.",
            examples=("eventbus demo", "eventbus demo ~/project --progress json"),
            own_ends={"1": "the workflow found problems", "3": "DIR is not a directory"},
        ),
        Command(
            "run",
            "Run a command, and record it as a workflow run.",
            "run_command",
            examples=("eventbus run -- make test",),
            own_ends=_OF_CHILD,
        ),
        Command(
            "crackerjack",
            "Run crackerjack, unmodified, and record what it does.",
            "crackerjack_command",
            passes_options_on=True,
            examples=("eventbus crackerjack run --fast",),
            own_ends={"n": "crackerjack's own", "3": "crackerjack is not installed"},
        ),
        Command(
            "watch",
            "Watch a session until it ends.",
            examples=("eventbus watch", "eventbus watch --wait && deploy"),
            own_ends={
                "0": "it succeeded",
                "1": "it failed, or its process is gone",
                "3": "there is no such session, or with --once no event log",
                "130": "it was cancelled, or you left with q or Ctrl-C; 143: terminated",
            },
        ),
        _SKILL,
        _HOOK,
    ),
    "look back": (
        Command(
            "sessions",
            "List the sessions of the log, the latest first.",
            "session_list",
            examples=("eventbus sessions", "eventbus sessions --limit 0 --json | jq -r .session_id"),
            own_ends=_READS,
        ),
        Command(
            "show",
            "Show one session: what ran, how long, and what failed.",
            examples=("eventbus show", "eventbus show 04f0 --events"),
            own_ends=_READS,
        ),
        Command(
            "report",
            "Print the correlation report, the latest session first.",
            "correlation_report",
            examples=("eventbus report", "eventbus report 04f0 --html page.html"),
            own_ends=_READS,
        ),
        Command(
            "stats",
            "Print what ran in the last 7 days, how often it failed, and what became slower.",
            "log_statistics",
            examples=("eventbus stats", "eventbus stats tests"),
            own_ends=_READS,
        ),
        Command(
            "cat",
            "Print the stored events in order, one per line.",
            examples=("eventbus cat --type NodeEvent --since 24h", "eventbus cat -f | jq .event_type"),
            own_ends=_READS,
        ),
        Command(
            "export",
            "Export sessions in the formats of other programs.",
            examples=("eventbus export 04f0 --format perfetto --output trace.json.gz",),
            own_ends=_READS,
        ),
        Command(
            "mcp",
            "Answer agents' questions about the log, by the Model Context Protocol.",
            "mcp_command",
            examples=("claude mcp add eventbus -- eventbus mcp",),
        ),
    ),
    "set up and maintain": (
        Command(
            "plugins",
            "List the installed plugins.",
            "plugin_list",
            examples=("eventbus plugins", "eventbus plugins check slow_nodes"),
            own_ends={"1": "some cannot be used, or the check found something"},
        ),
        Command(
            "config",
            "Print every setting, its value, and the place that decided it.",
            "config_command",
            examples=("eventbus config", "eventbus config --json | jq -r 'select(.from != \"default\")'"),
            own_ends={"1": "there are problems: the lines with !"},
        ),
        Command(
            "schema",
            "Print the JSON Schema of the lines of an event log.",
            "schema_command",
            examples=("eventbus schema > lines.schema.json", "eventbus schema node_completed"),
            own_ends={"3": "there is no event type TYPE"},
        ),
        Command(
            "completion",
            "Print the script with which a shell completes the words of eventbus.",
            "completion_command",
            examples=('eval "$(eventbus completion bash)"', "eventbus completion fish | source"),
        ),
        Command(
            "doctor",
            "Check the event log, and list its problems.",
            examples=("eventbus doctor", "eventbus doctor --repair"),
            own_ends={
                "1": "it found problems",
                "3": "there is no event log",
                "4": "it found damage, which readers skip",
            },
        ),
        Command(
            "ship",
            "Ship the event log to a server, for other machines to read.",
            "ship_command",
            examples=("eventbus ship", "eventbus ship --once --create"),
            own_ends={"1": "with --once: the server has not acknowledged everything"},
        ),
        Command(
            "prune",
            "Remove old segments of the event log.",
            examples=("eventbus prune --older-than 30d --dry-run",),
            own_ends={"3": "there is no event log"},
        ),
    ),
}
"""All commands, in the order of the help, under its headings."""

COMMANDS = tuple(each for section in SECTIONS.values() for each in section if isinstance(each, Command))


def every_command() -> Iterator[tuple[str, Command]]:
    """Yield each command with the words to type, those of groups too."""
    for section in SECTIONS.values():
        for each in section:
            if isinstance(each, Command):
                yield each.name, each
            else:
                yield from ((f"{each.name} {command.name}", command) for command in each.commands)
