"""The block at the end of a run, when it cannot be shown."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

import eventbus.cli.session_screen
from eventbus.cli.run_ending import Ending
from eventbus.events import WorkflowCompleted, WorkflowStarted
from eventbus.settings import Settings


@pytest.fixture
def ending(tmp_path: Path) -> Ending:
    """Return the ending of a run that succeeded."""
    ending = Ending(Settings(directory=tmp_path))
    ending.add(WorkflowStarted(session_id="s", workflow_id="make", run_id="r"))
    ending.add(WorkflowCompleted(session_id="s", workflow_id="make", run_id="r", duration_seconds=1.0))
    return ending


def test_the_block_is_printed_to_stderr(ending: Ending, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict of a run is on stderr, and nothing on stdout."""
    ending.print()
    out, errors = capsys.readouterr()
    assert (out, "make succeeded in 1.0s" in errors) == ("", True)


def test_what_fails_in_the_block_is_a_note(
    ending: Ending, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in the block is one note, and the exit code of the run stays its own."""
    monkeypatch.setattr(eventbus.cli.session_screen, "session_lines", Mock(side_effect=KeyError("defect")))
    ending.print()
    assert capsys.readouterr().err.endswith("note: the end of the run cannot be shown: 'defect'\n")
