"""``--remote``: read what all hosts have shipped, as if it were a log of this host."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eventbus.cli.exit_codes import USAGE, CommandError
from eventbus.cli.notes import note

if TYPE_CHECKING:
    from eventbus.errors import RemoteError

__all__ = ["log_to_read"]


@contextmanager
def log_to_read(
    directory: Path | None,
    *,
    remote: bool,
    session: str | None = None,
    is_exact: bool = False,
    is_live: bool = False,
) -> Generator[Path | None]:
    """Return the directory of the log that a command reads; with ``--remote`` of a copy of the stream.

    Args:
        directory: The option ``--dir``.
        remote: The option ``--remote``.
        session: The session that the command is about; it alone is copied, if the stream has it.
        is_exact: The session's name is all of it.
        is_live: Add to the copy what is shipped while the block runs.

    Raises:
        CommandError: Both options are given.
        RemoteError: The server cannot be reached, or has no stream.
        SettingsError: No server is set, or a setting is wrong.
    """
    if not remote:
        yield directory
        return
    if directory is not None:
        raise CommandError("--dir and --remote name two logs", "give one of them", USAGE)
    # nats-py is an extra, and takes a while to import.
    from eventbus.remote.mirror import updated_mirror, updated_mirror_of_session  # noqa: PLC0415
    from eventbus.remote.remote_settings import load_remote_settings  # noqa: PLC0415

    settings = load_remote_settings()
    if is_exact and session is not None:
        mirror = updated_mirror_of_session(settings, session)
    else:
        mirror = updated_mirror(settings, session)
    if not is_live:
        yield mirror.directory
        return
    with mirror.kept_current(_Notes()):
        yield mirror.directory


class _Notes:
    """Prints why the copy is not kept current, once for each cause."""

    def __init__(self) -> None:
        self._printed: set[str] = set()

    def __call__(self, error: RemoteError) -> None:
        if str(error) not in self._printed:
            self._printed.add(str(error))
            note(f"{error}; tries again")
