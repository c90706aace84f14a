"""Lines on their way to a segment: numbered, and kept within bounds."""

from __future__ import annotations

import json
import random

import pytest
from eventbus_subscribers.numbered_lines import numbered
from eventbus_subscribers.pending_lines import PendingLines


@pytest.mark.parametrize("first", [1, 9, 990, 999, 1_000, 1_001, 999_990, 1_000_000, 123_456_789])
@pytest.mark.parametrize("count", [0, 1, 2, 15, 2_500])
def test_lines_are_numbered(first: int, count: int) -> None:
    """Each line begins with its number, one more than the line before has; the rest is as it was."""
    lines = b"".join([b'{"a":"%d\\n{"}\n' % number for number in range(count)])
    result = numbered(lines, first)
    assert result == b"".join(
        [b'{"seq":%d,"a":"%d\\n{"}\n' % (first + number, number) for number in range(count)]
    )
    assert [json.loads(line)["seq"] for line in result.splitlines()] == list(range(first, first + count))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_dropped_is_what_came_first(seed: int) -> None:
    """Whatever is added and dropped, in blocks of any size: what is left is the newest, in order, counted."""
    rng = random.Random(seed)
    pending, model = PendingLines(), list[bytes]()
    for step in range(3_000):
        if rng.random() < 0.5:
            lines = [b"%d" % step + b"x" * rng.randrange(20) + b"\n" for _ in range(rng.randrange(1, 6))]
            pending.add(b"".join(lines), len(lines))
            model += lines
        elif rng.random() < 0.5 and model:
            count = rng.randrange(len(model)) if len(model) < 4 else rng.randrange(4)
            assert pending.drop(len(b"".join(model[:count]))) == count
            del model[:count]
        else:
            max_count, max_size = rng.randrange(20), rng.randrange(200)
            lost = pending.drop_oldest(max_count=max_count, max_size=max_size)
            before = list(model)
            while len(model) > max_count or len(b"".join(model)) > max_size:
                del model[0]
            assert lost == len(before) - len(model)
        assert (pending.count, pending.size) == (len(model), len(b"".join(model)))
        if model:
            assert b"".join(model).startswith(pending.first_block())
