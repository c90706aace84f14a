"""Finding and loading subscribers by entry point, from distributions made for the test."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import threading
import time
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import eventbus_subscribers
import pytest

import eventbus
from eventbus import Event, EventBus, NodeStarted, Overflow, PluginError
from eventbus.ground.distribution import DISTRIBUTION
from eventbus.ground.option_entry import Option
from eventbus.history import EventLog
from eventbus.plugins.finding import FailedPlugin, Plugin, find_plugins, load_plugins
from tests.distributions import Distributions, on_the_path
from tests.vocabulary import TooSlowError, attempts

BUILT_IN = ["console_progress", "event_logger", "json_persister", "live_correlator", "otel_spans"]

SOURCE = """
from eventbus import Event, NodeEvent, Overflow, Subscriber

class Good(Subscriber[NodeEvent]):
    events = NodeEvent
    def __init__(self, label="none"):
        self.label = label
    async def handle(self, event):
        seen.append(event.node_id)

class NeedsMore(Subscriber[Event]):
    def __init__(self, address): ...

class WantsNoEvents(Subscriber[Event]):
    events = int

class HoldsNothing(Subscriber[Event]):
    capacity = 0

class Hostile(Exception):
    def __str__(self):
        raise RuntimeError("no text either")

def makes_good():
    return Good("made")

def makes_nothing():
    return None

def raises():
    raise ValueError("two\\nlines \\x1b[31m")

def raises_hostile():
    raise Hostile

def exits():
    raise SystemExit(3)

def interrupts():
    raise KeyboardInterrupt

instance = Good()
number = 42
seen = []
"""


ZIPAPP = """
import importlib.metadata, sys
sys.path.append(sys.argv[1])  # of the packages that are needed, whose metadata nobody packs
importlib.metadata.distributions = lambda: iter(())
from eventbus import Event
from eventbus.runtime import build_runtime
assert "app.pyz" in sys.modules["eventbus"].__file__
runtime = build_runtime(only={"json_persister"})
assert not runtime.failed
with runtime.bus as bus:
    bus.publish(Event())
"""


@pytest.fixture
def distributions(tmp_path: Path) -> Iterator[Distributions]:
    with on_the_path(tmp_path) as made:
        made.add_module("plugged", SOURCE)
        yield made


def third_party() -> list[Plugin]:
    return [plugin for plugin in find_plugins() if plugin.distribution != DISTRIBUTION]


def reasons(failed: list[FailedPlugin]) -> dict[str, str]:
    return {each.plugin.name: each.reason for each in failed}


def test_the_built_in_subscribers_are_found_as_plugins_and_load() -> None:
    """The built-in subscribers are found through the same group as others, and can be loaded."""
    own = [plugin for plugin in find_plugins() if plugin.distribution == DISTRIBUTION]
    assert [plugin.name for plugin in own] == BUILT_IN
    outcome = load_plugins(own)
    assert not outcome.failed
    assert list(outcome.loaded) == BUILT_IN


def test_without_metadata_the_built_in_subscribers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a frozen program, a zipapp or a bare directory the built-in subscribers are found, and load."""
    installed = find_plugins()[: len(BUILT_IN)]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: iter(()))
    assert find_plugins() == installed  # so the names are those of the entry points
    assert list(load_plugins().loaded) == BUILT_IN


def test_without_metadata_and_package_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the built-in subscribers are not there, they are not found."""
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: iter(()))
    monkeypatch.setitem(sys.modules, "eventbus_subscribers", None)
    assert find_plugins() == []


def test_a_zipapp_stores_its_events(tmp_path: Path) -> None:
    """A zipapp, which has no metadata, runs the built-in subscribers: `eventbus run` stores events."""
    application = tmp_path / "app.pyz"
    with zipfile.ZipFile(application, "w") as archive:
        for package in (Path(eventbus.__file__).parent, Path(eventbus_subscribers.__file__).parent):
            for file in package.rglob("*.py"):
                archive.write(file, file.relative_to(package.parent))
        archive.writestr("__main__.py", ZIPAPP)
    arguments = [sys.executable, "-S", str(application), str(Path(anyio.__file__).parent.parent)]
    subprocess.run(
        arguments, check=True, timeout=60, cwd=tmp_path, env={**os.environ, "EVENTBUS_DIR": str(tmp_path)}
    )
    assert [type(event) for event in EventLog(tmp_path).events()] == [Event]


def test_finding_imports_nothing(distributions: Distributions) -> None:
    """A plugin is imported when it is loaded, not when it is found."""
    distributions.add("slow-nodes", {"good": "plugged:Good"})
    assert [plugin.name for plugin in third_party()] == ["good"]
    assert "plugged" not in sys.modules


def test_a_plugin_of_another_distribution_receives_events(distributions: Distributions) -> None:
    """A plugin is one class and one entry point."""
    distributions.add("slow-nodes", {"good": "plugged:Good"})
    (plugin,) = third_party()
    assert plugin == Plugin("good", "slow-nodes", "plugged:Good")
    with EventBus([plugin.load()]) as bus:
        bus.publish(NodeStarted(workflow_id="w", node_id="n"))
    assert sys.modules["plugged"].seen == ["n"]


def test_an_entry_point_may_name_a_function_that_makes_the_subscriber(distributions: Distributions) -> None:
    """An entry point may name a function that makes a subscriber."""
    distributions.add("slow-nodes", {"made": "plugged:makes_good"})
    assert vars(third_party()[0].load())["label"] == "made"


def test_options_go_to_the_plugin_of_their_name_only(distributions: Distributions) -> None:
    """A plugin is called without arguments, unless there are options under its name."""
    distributions.add("slow-nodes", {"one": "plugged:Good", "two": "plugged:Good"})
    loaded = load_plugins(third_party(), options={"two": {"label": "given"}}).loaded
    assert [vars(each)["label"] for each in loaded.values()] == ["none", "given"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_module:Thing", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("plugged:NoSuchName", "AttributeError: "),
        ("broken_source:Thing", "SyntaxError: "),
        ("plugged:raises", r"ValueError: two\nlines \x1b[31m"),
        ("plugged:raises_hostile", "Hostile"),
        ("plugged:exits", "SystemExit: 3"),
        ("exits_on_import:Thing", "SystemExit: 4"),
        ("plugged:interrupts", "KeyboardInterrupt"),
        ("plugged:NeedsMore", "it needs the option address. Set it in [tool.eventbus.plugins.broken]"),
        (
            "plugged:instance",
            "plugged:instance is an instance of Good, neither a Subscriber class nor a function",
        ),
        ("plugged:number", "plugged:number is an instance of int, neither a Subscriber class nor a function"),
        ("plugged:makes_nothing", "plugged:makes_nothing makes an instance of NoneType, not a Subscriber"),
        ("plugged:WantsNoEvents", "SubscriberError: cannot subscribe to int"),
        ("plugged:HoldsNothing", "SubscriberError: capacity=0 holds nothing"),
        ("not a target", ""),
    ],
)
def test_a_broken_plugin_is_reported_with_its_reason_and_the_others_load(
    distributions: Distributions, target: str, reason: str
) -> None:
    """The exception of a plugin is one line in a list, and the other plugins load."""
    distributions.add_module("broken_source", "def f(:\n")
    distributions.add_module("exits_on_import", "raise SystemExit(4)\n")
    distributions.add("a-broken", {"broken": target})
    distributions.add("b-good", {"good": "plugged:Good"})
    outcome = load_plugins(third_party())
    assert list(outcome.loaded) == ["good"]
    assert list(reasons(outcome.failed)) == ["broken"]
    assert reasons(outcome.failed)["broken"].startswith(reason)
    assert reasons(outcome.failed)["broken"]
    assert "\n" not in reasons(outcome.failed)["broken"]


def test_loading_one_broken_plugin_raises_with_its_cause(distributions: Distributions) -> None:
    """Loading one plugin raises a `PluginError` whose cause is the plugin's exception."""
    distributions.add("broken", {"broken": "plugged:raises"})
    with pytest.raises(PluginError, match=r"ValueError: two") as caught:
        third_party()[0].load()
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_plugin_that_hangs_is_left_behind_at_the_deadline(
    distributions: Distributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin whose import hangs fails at the deadline, and the next plugins load."""
    gate = types.ModuleType("gate_of_the_test")
    gate.__dict__["release"] = release = threading.Event()
    monkeypatch.setitem(sys.modules, gate.__name__, gate)
    distributions.add_module("hangs", "import gate_of_the_test\ngate_of_the_test.release.wait()\n")
    distributions.add("a-hanging", {"hanging": "hangs:Thing"})
    distributions.add("b-good", {"good": "plugged:Good"})
    began = time.monotonic()
    outcome = load_plugins(third_party(), timeout=0.2)
    took = time.monotonic() - began
    release.set()
    assert reasons(outcome.failed) == {"hanging": "it did not load within 0.2 s"}
    assert list(outcome.loaded) == ["good"]
    assert 0.2 <= took < 3


def test_several_plugins_that_hang_cost_one_deadline(
    distributions: Distributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plugins that hang do so at the same time, and a plugin after them loads."""
    gate = types.ModuleType("gate_of_the_test")
    gate.__dict__["release"] = release = threading.Event()
    monkeypatch.setitem(sys.modules, gate.__name__, gate)
    hanging = "import gate_of_the_test\ngate_of_the_test.release.wait()\n"
    for number in range(4):
        distributions.add_module(f"hangs_{number}", hanging)
        distributions.add(f"a-{number}", {f"hanging_{number}": f"hangs_{number}:Thing"})
    distributions.add("b-good", {"good": "plugged:Good"})
    monkeypatch.setattr("eventbus.plugins.finding.PATIENCE_SECONDS", 0.01)
    began = time.monotonic()
    outcome = load_plugins(third_party(), timeout=0.3)
    took = time.monotonic() - began
    release.set()
    assert len(outcome.failed) == 4
    assert list(outcome.loaded) == ["good"]
    assert 0.3 <= took < 1.2


def test_the_version_that_a_broken_plugin_asks_for(distributions: Distributions) -> None:
    """A plugin that cannot be imported and requires versions of eventbus is reported with both versions."""
    distributions.add_module("newer", "from eventbus import SomethingOfVersion9\n")
    distributions.add("newer", {"newer": "newer:Thing"}, requires="anyio_eventbus[cli] (>=9)")
    (failed,) = load_plugins(third_party()).failed
    installed = importlib.metadata.version(DISTRIBUTION)
    assert failed.reason.startswith("ImportError: cannot import name 'SomethingOfVersion9'")
    assert failed.reason.endswith(
        f" (it requires anyio_eventbus[cli]>=9; anyio-eventbus {installed} is installed)"
    )


def test_a_plugin_has_the_version_of_its_distribution(distributions: Distributions) -> None:
    """A plugin knows its distribution, and that distribution's version."""
    distributions.add("slow-nodes", {"good": "plugged:Good"}, requires="anyio>=4")
    (plugin,) = third_party()
    assert (plugin.distribution, plugin.version, plugin.requires) == ("slow-nodes", "1.0", "")


def test_the_table_of_a_plugin_becomes_its_arguments(distributions: Distributions) -> None:
    """A plugin is made with the options of its table; a wrong one fails that plugin only."""
    distributions.add_module("typed", SOURCE.replace('label="none"', 'label: str = "none"'))
    distributions.add("slow-nodes", {"one": "typed:Good", "two": "typed:Good"})
    tables = {"one": {"label": Option("given")}, "two": {"label": Option(3, "PLACE: label")}}
    outcome = load_plugins(third_party(), tables=tables)
    assert vars(outcome.loaded["one"])["label"] == "given"
    assert reasons(outcome.failed) == {"two": "PLACE: label: Expected `str`, got `int`. Correct it"}


def test_a_name_that_is_taken_fails_for_the_second_plugin(distributions: Distributions) -> None:
    """Of two plugins with one name the first distribution's is loaded, and the other reported."""
    distributions.add("b-second", {"good": "plugged:makes_good"})
    distributions.add("a-first", {"good": "plugged:Good"})
    outcome = load_plugins(third_party())
    assert vars(outcome.loaded["good"])["label"] == "none"
    assert [each.plugin.distribution for each in outcome.failed] == ["b-second"]
    assert outcome.failed[0].reason == "the name is taken by plugged:Good of a-first"


def test_no_package_takes_the_place_of_a_built_in_subscriber(distributions: Distributions) -> None:
    """A built-in plugin comes first, whatever the name of the other distribution."""
    distributions.add("aaa", {"json_persister": "plugged:Good"})
    outcome = load_plugins()
    assert type(outcome.loaded["json_persister"]).__name__ == "JsonPersister"
    assert reasons(outcome.failed) == {
        "json_persister": (
            "the name is taken by eventbus_subscribers.json_persister:JsonPersister of anyio-eventbus"
        )
    }


def test_a_disabled_plugin_is_not_even_imported(distributions: Distributions) -> None:
    """A disabled plugin is not imported."""
    distributions.add("slow-nodes", {"good": "plugged:Good"})
    outcome = load_plugins(third_party(), disabled=["good"])
    assert not outcome.loaded
    assert not outcome.failed
    assert "plugged" not in sys.modules


def test_a_distribution_that_is_on_the_path_twice_is_one(
    distributions: Distributions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second copy of a distribution on the path is ignored, as its modules are."""
    distributions.add("slow-nodes", {"good": "plugged:Good"})
    further_down = tmp_path / "further_down"
    further_down.mkdir()
    Distributions(further_down).add("slow-nodes", {"good": "plugged:Old", "old": "plugged:Old"})
    monkeypatch.setattr(sys, "path", [*sys.path, str(further_down)])
    assert [plugin.target for plugin in third_party()] == ["plugged:Good"]


def test_unreadable_metadata_of_one_distribution_hides_no_other(distributions: Distributions) -> None:
    """A distribution with damaged metadata is skipped."""
    distributions.add("damaged", {"bad": "plugged:Good"})
    (distributions.directory / "damaged-1.0.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe[")
    distributions.add("slow-nodes", {"good": "plugged:Good"})
    assert [plugin.name for plugin in third_party()] == ["good"]


def test_the_options_of_a_plugin_are_checked_as_those_of_a_subscription(distributions: Distributions) -> None:
    """`COALESCE` without a key fails when the plugin is loaded, not when the bus is built."""
    source = f"{SOURCE}\nclass Keyless(Good):\n    overflow = Overflow.{Overflow.COALESCE.name}\n"
    distributions.add_module("plugged", source)
    distributions.add("slow-nodes", {"keyless": "plugged:Keyless"})
    with pytest.raises(PluginError, match=r"COALESCE needs key="):
        third_party()[0].load()


@pytest.mark.alone
def test_fifty_plugins_load_at_once(distributions: Distributions) -> None:
    """Fifty plugins are found and loaded in less than 0.2 s beyond their own imports."""
    for number in range(50):
        distributions.add(f"of-{number}", {f"plugin_{number}": "plugged:Good"})
    load_plugins()  # imports their module, and those of the built-in ones
    for attempt in attempts():
        with attempt:
            began = time.perf_counter()
            outcome = load_plugins()
            took = time.perf_counter() - began
            assert len(outcome.loaded) == 50 + len(BUILT_IN)
            if took > 0.2:
                raise TooSlowError(f"50 plugins took {took:.3f} s")
