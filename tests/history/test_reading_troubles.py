"""Reading a log whose files are moved, replaced or unreadable meanwhile."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eventbus.history import Damage, EventLog, merging
from tests.history.log_examples import START, Segments, stored


@pytest.fixture(autouse=True)
def _blocks_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "BLOCK_BYTES", 1_000)
    monkeypatch.setattr(merging, "_SMALLEST_BLOCK", 1_000)
    monkeypatch.setattr(merging, "_PAUSE_SECONDS", 0.001)


def on_nth_pause(monkeypatch: pytest.MonkeyPatch, count: int, action: Callable[[], object]) -> None:
    """Do something when a reader waits for the nth time."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == count:
            action()

    monkeypatch.setattr(time, "sleep", pause)


def test_a_directory_that_is_away_while_it_is_read(
    tmp_path: Path, segment: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader waits for a directory that is moved away and back, and loses nothing."""
    reported: list[Damage] = []
    directory = segment(b"".join(map(stored, range(1, 101)))).parent
    reading = EventLog(tmp_path, on_damage=reported.append).records()
    numbers = [next(reading).seq]
    hidden = directory.rename(tmp_path / "hidden")
    on_nth_pause(monkeypatch, 3, lambda: hidden.rename(directory))
    assert numbers + [record.seq for record in reading] == list(range(1, 101))
    assert reported == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("passes", [True, False])
def test_a_file_that_cannot_be_read(
    tmp_path: Path, segment: Segments, monkeypatch: pytest.MonkeyPatch, number: int, passes: bool
) -> None:
    """An error that passes costs nothing; one that stays costs the rest of its segment, and is reported."""
    reported: list[Damage] = []
    path = segment(b"".join(map(stored, range(1, 101))))
    segment(stored(101), first_seq=101, start=START + timedelta(hours=1))
    real: Callable[..., Any] = os.open

    def fails(name: Any, *args: Any) -> Any:
        if Path(name) == path:
            raise OSError(number, os.strerror(number))
        return real(name, *args)

    reading = EventLog(tmp_path, on_damage=reported.append).records()
    numbers = [next(reading).seq]
    monkeypatch.setattr(merging, "_PATIENCE_SECONDS", 20 if passes else 0.01)
    monkeypatch.setattr(os, "open", fails)
    if passes:
        on_nth_pause(monkeypatch, 3, lambda: monkeypatch.setattr(os, "open", real))
    numbers += [record.seq for record in reading]
    assert (numbers == list(range(1, 102))) == passes
    assert numbers[-1] == 101
    assert [damage.path for damage in reported] == [path] * (not passes)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_that_is_replaced_while_it_is_read_is_reported(
    tmp_path: Path, segment: Segments, in_place: bool
) -> None:
    """Bytes of another file are never read on from a position of the first one."""
    reported: list[Damage] = []
    path = segment(b"".join(map(stored, range(1, 101))))
    reading = EventLog(tmp_path, on_damage=reported.append).records()
    next(reading)
    other = tmp_path / "other"
    other.write_bytes(path.read_bytes().replace(b'"workflow_id":"w"', b'"workflow_id":"other"'))
    if in_place:
        path.write_bytes(other.read_bytes())
    else:
        other.replace(path)
    assert all(b"other" not in record.line for record in reading)
    assert [(damage.path, "replaced" in damage.reason) for damage in reported] == [(path, True)]


def test_a_deleted_segment_ends_there(tmp_path: Path, segment: Segments) -> None:
    """A segment that is pruned while it is read is not reported."""
    reported: list[Damage] = []
    path = segment(b"".join(map(stored, range(1, 101))))
    reading = EventLog(tmp_path, on_damage=reported.append).records()
    next(reading)
    path.unlink()
    assert len(list(reading)) < 99
    assert reported == []
