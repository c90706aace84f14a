"""Events as blocks of numbered, scrubbed lines: what the persister writes in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from eventbus.events import Event, EventsLost
from eventbus.events.redaction import scrubbed_lines
from eventbus_subscribers.numbered_lines import numbered

__all__ = ["Block", "numbered_blocks"]


class Block(msgspec.Struct, frozen=True, gc=False):
    """Lines with consecutive numbers.

    Attributes:
        lines: The lines, each with its line feed.
        line_count: How many lines.
        first_seq: The number of the first line.
    """

    lines: bytes
    line_count: int
    first_seq: int

    @property
    def last_seq(self) -> int:
        """The number of the last line."""
        return self.first_seq + self.line_count - 1


def numbered_blocks(events: Sequence[Event], last_seq: int, *, has_losses: bool) -> list[Block]:
    """Return the events as blocks: one, unless events were lost in between.

    Args:
        events: At least one.
        last_seq: The number before the first.
        has_losses: Whether `EventsLost` may be among them. Before each, as many numbers are left out
            as events were lost.
    """
    if not has_losses:
        return [_numbered_block(events, last_seq + 1)]
    blocks: list[Block] = []
    for run in _split_at_losses(events):
        first = run[0]
        last_seq += max(0, first.count) if isinstance(first, EventsLost) else 0
        blocks.append(_numbered_block(run, last_seq + 1))
        last_seq = blocks[-1].last_seq
    return blocks


def _numbered_block(events: Sequence[Event], first_seq: int) -> Block:
    return Block(numbered(scrubbed_lines(events), first_seq), len(events), first_seq)


def _split_at_losses(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Yield the events in runs; each `EventsLost` begins one."""
    start = 0
    for index, event in enumerate(events):
        if index and isinstance(event, EventsLost):
            yield events[start:index]
            start = index
    yield events[start:]
