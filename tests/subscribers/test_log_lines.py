"""Lines on their way to a segment are numbered, and kept within bounds."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest
from eventbus_subscribers.blocks import Block, numbered_blocks
from eventbus_subscribers.numbered_lines import numbered
from eventbus_subscribers.pending_lines import PendingLines

from eventbus import Event
from tests.subscribers.examples import STARTED, lost


@pytest.mark.parametrize("first", [1, 9, 990, 999, 1_000, 1_001, 999_990, 1_000_000, 123_456_789])
@pytest.mark.parametrize("count", [0, 1, 2, 15, 2_500])
def test_lines_are_numbered(first: int, count: int) -> None:
    """Each line begins with its number, one more than the line before; the rest is unchanged."""
    lines = b"".join([b'{"a":"%d\\n{"}\n' % number for number in range(count)])
    result = numbered(lines, first)
    assert result == b"".join(
        [b'{"seq":%d,"a":"%d\\n{"}\n' % (first + number, number) for number in range(count)]
    )
    assert [json.loads(line)["seq"] for line in result.splitlines()] == list(range(first, first + count))


@pytest.mark.parametrize(
    ("events", "numbers"),
    [
        ([STARTED] * 3, [[11, 12, 13]]),
        ([STARTED, lost(5), STARTED], [[11], [17, 18]]),
        ([lost(5), STARTED], [[16, 17]]),
        ([lost(1), lost(2)], [[12], [15]]),
        ([lost(-3), STARTED], [[11, 12]]),
    ],
)
def test_events_become_blocks_of_consecutive_numbers(events: list[Event], numbers: list[list[int]]) -> None:
    """Each `EventsLost` begins a block, before which as many numbers are left out as events were lost."""
    blocks = list(numbered_blocks(events, 10, has_losses=True))
    assert [[json.loads(line)["seq"] for line in block.lines.splitlines()] for block in blocks] == numbers
    assert [(block.first_seq, block.last_seq) for block in blocks] == [
        (each[0], each[-1]) for each in numbers
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_oldest_lines_are_dropped_first(seed: int) -> None:
    """After any sequence of adding and dropping, the newest lines are left, in order and numbered."""
    rng = random.Random(seed)
    pending, model, seq = PendingLines(), list[tuple[int, bytes]](), 0

    def size_of(lines: list[tuple[int, bytes]]) -> int:
        return sum(len(line) for _, line in lines)

    for step in range(3_000):
        if rng.random() < 0.5:
            lines = [b"%d" % step + b"x" * rng.randrange(20) + b"\n" for _ in range(rng.randrange(1, 6))]
            seq += rng.randrange(3)
            pending.add(Block(b"".join(lines), len(lines), seq))
            model += enumerate(lines, seq)
            seq += len(lines)
        elif rng.random() < 0.5 and model:
            count = rng.randrange(len(model)) if len(model) < 4 else rng.randrange(4)
            assert pending.drop(size_of(model[:count])) == count
            del model[:count]
        else:
            max_count, max_size = rng.randrange(20), rng.randrange(200)
            lost_lines = pending.drop_oldest(max_count=max_count, max_size=max_size)
            before = len(model)
            while len(model) > max_count or size_of(model) > max_size:
                del model[0]
            assert lost_lines == before - len(model)
        assert (pending.count, pending.size) == (len(model), size_of(model))
        if model:
            first = pending.first_block()
            numbers, texts = zip(*model[: first.line_count], strict=True)
            assert (first.lines, first.first_seq) == (b"".join(texts), numbers[0])
            assert all(after == before + 1 for before, after in pairwise(numbers))
