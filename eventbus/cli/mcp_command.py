"""``eventbus mcp``: answer agents' questions about the log, by the Model Context Protocol on stdio."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager

import anyio

from eventbus.cli.exit_codes import OK
from eventbus.cli.extras import from_extra
from eventbus.cli.free_descriptors import check_free_descriptors
from eventbus.cli.log_access import DamageNotes, open_log
from eventbus.cli.options import LogDirectory
from eventbus.cli.plugin_events import load_plugin_events

__all__ = ["mcp"]


def mcp(directory: LogDirectory = None) -> int:
    """Answer agents' questions about the log, by the Model Context Protocol.

    It speaks on stdin and stdout, and only reads. Register it with: claude mcp add eventbus -- eventbus mcp
    """
    with from_extra("mcp", "mcp", "pydantic", wanted_by="this command"):
        from eventbus.cli.mcp_server import serve  # noqa: PLC0415 - its package is an extra
    with _ended_by_signals():
        check_free_descriptors()
        load_plugin_events()
        anyio.run(serve, open_log(directory, DamageNotes(), must_exist=False))
    return OK


@contextmanager
def _ended_by_signals() -> Generator[None]:
    """Let SIGINT and SIGTERM end the process at once.

    As exceptions they would wait for the thread that reads stdin, until a line comes. Nothing is lost:
    the server only reads.
    """
    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
