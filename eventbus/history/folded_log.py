"""Fold a whole log at once, without an index: the fastest way to all figures, where there is no index yet."""

from __future__ import annotations

from typing import Any

from eventbus.correlation import CorrelatedFigures
from eventbus.history.index_state import is_current
from eventbus.history.indexing import MAX_REMEMBERED, time_of
from eventbus.history.log import EventLog
from eventbus.history.merging import Chain, merge
from eventbus.history.raw_decoding import decode_mirrors, mirrored
from eventbus.history.reading import Reader, _without_header
from eventbus.history.segment_files import chains
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Block

__all__ = ["fold_log"]

_MAX_SESSIONS = 60_000
"""More of them are not held in memory: about 2 kB each."""
_EVERYTHING = Selection()


def fold_log(log: EventLog) -> CorrelatedFigures | None:
    """Return the figures of all sessions of a log.

    Returns:
        None where the index does it better: there is one, up to date, or there are too many sessions.

    Raises:
        OSError: The log's directory is there and cannot be read.
    """
    if is_current(log):
        return None
    correlation = CorrelatedFigures(_MAX_SESSIONS, MAX_REMEMBERED)
    correlation.read_as(mirrored())
    for events in merge(Chain(each, _decode, time_of, log._on_damage) for each in chains(log.segments())):
        correlation.add_all(events)
        if correlation.evicted:
            return None
    return correlation


def _decode(reader: Reader, block: Block) -> list[Any]:
    block = _without_header(block)
    mirrors = None if block.is_tail else decode_mirrors(block.data)
    return reader.events(block, _EVERYTHING) if mirrors is None else mirrors
