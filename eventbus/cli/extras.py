"""Packages that only an extra installs: one line says how to install it where they are missing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from eventbus.cli.exit_codes import USAGE, CommandError
from eventbus.ground.distribution import how_to_install

__all__ = ["from_extra"]


@contextmanager
def from_extra(extra: str, *packages: str, wanted_by: str) -> Generator[None]:
    """Run an import that needs the packages of an extra.

    Args:
        extra: The extra.
        *packages: The packages that it installs.
        wanted_by: The subject of the line, such as ``this command``.

    Raises:
        CommandError: One of the packages is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in packages:
            raise
        raise CommandError(
            f"{wanted_by} needs {missing}, which is not installed",
            f"install it with: {how_to_install(extra)}",
            USAGE,
        ) from error
