"""The figures of a session as one line of JSON."""

from __future__ import annotations

import msgspec

from eventbus.correlation import CorrelatedSession
from eventbus.ground.session_names import spell

__all__ = ["session_line"]

_RECORDS = ("skill_invocations", "workflow_events", "records_dropped")


def session_line(session: CorrelatedSession, **more: object) -> str:
    """Return a session's figures, without its records, and more of them, as one line of JSON."""
    names = (name for name in session.__struct_fields__ if name not in _RECORDS)
    figures = {name: getattr(session, name) for name in names}
    shown = {"session_id": spell(session.session_id), "outcome": session.outcome}
    return msgspec.json.encode(figures | shown | more).decode()
