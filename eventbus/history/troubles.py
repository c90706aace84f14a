"""Report what cannot be read, once until it can be read again."""

from __future__ import annotations

import errno
from pathlib import Path

from eventbus.history.reading import OnDamage
from eventbus.history.stored_lines import Damage

__all__ = ["Troubles"]

_OF_THE_PROCESS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Troubles:
    """The files and directories that cannot be read at the moment.

    Args:
        on_damage: Called once for each of them; once for all if the process lacks descriptors or memory.
    """

    def __init__(self, on_damage: OnDamage) -> None:
        self._on_damage = on_damage
        self._reported: dict[Path | int, Path] = {}  # with the path that it was reported for

    def report(self, path: Path, position: int, error: OSError) -> None:
        """Report a file or directory, unless that was done since it could last be read."""
        trouble = error.errno if error.errno in _OF_THE_PROCESS else path
        if trouble not in self._reported:
            self._reported[trouble] = path
            reason = f"{error}; it is tried again"
            self._on_damage(Damage(path=path, offset=position, length=0, reason=reason))

    def end(self, path: Path) -> None:
        """Note that a file or directory can be read again."""
        for trouble in [trouble for trouble, of_path in self._reported.items() if of_path == path]:
            del self._reported[trouble]
