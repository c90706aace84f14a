"""The running node, handed to the processes that it starts: ``EVENTBUS_NODE`` in their environment.

    subprocess.run(["pytest"])        # publishes its progress as that of the node that runs here

The variable names the run, and the node in it, as a JSON object. While several nodes run at once in one
process, no variable can be right for each: then it is empty, which counts as unset, and a child is told
with ``env={**os.environ, **node_environment()}``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar, Token

import msgspec

from eventbus.ground.fork_safety import ForkSafeLock

__all__ = ["NODE_VARIABLE", "NodeScope", "RunningNode", "current_node", "node_environment"]

NODE_VARIABLE = "EVENTBUS_NODE"
"""The environment variable that names the run, or the node, that a process works for."""

_MAX_TEXT = 4_096
"""A longer name is not handed on: an environment that is too large keeps every child from starting."""


class RunningNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt at a node, or a run without nodes, that is being executed.

    Attributes:
        workflow_id: The workflow's name.
        run_id: The run's id.
        session_id: The session of its events.
        node_id: The node's name; None directly below a run, as in a command of ``eventbus run``.
        attempt: The number of the attempt.
    """

    workflow_id: str
    run_id: str | None = None
    session_id: str | None = None
    node_id: str | None = None
    attempt: int = 1

    def variables(self) -> dict[str, str]:
        """Return the variable that names it; empty if it cannot be named."""
        import json  # noqa: PLC0415 - few programs need it, and each would wait for it

        # Escaped, so that it is the same in every locale.
        text = json.dumps({name: value for name, value in msgspec.structs.asdict(self).items() if value})
        return {NODE_VARIABLE: text} if len(text) <= _MAX_TEXT else {NODE_VARIABLE: ""}


_here: ContextVar[RunningNode | None] = ContextVar("eventbus_running_node", default=None)
_lock = ForkSafeLock()
_open: dict[object, RunningNode] = {}
_inherited: list[str] = []  # the variable's value before the first scope of the open ones


def current_node(environment: Mapping[str, str] | None = None) -> RunningNode | None:
    """Return the node that runs in this context, otherwise the one that the environment names, or None.

    Args:
        environment: The environment, by default the process's.
    """
    node = _here.get() if environment is None else None
    if node is not None:
        return node
    text = (os.environ if environment is None else environment).get(NODE_VARIABLE, "")
    if not text:
        return None
    import json  # noqa: PLC0415 - as above

    with suppress(ValueError, TypeError, RecursionError):
        return msgspec.convert(json.loads(text), RunningNode)
    return None


def node_environment() -> dict[str, str]:
    """Return the variable that tells a child process which node runs in this context; empty if none does."""
    node = current_node()
    return {} if node is None else node.variables()


class NodeScope:
    """While the block runs, its node is the current one, also for the processes that are started in it.

    Args:
        node: The node; None changes nothing.
        exported: False to leave the environment alone, which costs several microseconds.
    """

    __slots__ = ("_exported", "_node", "_token")

    def __init__(self, node: RunningNode | None, *, exported: bool = True) -> None:
        self._node = node
        self._exported = exported
        self._token: Token[RunningNode | None] | None = None

    def __enter__(self) -> None:
        """Make the node the current one."""
        if self._node is not None:
            self._token = _here.set(self._node)
            if self._exported:
                _change(self, self._node)

    def __exit__(self, *_: object) -> None:
        """Make the outer node the current one again."""
        if self._token is not None:
            if self._exported:
                _change(self, None)
            try:  # noqa: SIM105 - `suppress` costs as much as the rest, at each node
                _here.reset(self._token)
            except ValueError:  # an unfinished coroutine may be closed in another context
                pass


def _change(scope: NodeScope, node: RunningNode | None) -> None:
    with _lock, suppress(OSError, ValueError):  # nothing of this may disturb the node
        if node is None:
            _open.pop(scope, None)
        else:
            if not _open:
                _inherited[:] = [os.environ.get(NODE_VARIABLE, "")]
            _open[scope] = node
        nodes = [*_open.values()]
        variables = nodes[0].variables() if len(nodes) == 1 else {NODE_VARIABLE: ""}
        # Overwritten and not removed: other threads may be reading the environment, in C.
        os.environ.update(variables if nodes else {NODE_VARIABLE: _inherited[0]})
