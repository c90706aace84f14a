"""The server of ``eventbus mcp``: read-only tools over a log, by the official package.

Both its generations are known: the first is what crackerjack on Python 3.13 installs.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import anyio
import anyio.to_thread
from mcp.types import ToolAnnotations
from pydantic import Field

from eventbus.cli.exit_codes import CommandError, error_line
from eventbus.cli.mcp_answers import MAX_LISTED, Failure, LogAnswers, SessionAnswer, SessionLine, SlowNode
from eventbus.cli.options import parse_time
from eventbus.cli.watched_session import WatchedSession
from eventbus.history import EventLog

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.exceptions import ResourceError, ToolError
else:
    try:
        from mcp.server.mcpserver import Context, MCPServer
        from mcp.server.mcpserver.exceptions import ResourceError, ToolError
    except ImportError:  # before 2.0
        from mcp.server.fastmcp import Context
        from mcp.server.fastmcp import FastMCP as MCPServer
        from mcp.server.fastmcp.exceptions import ResourceError, ToolError

__all__ = ["serve"]

_INSTRUCTIONS = (
    "The event log of the skills and workflow runs of this project. Ask `session` what a run did and what "
    "failed, `failures` and `slowest` about all runs, and `wait_for` to wait until a session has ended."
)
_MAX_WAIT = 3_600
_LOOK_SECONDS = 0.5
_READ_ONLY = ToolAnnotations.model_validate({"readOnlyHint": True})
_T = TypeVar("_T")

Limit = Annotated[int, Field(ge=1, le=MAX_LISTED, description="The most to return.")]
Since = Annotated[str, Field(description="A time such as 2026-01-31, or an age such as 90m, 24h or 7d.")]
SessionName = Annotated[
    str | None, Field(description="A session id or its beginning; the latest by default.")
]


async def serve(log: EventLog) -> None:
    """Answer until stdin ends.

    Args:
        log: The log.
    """
    server = MCPServer("eventbus", instructions=_INSTRUCTIONS)
    tools = _Tools(LogAnswers(log))
    for tool in (tools.sessions, tools.session, tools.failures, tools.slowest, tools.wait_for):
        server.tool(annotations=_READ_ONLY)(tool)
    server.resource("eventbus://sessions/{session_id}/events", mime_type="application/jsonl")(tools.events)
    await server.run_stdio_async()


class _Tools:
    """The tools. Each reads in a thread: the server answers others meanwhile."""

    def __init__(self, answers: LogAnswers) -> None:
        self._answers = answers

    async def sessions(self, limit: Limit = 10, failed: bool = False, since: Since = "") -> list[SessionLine]:
        """List the latest sessions, the newest first; with `failed` only those that failed."""
        after = _time(since) if since else None
        return await _in_thread(partial(self._answers.sessions, limit, failed=failed, since=after))

    async def session(self, session_id: SessionName = None) -> SessionAnswer:
        """Tell what a session did: its verdict, its skills, its runs, and each node that did not succeed."""
        return await _in_thread(partial(self._answers.session, session_id))

    async def failures(self, since: Since = "24h", limit: Limit = 10) -> list[Failure]:
        """List the attempts at nodes that failed, of all sessions, the newest first."""
        return await _in_thread(partial(self._answers.failures, limit, _time(since)))

    async def slowest(self, since: Since = "7d", limit: Limit = 10) -> list[SlowNode]:
        """List the nodes that take longest, by the median of their durations."""
        return await _in_thread(partial(self._answers.slowest, limit, _time(since)))

    async def wait_for(
        self,
        session_id: str,
        context: Context,
        timeout_seconds: Annotated[float, Field(gt=0, le=_MAX_WAIT)] = 300,
    ) -> SessionAnswer:
        """Wait until a session has ended, or the time is up; return it as `session` does.

        Its outcome is `open` if it has not ended. Progress is reported for each node that ends.
        """
        name = await _in_thread(partial(self._answers.name_of, session_id))
        with anyio.move_on_after(timeout_seconds):
            await self._until_it_ends(WatchedSession(self._answers.log, name), context)
        return await self.session(name)

    async def _until_it_ends(self, watched: WatchedSession, context: Context) -> None:
        """Fold the records of a session as they come, until nothing of it is open."""
        async with self._answers.log.follow("now", include_own=True) as records:
            await _in_thread(watched.load)
            reported = -1
            while True:
                if watched.nodes_ended() > reported:
                    reported = watched.nodes_ended()
                    await context.report_progress(reported)
                with anyio.move_on_after(_LOOK_SECONDS) as waiting:
                    watched.add(await anext(records))
                # Nothing came: a session is over when nothing of it is open, as the next run may follow.
                if waiting.cancelled_caught and await _in_thread(watched.is_over):
                    return

    async def events(self, session_id: str) -> str:
        """Return the latest events of a session, one JSON object a line."""
        return await _in_thread(partial(self._answers.events, session_id), ResourceError)


async def _in_thread(read: Callable[[], _T], error_class: type[Exception] = ToolError) -> _T:
    """Read in a thread; what goes wrong becomes an error that the agent can read."""
    try:
        return await anyio.to_thread.run_sync(read)
    except CommandError as error:
        raise error_class(error_line(error.problem, error.hint)) from error
    except OSError as error:
        raise error_class(f"the log cannot be read: {error}") from error


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ArgumentTypeError as error:
        raise ToolError(str(error)) from error
