"""Write a file whole or not at all: a reader never sees half of it, and a crash leaves the old one."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["make_private_directory", "write_atomically"]

_DESCRIPTORS = re.compile(r"/dev/fd|/proc/(\d+)(/task/\d+)?/fd")
_MAX_LINKS = 40


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace a file by one of mode 0600 with this content; its directory is made if necessary.

    A symbolic link is followed. A device, a FIFO, and an open file that is named by its descriptor, as by
    ``/dev/stdout``, is written in place, part by part: replacing it would harm others.

    Args:
        path: The file.
        content: The content, or its parts in order. If producing a part raises, a file is not replaced,
            and the exception is passed on.

    Raises:
        OSError: The file cannot be written, or it is write-protected; the old one is unchanged.
    """
    import tempfile  # noqa: PLC0415 - a twentieth of importing eventbus; most programs never write such a file

    parts = [content] if isinstance(content, bytes) else content
    descriptor = _open_in_place(path)
    if descriptor is not None:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
        return
    path = Path(os.path.realpath(path))
    _check_replaceable(path)
    make_private_directory(path.parent)
    # In the same directory, because a rename is atomic only within a file system. mkstemp makes it 0600.
    descriptor, partial = tempfile.mkstemp(prefix=".eventbus-", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise


def _open_in_place(path: Path) -> int | None:
    """Return an open descriptor of what must not be replaced; None for a file, or where nothing is."""
    # Before links are resolved: /dev/stdout may lead to a pipe, which has no path, or to a file that
    # others append to, and a new descriptor of that would write over its beginning.
    descriptor = _open_descriptor(path)
    if descriptor is not None or not path.exists() or path.is_file() or path.is_dir():
        return descriptor
    return os.open(path, os.O_WRONLY)


def _open_descriptor(path: Path) -> int | None:
    """Open what a path such as ``/dev/stdout`` or ``/proc/self/fd/3`` names by its descriptor."""
    for _ in range(_MAX_LINKS):
        found = _DESCRIPTORS.fullmatch(os.path.realpath(path.parent))
        if found and path.name.isdecimal():
            is_ours = found[1] is None or int(found[1]) == os.getpid()
            return os.dup(int(path.name)) if is_ours else os.open(path, os.O_WRONLY | os.O_APPEND)
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return None


def _check_replaceable(path: Path) -> None:
    try:
        mode = path.stat(follow_symlinks=False).st_mode
    except OSError:  # there is nothing; or making the new file fails for the same reason
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISLNK(mode):  # of a circle, which has no end
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def make_private_directory(directory: Path) -> None:
    """Make a directory and those above it; new ones get mode 0700.

    Raises:
        OSError: It cannot be made.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):  # `mkdir(parents=True)` sets the mode of the last one only
        each.mkdir(mode=0o700, exist_ok=True)
