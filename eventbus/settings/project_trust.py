"""What a project may not do: a pyproject.toml comes with a repository, whose author nobody may know.

The rules, and the reasons for them, are in docs/settings.md.
"""

from __future__ import annotations

from pathlib import Path

from eventbus.events.printable import printable
from eventbus.ground.option_entry import leads_outside
from eventbus.ground.warned_once import warn_once
from eventbus.settings.tables import LOGGER, MAX_PROBLEM

__all__ = ["RETENTION", "is_elsewhere"]

RETENTION = ("keep_days", "keep_bytes")
"""The settings that remove segments: a project decides them for a log within it only."""


def is_elsewhere(directory: Path, project: Path, origin: str | None, *, say_it: bool) -> bool:
    """Return True if the log is not within the project, and log one warning if the project chose that.

    Args:
        directory: The directory of the log.
        project: The directory of the project.
        origin: The place of the setting, for the warning; None for a link in place of the default.
        say_it: True if the user did not choose the directory.
    """
    segments = directory / "events"  # which may be a link as well
    if not leads_outside(segments, project):
        return False
    if say_it:
        problem = (
            f"{origin or project}: the event log is outside of the project, in {segments.resolve()}. "
            "To choose it yourself, set EVENTBUS_DIR or directory in your own config.toml"
        )
        warn_once(LOGGER, printable(problem, MAX_PROBLEM, scrubbed=False))
    return True
