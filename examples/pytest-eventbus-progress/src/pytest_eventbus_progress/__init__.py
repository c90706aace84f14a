"""Publishes the progress of a pytest run as that of the node that runs it.

pytest imports this module in every run, so it imports nothing: without a node there is nothing to do.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_configure"]


def pytest_configure(config: pytest.Config) -> None:
    """Begin to publish, if this process works for a node, and is not a worker of pytest-xdist.

    Workers report every test to the process that has started them.
    """
    if os.environ.get("EVENTBUS_NODE") and not hasattr(config, "workerinput"):
        from pytest_eventbus_progress.progress import begin

        begin(config)
