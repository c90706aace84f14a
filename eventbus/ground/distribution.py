"""The distribution: its name, how to install its extras, and who else installs a package `eventbus`."""

from __future__ import annotations

import re

from eventbus import __distribution__ as DISTRIBUTION  # noqa: N812 - a constant here

__all__ = ["DISTRIBUTION", "how_to_install", "other_owners", "without_variants"]

# Not looked up in the metadata, which a zipapp or a frozen program lacks.


def how_to_install(extra: str) -> str:
    """Return what to type to have an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def without_variants(distribution: str) -> str:
    """Return the one spelling of a distribution's name that all its spellings have in common."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def other_owners() -> list[str]:
    """Return the other installed distributions with a package `eventbus`, whose files are mixed with these.

    It reads the list of files of each that is installed: some tenths of a second.
    """
    from importlib.metadata import packages_distributions  # noqa: PLC0415 - costs importers 20 ms

    owners = packages_distributions().get("eventbus", ())
    return sorted({each for each in owners if without_variants(each) != DISTRIBUTION})
