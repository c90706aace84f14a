"""Lines for the log of GitHub Actions: what succeeded is folded into a group, what failed stays open.

Escaped as the `@actions/core` toolkit escapes: whatever an event contains, it gives the runner no command.
"""

from __future__ import annotations

from collections.abc import Iterator

from eventbus_subscribers.run_progress import Change

__all__ = ["github_lines", "github_safe"]


def github_lines(change: Change, line: str) -> list[str]:
    """Return the lines of a change: a group of a node that ended well, one annotation of a run that failed.

    Args:
        change: The change.
        line: Its line.
    """
    run = change.run
    if change.kind == "node" and change.outcome in ("succeeded", "skipped"):
        hooks = [f"       {hook.status} {hook}" for hook in change.node.hooks.values()] if change.node else []
        lines = [f"::group::{_data(line)}", *(hooks or [line]), "::endgroup::"]
    elif run is not None and change.outcome == "failed":
        failed = "; ".join(map(_failure, run.failures.values())) or change.name
        lines = [line, f"::error title={_property(f'{run.label} failed')}::{_data(failed)}"]
    else:
        lines = [line]
    return [github_safe(each) for each in lines]


def github_safe(line: str) -> str:
    """Return a line that is no command: the runner finds an old kind of them anywhere in a line."""
    return line.replace("##[", "## [")


def _failure(change: Change) -> str:
    return " ".join(_failure_parts(change))


def _failure_parts(change: Change) -> Iterator[str]:
    yield change.name
    if change.error:
        yield change.error
    hooks = change.node.failed_hooks() if change.node else []
    if hooks:
        yield f"({', '.join(hook.name for hook in hooks)})"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
