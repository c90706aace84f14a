"""An option of a plugin as it is written in a table of the settings, and the path that a value may stand for.

Reading settings imports no more than this: what an option means to its plugin is for `plugin_options`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["Option", "as_path", "leads_outside"]


class Option(msgspec.Struct, frozen=True):
    """A value of a plugin's table.

    Attributes:
        value: The value, unchecked.
        place: Its place, for messages.
        is_text: True if it comes from the environment, so that numbers are looked for in its text.
        project: The directory of the project that sets it; None if the user does.
    """

    value: Any
    place: str = "the arguments"
    is_text: bool = False
    project: Path | None = None


def leads_outside(path: Path, project: Path) -> bool:
    """Return True if a path is not within a project, once links are followed."""
    try:
        real, root = os.path.realpath(path), os.path.realpath(project)
    except OSError:  # the working directory is gone, and with it the project that is relative to it
        return False
    return real != root and not real.startswith(os.path.join(root, ""))  # noqa: PTH118 - text is compared


def as_path(kind: type[Any], value: Any) -> Any:
    """Return a path for msgspec, which knows none; ~ stands for a home directory."""
    if kind is Path and value and isinstance(value, (str, Path)):
        try:
            return Path(value).expanduser()
        except RuntimeError as error:  # there is no such user
            raise ValueError(str(error)) from error
    raise ValueError(f"Expected {'a path' if kind is Path else kind.__name__}, got {value!r}")
