"""Write a file whole or not at all: nobody ever reads half of it, and a crash leaves the old one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["make_private_directory", "write_atomically"]


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace a file by one of mode 0600 with this content, making its directory if there is none.

    Args:
        path: The file.
        content: All of it, or its parts one after the other; where getting one of them raises,
            that comes out, and nothing is written.

    Raises:
        OSError: It cannot be written; what was there is untouched.
    """
    make_private_directory(path.parent)
    # In the same directory: only within one file system is a rename atomic. mkstemp makes it 0600.
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


def make_private_directory(directory: Path) -> None:
    """Make a directory and those above it, of mode 0700 where they are new; others stay as they are.

    Raises:
        OSError: It cannot be made.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):  # `mkdir(parents=True)` gives the mode to the last one only
        each.mkdir(mode=0o700, exist_ok=True)
