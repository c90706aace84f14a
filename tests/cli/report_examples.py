"""Commands that read a log, and events and times for the logs that they must survive."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from eventbus.events import Event, SkillCompleted, SkillStarted
from tests.history.log_examples import START

FORMATS = ("correlation", "skill-metrics", "workflow-events", "session-buddy", "perfetto", "otlp")
OF_SESSIONS = [
    ["sessions"],
    ["sessions", "--json"],
    ["report"],
    ["report", "--json"],
    ["stats"],
    ["stats", "--json"],
    ["show"],
    ["show", "sound"],
    ["show", "sound", "--events"],
    ["show", "sound", "--json"],
    *(["export", "--format", each] for each in FORMATS),
]
COMMANDS = [
    *OF_SESSIONS,
    ["cat"],
    ["cat", "--format", "text"],
    ["cat", "--format", "csv"],
    ["cat", "--format", "cloudevents"],
    ["doctor"],
    ["doctor", "--json"],
]
TIMES = [
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "\\u0030001-01-01T00:00:00+23:59",
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59",
    "2026-01-01T00:00:00+99:99",
]


def skill(session: str = "sound", number: int = 1, **fields: Any) -> list[Event]:
    """Return a skill that began and completed."""
    ids: dict[str, Any] = {"session_id": session, "skill_name": "x", "invocation_id": f"{session}-{number}"}
    times = START + timedelta(seconds=number), START + timedelta(seconds=number + 1)
    return [
        SkillStarted(**ids, timestamp=times[0]),
        SkillCompleted(**ids, timestamp=times[1], duration_seconds=1.0, **fields),
    ]
