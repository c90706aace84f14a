"""``eventbus prune``: old segments are removed, a segment that is being written stays."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus, NodeCompleted

Program: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def segments(tmp_path: Path) -> list[Path]:
    """Return the segments of a log, last written 40, 20 and 0 days ago."""
    made: list[Path] = []
    for days in (40, 20, 0):
        persister = JsonPersister(tmp_path / "log", keep_days=0)
        written = datetime.now(UTC) - timedelta(days=days)
        with EventBus([persister]) as bus:
            bus.publish(NodeCompleted(workflow_id="w", node_id="n", timestamp=written))
        assert persister.path is not None
        _, rest = persister.path.name.split("-", 1)
        path = persister.path.rename(persister.path.with_name(f"{written:%Y%m%dT%H%M%S.%fZ}-{rest}"))
        os.utime(path, (written.timestamp(), written.timestamp()))
        made.append(path)
    return made


def test_old_segments_are_removed(
    program: Program, cli: Program, segments: list[Path], tmp_path: Path
) -> None:
    """The real program removes and names the segments that were last written before; the others stay."""
    ended = program("prune", "--older-than", "30d", "--dir", tmp_path / "log")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"removed {segments[0].name}: ")
    assert ended.stdout.count("\n") == 1
    assert [path.exists() for path in segments] == [False, True, True]
    again = cli("prune", "--older-than", "30d", "--dir", tmp_path / "log")
    assert (again.returncode, again.stdout) == (0, f"nothing to remove in {tmp_path / 'log'}\n")


def test_a_dry_run_removes_nothing(cli: Program, segments: list[Path], tmp_path: Path) -> None:
    """With --dry-run --json there is an object for each segment to remove, and none is removed."""
    ended = cli("prune", "--older-than", "10d", "--dry-run", "--json", "--dir", tmp_path / "log")
    listed = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [each["path"] for each in listed] == [str(path) for path in segments[:2]]
    assert [each["removed"] for each in listed] == [False, False]
    assert all(path.exists() for path in segments)


def test_a_segment_that_is_being_written_stays(cli: Program, tmp_path: Path) -> None:
    """The segment of a running program stays, even if its last record is old."""
    persister = JsonPersister(tmp_path / "log")
    with EventBus([persister]) as bus:
        bus.publish(NodeCompleted(workflow_id="w", node_id="n"))
        _wait_until_written(persister)
        assert persister.path is not None
        os.utime(persister.path, (0, 0))
        ended = cli("prune", "--older-than", "1d", "--dir", tmp_path / "log")
        assert ended.stdout.startswith("nothing to remove")
        assert persister.path.exists()


def _wait_until_written(persister: JsonPersister) -> None:
    end = time.monotonic() + 10
    while not persister.statistics().written:
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["--older-than", "soon"], 2, "'soon' is not a time"),
        ([], 2, "--older-than"),
        (["--older-than", "30d"], 3, "no event log"),
    ],
)
def test_errors_are_one_line(cli: Program, arguments: list[str], code: int, problem: str) -> None:
    """A wrong age, a missing age and a missing log are one line each."""
    ended = cli("prune", *arguments)
    assert ended.returncode == code
    assert problem in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1


def test_unshipped_segments_are_counted(cli: Program, segments: list[Path], tmp_path: Path) -> None:
    """`eventbus prune` says how many segments it keeps as they are not shipped yet, and what was lost."""
    (tmp_path / "log" / "shipped.json").write_text('{"stream":"EVENTBUS"}')
    ended = cli("prune", "--older-than", "15d", "--dry-run", "--dir", tmp_path / "log")
    assert ended.stdout.startswith(f"would remove {segments[0].name}: ")
    assert ended.stdout.endswith(" days ago, not shipped yet\n")
    assert ended.stderr == (
        "note: 1 segment is kept: not shipped yet. If the log is not shipped any more, "
        "remove shipped.json in it\n"
    )
