"""Read back what was persisted: the event log of all processes, and what it tells.

Imported on demand only; `import eventbus` does not load it.
"""

from eventbus.history.examination import Finding
from eventbus.history.following import Following
from eventbus.history.log import EventLog
from eventbus.history.reading import Record
from eventbus.history.repair import Repair
from eventbus.history.segment_files import SegmentFile
from eventbus.history.stored_lines import Damage

__all__ = ["Damage", "EventLog", "Finding", "Following", "Record", "Repair", "SegmentFile"]
