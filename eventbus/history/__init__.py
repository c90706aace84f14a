"""The event log of all processes: read, follow, check, repair and prune it.

`import eventbus` does not import this package.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventbus.history.checking import Problem
    from eventbus.history.log import EventLog
    from eventbus.history.reading import Record
    from eventbus.history.repair import Repair
    from eventbus.history.retention import PrunedSegment, prune
    from eventbus.history.segment_files import SegmentFile
    from eventbus.history.stored_lines import Damage
    from eventbus.history.tail import Tail
    from eventbus.history.writer_lock import is_being_written, pid_space
else:
    from eventbus.ground.lazy_names import lazy_names

    # Not imported here: a hook of an agent needs two small modules of the ten.
    __getattr__ = lazy_names(
        globals(),
        {
            "Problem": "checking",
            "EventLog": "log",
            "Record": "reading",
            "Repair": "repair",
            "PrunedSegment": "retention",
            "prune": "retention",
            "SegmentFile": "segment_files",
            "Damage": "stored_lines",
            "Tail": "tail",
            "is_being_written": "writer_lock",
            "pid_space": "writer_lock",
        },
    )


__all__ = [
    "Damage",
    "EventLog",
    "Problem",
    "PrunedSegment",
    "Record",
    "Repair",
    "SegmentFile",
    "Tail",
    "is_being_written",
    "pid_space",
    "prune",
]
