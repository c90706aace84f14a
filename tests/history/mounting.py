"""Mount file systems in memory, where this is allowed."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["may_mount", "mount", "remount", "unmount"]

_READ_ONLY, _REMOUNT = 1, 32
_DETACH = 2


def mount(directory: Path) -> None:
    """Mount an empty file system in memory over a directory."""
    _call("mount", b"tmpfs", bytes(directory), b"tmpfs", ctypes.c_ulong(0), b"size=16m")


def remount(directory: Path, *, read_only: bool) -> None:
    """Let a mounted file system be read only, or not any more; busy if a file is open for writing."""
    flags = ctypes.c_ulong(_REMOUNT | (_READ_ONLY if read_only else 0))
    _call("mount", b"tmpfs", bytes(directory), b"tmpfs", flags, None)


def unmount(directory: Path) -> None:
    """Remove a file system, also if it is in use."""
    _call("umount2", bytes(directory), _DETACH)


@cache
def may_mount() -> bool:
    """Return True if this process may mount file systems."""
    if sys.platform != "linux":
        return False
    with tempfile.TemporaryDirectory(prefix="mount-") as directory:
        try:
            mount(Path(directory))
        except OSError:
            return False
        unmount(Path(directory))
    return True


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
