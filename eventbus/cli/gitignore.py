"""Keep the event log out of the commits of the project that it observes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["create_ignored_directory"]


def create_ignored_directory(directory: Path) -> None:
    """Create the log's directory with a ``.gitignore`` that covers all of it.

    A directory that exists is left as it is. One that cannot be created is reported by the
    subscriber that writes there.
    """
    with suppress(OSError):
        directory.mkdir(mode=0o700, parents=True)
        (directory / ".gitignore").write_text("*\n", "utf-8")
