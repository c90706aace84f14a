"""Look quickly whether a distribution registers anything in an entry-point group.

Reading all metadata takes a short command 0.1 s, and most environments register no events at all. This reads
the files that name entry points, and is not sure where it cannot: in a zip file, or without permission.
"""

from __future__ import annotations

import os
import sys

__all__ = ["EVENTS", "may_be_registered"]

EVENTS = "eventbus.events"
"""The entry-point group in which event classes are registered."""


def may_be_registered(group: str) -> bool:
    """Return False if no directory on the path has an entry point of a group."""
    return any(_may_have(place, group.encode()) for place in dict.fromkeys(sys.path))


def _may_have(place: str, group: bytes) -> bool:
    try:
        with os.scandir(place or ".") as entries:
            found = [each.path for each in entries if each.name.endswith((".dist-info", ".egg-info"))]
    except FileNotFoundError:
        return False
    except OSError:  # a zip file, for instance
        return True
    return any(_names(os.path.join(each, "entry_points.txt"), group) for each in found)  # noqa: PTH118 - pathlib is slow to import


def _names(path: str, group: bytes) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return group in file.read()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
