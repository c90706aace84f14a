"""What a stream can show."""

from __future__ import annotations

import io
import os
import pty
import termios

import pytest

from eventbus.cli.terminal import shows_unicode, terminal_size


@pytest.mark.parametrize(
    ("encoding", "shows"),
    [("utf-8", True), ("UTF-8", True), ("utf-16", True), ("us-ascii", False), ("latin-1", False)],
)
def test_which_characters_a_stream_takes(encoding: str, shows: bool) -> None:
    """Only a stream in an encoding of Unicode takes any character."""
    assert shows_unicode(io.TextIOWrapper(io.BytesIO(), encoding=encoding)) == shows


def test_the_size_of_a_terminal() -> None:
    """A terminal says its size; one that says 0, a file and a closed stream are taken for 80 by 24."""
    parent, child = pty.openpty()
    with os.fdopen(parent), os.fdopen(child, "w") as stream:
        assert terminal_size(stream) == (80, 24)  # it says 0 by 0
        termios.tcsetwinsize(child, (10, 30))
        assert terminal_size(stream) == (30, 10)
        termios.tcsetwinsize(child, (0, 30))
        assert terminal_size(stream) == (80, 24)
    assert terminal_size(stream) == (80, 24)
    assert terminal_size(io.StringIO()) == (80, 24)
