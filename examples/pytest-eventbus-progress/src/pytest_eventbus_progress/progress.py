"""The plugin object of a run that has a node."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from eventbus import EventBus, NodeCompleted, NodeProgress, NodeStarted
from eventbus.running_node import NODE_VARIABLE, RunningNode, current_node
from eventbus.runtime import build_runtime

__all__ = ["begin"]

_RANKS = ("passed", "xpassed", "xfailed", "skipped", "failed")

_OWN_NODE = "tests"
"""The node of a run that has none: of `eventbus run -- pytest`."""


def begin(config: pytest.Config) -> None:
    """Publish from now on, until the end of the run; say so in the header if that is not possible."""
    plugin: object
    node, variable = current_node(), os.environ[NODE_VARIABLE]
    if node is None:
        return
    os.environ[NODE_VARIABLE] = ""  # what the tests start does not belong to the run
    config.add_cleanup(partial(os.environ.__setitem__, NODE_VARIABLE, variable))
    try:
        # Events are only stored: programs that follow the log show them.
        plugin = ProgressOfNode(build_runtime(only=("json_persister",)).bus, node)
    except Exception as error:
        plugin = _NotPublished(error)
    config.pluginmanager.register(plugin)


class ProgressOfNode:
    """Publishes an event for each test that has ended.

    A test is counted once, however often it is repeated.

    Args:
        bus: Where to publish; not entered yet.
        node: The node, or the run that has none.
    """

    def __init__(self, bus: EventBus, node: RunningNode) -> None:
        self._bus = bus
        self._has_own_node = node.node_id is None
        self._fields: dict[str, Any] = {
            "workflow_id": node.workflow_id,
            "run_id": node.run_id,
            "session_id": node.session_id,
            "node_id": node.node_id or _OWN_NODE,
            "attempt": node.attempt,
        }
        self._is_interrupted = False
        self._total: int | None = None
        self._ended: set[str] = set()
        self._outcomes: dict[str, str] = {}
        self._began = time.perf_counter()
        bus.__enter__()
        if self._has_own_node:
            bus.publish(NodeStarted(**self._fields))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Publish the number of tests; under pytest-xdist only its workers know it."""
        if session.items:
            self._begin([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Publish the number of tests, once the first worker knows it."""
        if self._total is None:
            self._begin(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome of a test: the worst of its steps counts."""
        self._outcomes[report.nodeid] = max(
            self._outcomes.get(report.nodeid, "passed"), _outcome(report), key=_RANKS.index
        )
        if report.when not in ("setup", "call", "teardown"):  # a worker of pytest-xdist has crashed in it
            self.pytest_runtest_logfinish(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Publish that a test has ended."""
        self._ended.add(nodeid)
        self._publish(nodeid, {"outcome": self._outcomes.pop(nodeid, "passed")})

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note that a person or a test has ended the run; pytest's own exception follows a failure."""
        self._is_interrupted = not isinstance(excinfo.value, pytest.Session.Interrupted)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """End the node, if it is our own, as the exit code says."""
        if not self._has_own_node:
            return
        is_ok = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        ended = NodeCompleted(
            **self._fields,
            status="cancelled" if self._is_interrupted else "ok" if is_ok else "failed",
            success=is_ok,
            duration_seconds=time.perf_counter() - self._began,
        )
        self._bus.publish(ended)

    def pytest_unconfigure(self) -> None:
        """Store what has been published."""
        self._bus.close()

    def _begin(self, ids: Sequence[str]) -> None:
        self._total = len(set(ids))
        self._publish(None, {})

    def _publish(self, message: str | None, metadata: dict[str, str]) -> None:
        progress = NodeProgress(
            **self._fields,
            completed=len(self._ended),
            total=self._total,
            message=message,
            metadata=metadata,
        )
        self._bus.publish(progress)


class _NotPublished:
    def __init__(self, error: Exception) -> None:
        self._reason = f"{type(error).__name__}: {error}"

    def pytest_report_header(self) -> str:
        return f"eventbus: the progress of these tests is not published: {self._reason}"


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    return report.outcome if report.outcome in _RANKS else "passed"  # another plugin repeats the test
