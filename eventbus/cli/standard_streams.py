"""Make the standard streams fit to print to, whatever the program was started with."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

__all__ = ["make_streams_sound", "settle_streams"]


def make_streams_sound() -> None:
    """Occupy closed descriptors, and escape characters that the encoding of a stream lacks.

    A file of the log that got descriptor 1 or 2 would be written to by whatever prints there.
    """
    for descriptor in (0, 1, 2):
        _occupy(descriptor)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def settle_streams() -> None:
    """Flush the streams; discard what cannot be written: the interpreter would complain at its exit."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        try:
            getattr(sys, name).flush()
        except OSError:
            _discard(descriptor, name)
        except (AttributeError, ValueError):  # there is none, or it is closed
            pass


def _discard(descriptor: int, name: str) -> None:
    """Lead a stream to nowhere."""
    try:
        os.close(descriptor)  # first: it may be the last one that may be open
        null_device = os.open(os.devnull, os.O_WRONLY)
        if null_device != descriptor:
            os.dup2(null_device, descriptor)
            os.close(null_device)
    except OSError:
        setattr(sys, name, None)


def _occupy(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        # Results that nobody can read are an error, as they are in other programs: a descriptor that
        # is open for reading only refuses them. Notes are discarded.
        with suppress(OSError):  # there is no such device
            os.open(os.devnull, os.O_WRONLY if descriptor == 2 else os.O_RDONLY)  # noqa: PLR2004
