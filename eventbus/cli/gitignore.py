"""Keep a log that a command makes within a project out of that project."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["keep_out_of_git"]


def keep_out_of_git(directory: Path) -> None:
    """Make the log's directory, if it is not there, so that git does not see it.

    A log must not turn up in the commits of the project it watches. One that is there already is
    left as it is; what cannot be made is told by whoever writes there.
    """
    with suppress(OSError):
        directory.mkdir(mode=0o700, parents=True)
        (directory / ".gitignore").write_text("*\n", "utf-8")
