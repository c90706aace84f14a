"""Detached skills: invocations that begin, go on and end in different processes.

    skills = DetachedSkills(load_settings())
    started = skills.start("crackerjack-run", "daily", session_id="abc123")
    ...                                                   # the process is gone
    skills = DetachedSkills(load_settings())
    use = skills.find(started.invocation_id)
    skills.end(use, follow_up_actions=["git commit"])

All state is in the log. Ends that are repeated, and two processes that end one invocation at once, count
once: the second finds the first, or correlation does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eventbus.detached_skills.appending import appending
from eventbus.detached_skills.skill_uses import (
    SkillUse,
    completion,
    is_of_this_terminal,
    missing_actions,
    new_start,
    of_use,
    use_of,
)
from eventbus.events import SkillEvent, SkillFollowedUp, SkillStarted
from eventbus.events.outcomes import DETACHED
from eventbus.history.skill_segments import SkillSegments, digest, events_with
from eventbus.settings import Settings

__all__ = ["DetachedSkills", "session_of_terminal", "tag_of_invocation"]

_MAX_LATEST = 32


class DetachedSkills:
    """The detached skills of a log.

    Args:
        settings: The settings of the log.

    Raises:
        OSError: The log's directory exists and cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._segments = SkillSegments(settings.directory)

    def start(self, skill_name: str, workflow_path: str | None, session_id: str) -> SkillStarted:
        """Begin an invocation.

        Raises:
            OSError: It cannot be stored.
            PluginError: The log is disabled.
        """
        started = new_start(skill_name, workflow_path, session_id, {DETACHED: True})
        self._append(started)
        return started

    def find(self, invocation_id: str) -> SkillUse | None:
        """Return an invocation; None if the log has no start of it."""
        events = self._segments.events_of(invocation_id, tag_of_invocation(invocation_id))
        return use_of(events)

    def latest_open(self) -> SkillUse | None:
        """Return the latest open skill that was started in this terminal; None without one."""
        tags = self._segments.tags("s", len(tag_of_invocation("")))
        for tag in tags[:_MAX_LATEST]:
            paths = [path for _, path in reversed(self._segments.latest_first(tag))]
            use = use_of(event for path in paths for event in events_with(path))
            if use is not None and use.ended is None and is_of_this_terminal(use.started):
                return use
        return None

    def follow_up(self, use: SkillUse, actions: Iterable[str]) -> None:
        """Add actions to an invocation, whether it has ended or not; exceptions are those of `start`."""
        events = [of_use(use.started, SkillFollowedUp, action=action) for action in actions]
        if events:
            self._append(*events)

    def end(
        self,
        use: SkillUse,
        *,
        completed: bool = True,
        follow_up_actions: Sequence[str] = (),
        error_type: str | None = None,
    ) -> bool:
        """End an invocation, unless it has ended; exceptions are those of `start`.

        Returns:
            False if it had ended: then only those actions are added that it does not have yet.
        """
        if use.ended is not None:
            self.follow_up(use, missing_actions(follow_up_actions, use.actions))
            return False
        actions = (*use.follow_ups, *follow_up_actions)
        self._append(completion(use.started, completed, actions, error_type))
        return True

    def _append(self, *events: SkillEvent) -> None:
        writer_id = self._segments.new_writer_id(tag_of_invocation(events[0].invocation_id))
        with appending(self._settings, writer_id) as appender:
            appender.append(events)


def tag_of_invocation(invocation_id: str) -> str:
    """Return the tag of the segments with an invocation's events."""
    return f"s{digest(invocation_id)}"


def session_of_terminal(settings: Settings) -> str | None:
    """Return the session of the latest open skill that was started in this terminal; None without one.

    A command that a shell runs after ``id=$(eventbus skill start ...)`` so is in the session of that skill,
    although a child cannot set its shell's environment.

    Args:
        settings: The settings of the log.
    """
    try:
        use = DetachedSkills(settings).latest_open()
    except OSError:  # the log cannot be read: the persister says so
        return None
    return None if use is None else use.started.session_id
