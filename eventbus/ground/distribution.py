"""The name of the distribution that installs eventbus: on the package index `eventbus` is another's.

A constant, since a zipapp or a frozen program has no metadata to look it up in, and since looking for the
distribution of a package reads the list of files of every one that is installed.
"""

from __future__ import annotations

__all__ = ["DISTRIBUTION", "how_to_install"]

DISTRIBUTION = "anyio-eventbus"


def how_to_install(extra: str) -> str:
    """Return what to type to have an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
