"""Read back what was persisted: the event log of all processes, and what it tells.

Imported on demand only; `import eventbus` does not load it.
"""

from eventbus.history.checking import Finding
from eventbus.history.log import EventLog
from eventbus.history.reading import Record
from eventbus.history.repair import Repair
from eventbus.history.retention import PrunedSegment, prune
from eventbus.history.segment_files import SegmentFile
from eventbus.history.stored_lines import Damage
from eventbus.history.tail import Following

__all__ = [
    "Damage",
    "EventLog",
    "Finding",
    "Following",
    "PrunedSegment",
    "Record",
    "Repair",
    "SegmentFile",
    "prune",
]
