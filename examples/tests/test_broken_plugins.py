"""Plugins that are broken in every way, really installed, beside commands in processes of their own."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.tests.conftest import Environment

GOOD = """
from eventbus import Event, Subscriber
class Good(Subscriber[Event]):
    async def handle(self, event): ...
"""
HANGS = "import threading\nthreading.Event().wait()\n"
# The name of each plugin: its module, what its entry point names, and the beginning of the reason.
SUBSCRIBERS = {
    "good": (GOOD, "Good", None),
    "import_error": ("import no_such_module", "X", "ModuleNotFoundError: "),
    "import_raises": ("raise RuntimeError('two\\nlines')", "X", "RuntimeError: two"),
    "syntax": ("def f(:", "X", "SyntaxError: "),
    "exits": ("raise SystemExit(4)", "X", "SystemExit: 4"),
    "exits_when_made": ("def make():\n    raise SystemExit", "make", "SystemExit"),
    "interrupts": ("raise KeyboardInterrupt", "X", "KeyboardInterrupt"),
    "hangs": (HANGS, "X", "it did not load within 5 s"),
    "hangs_when_made": ("import time\ndef make():\n    time.sleep(1e6)", "make", "it did not load"),
    "wrong_type": ("class Thing: ...", "Thing", "wrong_type:Thing makes an instance of Thing, not a"),
    "not_a_class": ("thing = 42", "thing", "not_a_class:thing is an instance of int"),
    "handles_nothing": (
        "from eventbus import Event, Subscriber\nclass Thing(Subscriber[Event]): ...",
        "Thing",
        "SubscriberError: Thing overrides neither handle nor handle_batch",
    ),
    "wrong_version": ("from eventbus import OfVersion9", "X", "ImportError: cannot import name 'OfVersion9'"),
    "json_persister": (GOOD, "Good", "the name is taken by eventbus_subscribers.json_persister:Json"),
    "absent_name": ("", "X", "AttributeError: "),
    "prints": (f"print('chatty')\n{GOOD}", "Good", None),
}  # fmt: skip
EVENTS = {
    "no_events": ("x = 1", "", "no_events has no event class of its own"),
    "events_hang": (HANGS, "", "it did not load within 5 s"),
    "events_exit": ("raise SystemExit(5)", "", "SystemExit: 5"),
    "events_steal": (
        "from eventbus import Event\nclass NodeCompleted(Event): ...",
        "",
        "events_steal.NodeCompleted is refused: ",
    ),
}


def wheel(directory: Path, group: str, name: str, source: str, attribute: str) -> Path:
    """Write a wheel whose one module is a plugin; the second of a name has a module of another."""
    module = "takes_the_name" if name == "json_persister" else name
    distribution, info = f"of_{name}", f"of_{name}-1.0.dist-info"
    requires = "Requires-Dist: anyio-eventbus>=9\n" if name == "wrong_version" else ""
    files = {
        f"{module}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: of-{name}\nVersion: 1.0\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[eventbus.{group}]\n{name} = {module}{attribute and f':{attribute}'}\n",
    }
    record = "".join(f"{place},{digest(text)},{len(text)}\n" for place, text in files.items())
    path = directory / f"{distribution}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(place, text)
    return path


def digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


@pytest.fixture(scope="module")
def broken(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """Install them all with pip."""
    directory = tmp_path_factory.mktemp("broken")
    made = [wheel(directory, "subscribers", name, *each[:2]) for name, each in SUBSCRIBERS.items()]
    made += [wheel(directory, "events", name, *each[:2]) for name, each in EVENTS.items()]
    installed.install("--no-deps", "--no-compile", *made)
    yield installed
    names = [f"of-{name}" for name in (*SUBSCRIBERS, *EVENTS)]
    installed.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", *names)


def test_each_is_listed_with_its_reason(broken: Environment, tmp_path: Path) -> None:
    """Each broken plugin is listed as failed with its reason, and the others are ok, within one deadline."""
    began = time.monotonic()
    ended = broken.run("eventbus", "plugins", "--json", cwd=tmp_path, fails=True)
    took = time.monotonic() - began
    states: dict[tuple[str, str], Any] = {}
    for each in map(json.loads, ended.stdout.splitlines()):
        states[each["name"], each["distribution"]] = each
    assert ended.returncode == 1
    for name, (_, _, reason) in {**SUBSCRIBERS, **EVENTS}.items():
        state = states[name, f"of-{name.replace('_', '-')}"]
        assert state["state"] == ("ok" if reason is None else "failed"), state
        assert (state["reason"] or "").startswith(reason or ""), state
        assert "\n" not in (state["reason"] or "")
    assert "requires anyio-eventbus>=9" in states["wrong_version", "of-wrong-version"]["reason"]
    assert "chatty" not in ended.stdout
    assert took < 15  # two groups, 5 s each


def test_a_bus_starts_and_stores(broken: Environment, tmp_path: Path) -> None:
    """Beside them a command runs, is stored, and says what was not loaded; the process ends."""
    began = time.monotonic()
    ended = broken.run("eventbus", "run", "--", "true", cwd=tmp_path)
    took = time.monotonic() - began
    notes = [line for line in ended.stderr.splitlines() if " was not loaded: " in line]
    assert len(notes) == sum(reason is not None for _, _, reason in SUBSCRIBERS.values())
    shown = broken.run("eventbus", "cat", cwd=tmp_path)
    types = [json.loads(line)["event_type"] for line in shown.stdout.splitlines()]
    assert types == ["workflow_started", "workflow_completed"]
    assert len([line for line in shown.stderr.splitlines() if "without their class" in line]) == len(EVENTS)
    assert took < 10
