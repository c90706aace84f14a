"""Write a file whole or not at all: a reader never sees half of it, and a crash leaves the old one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["make_private_directory", "write_atomically"]


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace a file by one of mode 0600 with this content; its directory is made if necessary.

    A symbolic link is followed. A device or FIFO is written in place: replacing it would harm others.

    Args:
        path: The file.
        content: The content, or its parts in order. If producing a part raises, nothing is written and
            the exception is passed on.

    Raises:
        OSError: The file cannot be written; the old one is unchanged.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        # Before the link is resolved: /dev/stdout may lead to a pipe, which has no path.
        _write_in_place(path, content)
        return
    path = Path(os.path.realpath(path))
    make_private_directory(path.parent)
    # In the same directory, because a rename is atomic only within a file system. mkstemp makes it 0600.
    descriptor, partial = tempfile.mkstemp(prefix=".eventbus-", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise


def _write_in_place(path: Path, content: bytes | Iterable[bytes]) -> None:
    parts = [content] if isinstance(content, bytes) else list(content)  # whole, or nothing is written
    with path.open("wb") as file:
        file.writelines(parts)


def make_private_directory(directory: Path) -> None:
    """Make a directory and those above it; new ones get mode 0700.

    Raises:
        OSError: It cannot be made.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):  # `mkdir(parents=True)` sets the mode of the last one only
        each.mkdir(mode=0o700, exist_ok=True)
