"""Programs that use the real Oneiric, and everything that a program can see of a run."""

from __future__ import annotations

import importlib
import json
import re
import sqlite3
import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eventbus import Event, NodeCompleted, NodeEvent, NodeStarted, WorkflowEvent

Phase = Callable[[], Awaitable[Any]]


def _imported(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of Oneiric's own dependencies
        return importlib.import_module(name)


@dataclass
class Program:
    """A program that uses Oneiric, with one workflow.

    Attributes:
        directory: The directory of its stores.
        nodes: The workflow's nodes, in Oneiric's form.
        phases: The phase of each task.
        calls: The tasks, in the order of their calls.
        durable: Whether it uses Oneiric's durable store.
    """

    directory: Path
    nodes: Sequence[dict[str, Any]]
    phases: dict[str, Phase]
    calls: list[str] = field(default_factory=list)
    durable: bool = True

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = _imported("oneiric.core.config")
        resolution = _imported("oneiric.core.resolution")
        lifecycle = _imported("oneiric.core.lifecycle")
        durable = _imported("oneiric.runtime.durable")
        checkpoints = _imported("oneiric.runtime.checkpoints")
        resolver = resolution.Resolver()
        for key in self.phases:
            resolver.register(
                resolution.Candidate(domain="task", key=key, provider="test", factory=self._task_factory(key))
            )
        dag = {"dag": {"nodes": list(self.nodes)}}
        resolver.register(
            resolution.Candidate(
                domain="workflow", key="quality", provider="test", factory=object, metadata=dag
            )
        )
        manager, settings = lifecycle.LifecycleManager(resolver), config.LayerSettings()
        self.checkpoints = checkpoints.WorkflowCheckpointStore(self.directory / "checkpoints.sqlite")
        self.store = durable.WorkflowExecutionStore(self.directory / "executions.sqlite")
        self.bridge = _imported("oneiric.domains.workflows").WorkflowBridge(
            resolver,
            manager,
            settings,
            task_bridge=_imported("oneiric.domains.tasks").TaskBridge(resolver, manager, settings),
            checkpoint_store=self.checkpoints,
            execution_store=self.store if self.durable else None,
        )

    def _task_factory(self, key: str) -> Callable[[], object]:
        program = self

        class Task:
            async def run(self, payload: Any = None) -> Any:
                program.calls.append(key)
                return await program.phases[key]()

        return Task

    async def execute(self, run_id: str = "r1", **options: Any) -> Any:
        """Execute the workflow."""
        return await self.bridge.execute_dag("quality", run_id=run_id, **options)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return the contents of the stores, without times."""
        found: dict[str, list[tuple[Any, ...]]] = {}
        for file in sorted(self.directory.glob("*.sqlite")):
            connection = sqlite3.connect(file)
            for (table,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type='table'"
            ).fetchall():
                cursor = connection.execute(f"SELECT * FROM {table}")
                names = [column[0] for column in cursor.description]
                keep = [index for index, name in enumerate(names) if not name.endswith("_at")]
                found[table] = [tuple(_timeless(row[index]) for index in keep) for row in cursor]
            connection.close()
        return found


def _timeless(value: Any) -> Any:
    """Remove durations from JSON that Oneiric stored."""
    if isinstance(value, str) and value.startswith("{"):
        return {key: each for key, each in json.loads(value).items() if not key.endswith("__duration")}
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if not str(key).endswith("__duration")}
    return value


def described(error: BaseException | None) -> Any:
    """Return everything that a program can see of an exception, except for its traceback."""
    if error is None:
        return None
    inner = [described(each) for each in getattr(error, "exceptions", ())]
    return (
        type(error),
        re.sub("[0-9a-f]{8,}", "<address>", str(error)),
        described(error.__cause__),
        type(error.__context__),
        error.__suppress_context__,
        inner,
    )


async def observation_of(program: Program, **options: Any) -> dict[str, Any]:
    """Execute a program, and return everything that it can see of the run."""
    result: Any = None
    caught: BaseException | None = None
    try:
        result = await program.execute(**options)
    except BaseException as error:
        caught = error
    return {
        "result": result and (result["run_id"], _timeless(result["results"])),
        "error": described(caught),
        "calls": list(program.calls),
        "rows": program.rows(),
        "checkpoint": _timeless(program.checkpoints.load("quality")),
        "hooks": program.bridge._execution_hooks,
    }


class Sink:
    """Keeps the published events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> bool:
        """Keep the event."""
        self.events.append(event)
        return True

    def summaries(self) -> list[str]:
        """Return each event in a few words."""
        return [_short(event) for event in self.events]

    def ends(self) -> dict[tuple[str, int], list[str]]:
        """Return the ends of each attempt at each node."""
        found: dict[tuple[str, int], list[str]] = {}
        for event in self.events:
            if isinstance(event, NodeCompleted):
                found.setdefault((event.node_id, event.attempt), []).append(event.status)
        return found

    def starts(self) -> list[tuple[str, int]]:
        """Return the attempts that began, in order."""
        return [(event.node_id, event.attempt) for event in self.events if isinstance(event, NodeStarted)]


def _short(event: Event) -> str:
    words = [str(type(event).__struct_config__.tag)]
    if isinstance(event, NodeEvent):
        words.append(f"{event.node_id}#{event.attempt}")
    elif isinstance(event, WorkflowEvent):
        words.append(event.workflow_id)
    words += [word for name in ("status", "error_type") if (word := getattr(event, name, None))]
    return " ".join(words)


@pytest.fixture
def new_program(tmp_path: Path) -> Callable[..., Program]:
    """Make programs, each in its own directory."""
    numbers = iter(range(100))

    def make(nodes: Sequence[dict[str, Any]], phases: dict[str, Phase], **options: Any) -> Program:
        return Program(tmp_path / f"program-{next(numbers)}", nodes, phases, **options)

    return make


@pytest.fixture
def see() -> Callable[..., Awaitable[dict[str, Any]]]:
    """Execute a program, and return everything that it can see of the run."""
    return observation_of


@pytest.fixture
def sink() -> Sink:
    """A sink that keeps the published events."""
    return Sink()


@pytest.fixture
def oneiric_dag() -> Any:
    """The module of Oneiric that executes graphs."""
    return _imported("oneiric.runtime.dag")
