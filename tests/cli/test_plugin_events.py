"""Commands show the events of installed plugins as their classes say, and cope with broken ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventbus import event_types
from eventbus.events.event import refuse_class
from eventbus.plugins.quick_look import may_be_registered
from tests.cli.conftest import Program
from tests.distributions import Distributions, on_the_path

HEADER = '{"event_type":"segment_started","v":2,"bus_id":"b0","pid":1,"started_at":"2026-01-01T00:00:00Z"}'
TIME = '"timestamp":"2026-01-01T00:00:01Z","session_id":"s1","metadata":{}'
SHOP = """
from eventbus import Event, NodeCompleted, NodeEvent

class ShopOpened(Event):
    door: str

    def __str__(self):
        return f"opened the {self.door} door"

class ShelfFilled(NodeEvent):
    count: int = 0

    def __str__(self):
        return f"{self.count} books"
"""
BROKEN_WORDS = """
from eventbus import Event

class RaisesWords(Event):
    def __str__(self):
        raise SystemExit("no words")

class WrongWords(Event):
    def __str__(self):
        return 42

class LongWords(Event):
    def __str__(self):
        return "\\x1b[31m" + "x" * 10_000_000 + "\\n"

class RaisesWhenMade(Event):
    def __post_init__(self):
        raise RuntimeError("not made")

class ExitsWhenMade(Event):
    def __post_init__(self):
        raise SystemExit("not made")
"""
REFUSED = """
from eventbus import Event

class NodeCompleted(Event):
    pass

class Mine(Event, tag="workflow_started"):
    pass

class SegmentStarted(Event):
    pass

class Unreadable(Event):
    field: "Nowhere"

class ShopClosed(Event):
    door: str
"""


@pytest.fixture
def distributions(tmp_path: Path) -> Iterator[Distributions]:
    (tmp_path / "path").mkdir()
    with on_the_path(tmp_path / "path") as made:
        yield made
        for cls in event_types().values():
            if (made.directory / f"{cls.__module__}.py").exists():
                refuse_class(cls)  # as if the next test were another process


@pytest.fixture
def show(cli: Program, somewhere: Path) -> Any:
    """Store events, and run a command on them."""

    def run(command: str, *events: str, **environment: str) -> Any:
        directory = somewhere / ".session-buddy" / "events"
        directory.mkdir(parents=True, exist_ok=True)
        lines = [f'{{"seq":{n},{event},{TIME}}}' for n, event in enumerate(events, 1)]
        (directory / "20260101T000000.000000Z-1-b0.jsonl").write_text("\n".join([HEADER, *lines, ""]))
        return cli(*command.split(), **environment)

    return run


START = '"event_type":"workflow_started","workflow_id":"w","run_id":"r"'
OPENED = '"event_type":"shop_opened","door":"front","extra":1'
FILLED = '"event_type":"shelf_filled","workflow_id":"w","run_id":"r","node_id":"n","count":3'


def shop(distributions: Distributions, source: str = SHOP, name: str = "shop") -> None:
    distributions.add_module(f"{name}_events", source)
    distributions.add(f"the-{name}", {name: f"{name}_events"}, group="events")


def words(text: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.lstrip().startswith("+")]


def test_events_of_a_plugin_are_shown_in_its_words(distributions: Distributions, show: Any) -> None:
    """An event of an installed plugin is shown with the text of its class's `__str__`."""
    shop(distributions)
    ended = show("show --events", START, OPENED, FILLED)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert words(ended.stdout) == ["start  workflow w", "event  opened the front door", "event  3 books"]


def test_text_has_the_words_of_a_plugin(distributions: Distributions, show: Any) -> None:
    """`eventbus cat --format text` has the same words."""
    shop(distributions)
    lines = show("cat --format text", START, OPENED, FILLED).stdout.splitlines()
    assert [line.partition("  s1  ")[2] for line in lines] == [
        "start  workflow w",
        "event  opened the front door",
        "event  3 books",
    ]


def test_events_of_a_plugin_are_found_by_their_class(distributions: Distributions, show: Any) -> None:
    """`eventbus cat --type` knows the classes of an installed plugin, also by those they inherit from."""
    shop(distributions)
    for kind, found in (("ShopOpened", ["front"]), ("NodeEvent", [None]), ("shelf_filled", [None])):
        ended = show(f"cat --type {kind}", START, OPENED, FILLED)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert [json.loads(line).get("door") for line in ended.stdout.splitlines()] == found


def test_events_of_a_plugin_have_a_schema(distributions: Distributions, show: Any) -> None:
    """`eventbus schema` has the fields of an installed plugin's classes."""
    shop(distributions)
    printed = json.loads(show("schema ShopOpened", START).stdout)
    assert printed["$defs"]["ShopOpened"]["required"] == ["event_type", "door"]


def test_without_the_plugin_they_are_unknown(show: Any) -> None:
    """An event without an installed class is shown as its type."""
    assert words(show("show --events", START, OPENED).stdout)[1] == "event  shop_opened"


@pytest.mark.parametrize(
    "target",
    ["shop_events:ShopOpened", "shop_events : ShopOpened", "shop_events [fast]", "shop_events:Inside.Shop"],
)
def test_one_class_of_a_module(distributions: Distributions, show: Any, target: str) -> None:
    """An entry point may name one class."""
    distributions.add_module("shop_events", f"{SHOP}\nclass Inside:\n    Shop = ShopOpened\n")
    distributions.add("the-shop", {"shop": target}, group="events")
    assert "event  opened the front door" in words(show("show --events", START, OPENED).stdout)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("raise ImportError('gone')", "bad", "ImportError: gone"),
        ("raise SystemExit(3)", "bad", "SystemExit: 3"),
        ("def f(:", "bad", "SyntaxError: "),
        ("x = 1", "bad", "bad has no event class of its own: class DeployFinished(Event)"),
        ("from eventbus import *", "bad", "bad has no event class of its own"),
        ("x = 1", "bad:x", "bad:x is not an event class of its own"),
        ("class X: pass", "bad:X", "bad:X is not an event class of its own"),
        ("x = 1", "bad:y", "AttributeError: "),
        ("x = 1", "no_such_module", "ModuleNotFoundError: "),
        ("x = 1", "no place", ""),
    ],
)
def test_a_broken_event_plugin_is_one_line(
    distributions: Distributions, show: Any, source: str, target: str, reason: str
) -> None:
    """A plugin whose event classes cannot be loaded is one line on stderr, and affects no other."""
    distributions.add_module("bad", f"print('chatty')\n{source}\n" if "def f" not in source else source)
    distributions.add("a-bad", {"bad": target}, group="events")
    shop(distributions)
    ended = show("show --events", START, OPENED)
    notes = [line for line in ended.stderr.splitlines() if line != "chatty"]
    assert ended.returncode == 0
    assert "chatty" not in ended.stdout
    assert len(notes) == 1
    assert notes[0].startswith(
        f"note: events of the plugin bad of a-bad may be shown without their class: {reason}"
    )
    assert words(ended.stdout)[1] == "event  opened the front door"


def test_a_plugin_that_hangs_is_given_up(
    distributions: Distributions, show: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Event classes whose import hangs are given up at the deadline."""
    monkeypatch.setattr("eventbus.plugins.event_plugins.LOAD_SECONDS", 0.05)
    distributions.add_module("hangs", "import threading\nthreading.Event().wait(0.5)\n")
    distributions.add("a-hanging", {"hanging": "hangs"}, group="events")
    ended = show("show --events", START, OPENED)
    assert ended.returncode == 0
    assert ended.stderr.endswith("without their class: it did not load within 0.05 s\n")


def test_a_taken_wire_name_is_refused(distributions: Distributions, show: Any) -> None:
    """A class with the wire name of a built-in one, or of another plugin, is refused with its reason."""
    shop(distributions, REFUSED, "refused")
    shop(distributions, "from eventbus import Event\nclass ShopClosed(Event):\n    hour: int = 0\n", "second")
    ended = show("show --events", START, '"event_type":"shop_closed","door":"back"')
    reasons = {
        "refused_events.NodeCompleted": "'node_completed' is eventbus.events.vocabulary.NodeCompleted",
        "refused_events.Mine": "'workflow_started' is eventbus.events.vocabulary.WorkflowStarted",
        "refused_events.SegmentStarted": "'segment_started' is the first line of a segment",
        "refused_events.Unreadable": "it cannot be decoded: name 'Nowhere' is not defined",
        "second_events.ShopClosed": "'shop_closed' is refused_events.ShopClosed; give it a name of its own",
    }
    assert ended.returncode == 0
    assert len(ended.stderr.splitlines()) == 2
    for place, reason in reasons.items():
        assert f"{place} is refused: " in ended.stderr
        assert reason in ended.stderr
    assert event_types()["shop_closed"].__module__ == "refused_events"
    assert event_types()["node_completed"].__module__ == "eventbus.events.vocabulary"
    assert "unreadable" not in event_types()


def test_loading_twice_refuses_nothing(distributions: Distributions, show: Any) -> None:
    """A plugin that is loaded again, or twice under two names, owns its classes still."""
    shop(distributions)
    distributions.add("again", {"again": "shop_events:ShopOpened"}, group="events")
    for _ in range(2):
        assert show("show --events", START, OPENED).stderr == ""


def test_broken_words_spoil_their_own_events_only(distributions: Distributions, show: Any) -> None:
    """An event whose class fails to describe it, or to be made, is shown as its type."""
    shop(distributions)
    shop(distributions, BROKEN_WORDS, "broken")
    kinds = ("raises_words", "wrong_words", "long_words", "raises_when_made", "exits_when_made")
    events = [f'"event_type":"{kind}","more":"kept"' for kind in kinds]
    ended = show("show --events", START, *events, OPENED)
    lines = words(ended.stdout)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert lines[1:3] == ["event  raises_words", "event  wrong_words"]
    assert lines[3].startswith(r"event  \x1b[31mxxx")
    assert len(lines[3]) < 600
    assert lines[4:] == ["event  raises_when_made", "event  exits_when_made", "event  opened the front door"]
    stored = show("cat", START, *events, OPENED).stdout
    assert stored.count('"more":"kept"') == len(events)


def test_a_disabled_plugin_shows_no_events(distributions: Distributions, show: Any) -> None:
    """A disabled plugin is not imported; `eventbus plugins` knows its name."""
    shop(distributions, "raise SystemExit(1)")
    ended = show("show --events", START, OPENED, EVENTBUS_DISABLED="shop")
    assert (ended.returncode, ended.stderr) == (0, "")
    ended = show("plugins --json", START, EVENTBUS_DISABLED="shop")
    (state,) = [line for line in map(json.loads, ended.stdout.splitlines()) if line["name"] == "shop"]
    assert (state["state"], state["group"], ended.stderr) == ("disabled", "eventbus.events", "")


def test_wrong_settings_keep_events_readable(
    distributions: Distributions, show: Any, somewhere: Path
) -> None:
    """With wrong settings no plugin is imported, since one of them may be disabled; the log is shown."""
    shop(distributions, "raise SystemExit(1)")
    (somewhere / "pyproject.toml").write_text('[tool.eventbus]\nsync = "now"\n')
    ended = show(f"cat --dir {somewhere / '.session-buddy'}", START, OPENED)
    assert ended.returncode == 0
    assert len(ended.stdout.splitlines()) == 2
    assert ended.stderr.startswith("note: plugins show no events of their own, as the settings are wrong: ")


def test_a_project_loads_no_code(distributions: Distributions, show: Any, somewhere: Path) -> None:
    """What is not installed is not imported, whatever the project has in its directory and its settings."""
    (somewhere / "shop_events.py").write_text("raise SystemExit(1)\n")
    (somewhere / "pyproject.toml").write_text(
        '[project.entry-points."eventbus.events"]\nshop = "shop_events"\n'
        '[tool.eventbus]\nenabled = ["shop"]\n'
    )
    ended = show("show --events", START, OPENED)
    assert ended.returncode == 0
    assert words(ended.stdout)[1] == "event  shop_opened"


def test_event_plugins_are_listed(distributions: Distributions, show: Any) -> None:
    """`eventbus plugins` lists the plugins with event classes, and the reasons of the broken ones."""
    shop(distributions)
    shop(distributions, REFUSED, "refused")
    ended = show("plugins", START)
    lines = {line.split()[1]: line for line in ended.stdout.splitlines()}
    assert ended.returncode == 1
    assert lines["shop"].split() == ["ok", "shop", "the-shop", "1.0"]
    assert lines["refused"].startswith("FAILED")
    assert "refused_events.SegmentStarted is refused" in lines["refused"]


def test_event_plugins_are_checked(distributions: Distributions, cli: Program) -> None:
    """`eventbus plugins check NAME` loads the event classes of a plugin, and says which is refused."""
    shop(distributions)
    shop(distributions, REFUSED, "refused")
    assert (cli("plugins", "check", "shop").returncode, cli("plugins", "check", "refused").returncode) == (
        0,
        1,
    )
    assert (
        "FAILED  loading: refused_events.NodeCompleted is refused"
        in cli("plugins", "check", "refused").stdout
    )


def test_a_quick_look_overlooks_nothing(
    distributions: Distributions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that nobody registers is not there; a place that cannot be read quickly may have it."""
    assert not may_be_registered("eventbus.events")
    assert may_be_registered("eventbus.subscribers")
    (tmp_path / "some.zip").write_bytes(b"PK")
    (tmp_path / "path" / "old.egg-info").write_text("Name: old\n")
    monkeypatch.setattr(sys, "path", [*sys.path, "", str(tmp_path / "absent")])
    assert not may_be_registered("eventbus.events")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(tmp_path / "some.zip")])
        assert may_be_registered("eventbus.events")
    shop(distributions)
    assert may_be_registered("eventbus.events")
