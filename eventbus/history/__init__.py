"""The event log of all processes: read, follow, check, repair and prune it.

`import eventbus` does not import this package.
"""

from eventbus.history.checking import Problem
from eventbus.history.log import EventLog
from eventbus.history.reading import Record
from eventbus.history.repair import Repair
from eventbus.history.retention import PrunedSegment, prune
from eventbus.history.segment_files import SegmentFile
from eventbus.history.stored_lines import Damage
from eventbus.history.tail import Tail
from eventbus.history.writer_lock import is_being_written, pid_space

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
