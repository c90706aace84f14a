"""The options of plugins: a table in the settings becomes the arguments of a plugin's `__init__`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from eventbus import FROM_USER, Event, Subscriber
from eventbus.errors import SettingsError
from eventbus.ground.option_entry import Option
from eventbus.ground.warned_once import warn_once
from eventbus.plugins.options import arguments_of, missing_options
from eventbus.settings import load_settings


class Limits(msgspec.Struct, frozen=True):
    """A table within the table."""

    most: Annotated[int, msgspec.Meta(gt=0)] = 3


class Plugin(Subscriber[Event]):
    """Takes an option of each kind."""

    def __init__(
        self,
        limit_seconds: float = 1.0,
        *,
        directory: Path | None = None,
        names: tuple[str, ...] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen
        logger: logging.Logger | str = "x",
        clock: Callable[[], float] | None = None,
        address: Annotated[str, FROM_USER] = "",
        unknown: Undefined = None,  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
    ) -> None: ...

    async def handle(self, event: Event) -> None:
        """Take any event."""


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of `WithStruct`."""

    limit: Annotated[int, msgspec.Meta(gt=0)] = 1
    label: str = ""
    address: Annotated[str, FROM_USER] = ""


class WithStruct(Subscriber[Event]):
    """Takes its whole table."""

    def __init__(self, settings: PluginSettings | None = None, *, clock: Any = None) -> None: ...

    async def handle(self, event: Event) -> None:
        """Take any event."""


@pytest.fixture(autouse=True)
def _warn_again() -> None:
    warn_once.cache_clear()


def arguments(target: Any, values: dict[str, Any], given: dict[str, Any] | None = None) -> dict[str, Any]:
    options = {key: Option(value, f"file: [plugins.p]: {key}") for key, value in values.items()}
    return arguments_of(target, options, given or {})


def test_a_table_becomes_arguments(caplog: pytest.LogCaptureFixture) -> None:
    """Each entry of a table is converted to the annotation of the parameter of its name."""
    values = {"limit_seconds": 2, "directory": "a/b", "names": ["x"], "limits": {"most": 9}, "logger": "y"}
    assert arguments(Plugin, values) == {
        "limit_seconds": 2.0, "directory": Path("a/b"), "names": ("x",), "limits": Limits(9), "logger": "y"
    }  # fmt: skip
    assert arguments(Plugin, {"unknown": 1}) == {"unknown": 1}
    assert caplog.records == []


def test_a_struct_takes_the_whole_table() -> None:
    """A parameter `settings` that is a Struct takes the whole table, and nothing without one."""
    assert arguments(WithStruct, {"limit": 2, "label": "x"}) == {
        "settings": PluginSettings(limit=2, label="x")
    }
    assert arguments(WithStruct, {}) == {}


def test_a_function_that_makes_the_plugin() -> None:
    """A function that makes the subscriber takes the options; one with `**options` takes all."""

    def make(n: int) -> Plugin:
        return Plugin(n)

    def make_with(**options: Any) -> Plugin:
        return Plugin(**options)

    assert arguments(make, {"n": 1}) == {"n": 1}
    assert arguments(make_with, {"n": 1, "m": [2]}) == {"n": 1, "m": [2]}
    assert missing_options(make, {}) == ["n"]
    assert missing_options(make_with, {}) == []


@pytest.mark.parametrize(
    ("target", "values", "message"),
    [
        (Plugin, {"limit_seconds": "2"}, "limit_seconds: Expected `float`, got `str`"),
        (Plugin, {"directory": 7}, "directory: Expected a path, got 7"),
        (Plugin, {"names": [1]}, "names: Expected `str`, got `int` - at `$[0]`"),
        (Plugin, {"limits": {"most": 0}}, "limits: Expected `int` >= 1 - at `$.most`"),
        (Plugin, {"logger": 3}, "logger: Expected `logging.Logger | str`, got `int`"),
        (Plugin, {"clock": "time"}, "clock: Expected Callable, got 'time'"),
        (WithStruct, {"limit": 0}, "limit: Expected `int` >= 1"),
    ],
)
def test_a_wrong_value(target: Any, values: dict[str, Any], message: str) -> None:
    """A wrong value is one line that names its place, its key, and what is expected."""
    with pytest.raises(SettingsError) as caught:
        arguments(target, values)
    assert caught.value.problem == f"file: [plugins.p]: {message}"


@pytest.mark.parametrize(
    ("target", "key", "hint"),
    [
        (Plugin, "limit_second", "; did you mean 'limit_seconds'?"),
        (Plugin, "Limit-Seconds", "; did you mean 'limit_seconds'?"),
        (WithStruct, "labels", "; did you mean 'label'?"),
        (WithStruct, "clock", ""),
        (WithStruct, "settings", ""),
        (Plugin, "colour", ""),
    ],
)
def test_an_unknown_option(caplog: pytest.LogCaptureFixture, target: Any, key: str, hint: str) -> None:
    """An option that the plugin does not have is left out, with one warning and the nearest right name."""
    assert [arguments(target, {key: 1}) for _ in range(2)] == [{}, {}]
    (record,) = caplog.records
    assert record.getMessage() == f"file: [plugins.p]: {key} is ignored: there is no such option{hint}"


def test_what_eventbus_gives_is_not_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """The directory of the log, for one, cannot be replaced by a plugin's table."""
    assert arguments(Plugin, {"directory": "elsewhere"}, {"directory": "log"}) == {"directory": "log"}
    (record,) = caplog.records
    assert record.getMessage() == (
        "file: [plugins.p]: directory is ignored: eventbus itself gives it, by a setting in [tool.eventbus]"
    )


class Required(msgspec.Struct):
    """Settings with one that has no default."""

    address: str
    label: str = ""


def test_required_options() -> None:
    """An option of a Struct without a default is asked for by its name; a Struct without any is made."""

    def make(settings: Required) -> Plugin:
        return Plugin()

    def make_limited(settings: Limits) -> Plugin:
        return Plugin()

    assert arguments(make, {"address": "x"}) == {"settings": Required("x")}
    assert arguments(make_limited, {}) == {"settings": Limits()}
    for values in ({}, {"label": "x"}):
        with pytest.raises(SettingsError, match="it needs the option address"):
            arguments(make, values)


# From files and the environment.


def load(project: Path, text: str, environment: dict[str, str] | None = None) -> dict[str, Option]:
    (project / "pyproject.toml").write_text(text)
    return load_settings(project, environment or {}).options_of("slow-nodes")


def test_each_option_has_its_own_precedence(tmp_path: Path) -> None:
    """An option of a higher place replaces that option only; names differ in case and separators."""
    (tmp_path / "eventbus").mkdir()
    (tmp_path / "eventbus" / "config.toml").write_text('[plugins.slow_nodes]\nnames = ["user"]\n')
    options = load(
        tmp_path,
        '[tool.eventbus.plugins.slow-nodes]\nlimit_seconds = 1\nnames = ["project"]\nlogger = "project"\n',
        {"XDG_CONFIG_HOME": str(tmp_path), "EVENTBUS_PLUGINS__SLOW_NODES__LIMIT_SECONDS": "2.5"},
    )
    assert arguments_of(Plugin, options, {}) == {
        "limit_seconds": 2.5, "names": ("user",), "logger": "project"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("LIMIT_SECONDS", "3", 3.0),
        ("LOGGER", "3", "3"),
        ("NAMES", '["a", "b"]', ("a", "b")),
        ("LIMITS", '{"most": 4}', Limits(4)),
        ("LOGGER", "[x", "[x"),
    ],
)
def test_variables_are_text(tmp_path: Path, key: str, text: str, value: object) -> None:
    """In a variable numbers are written as text, and lists and tables as JSON."""
    options = load(tmp_path, "", {f"EVENTBUS_PLUGINS__SLOW_NODES__{key}": text})
    assert arguments_of(Plugin, options, {}) == {key.lower(): value}


def test_an_error_in_a_variable_names_it(tmp_path: Path) -> None:
    """A wrong value in the environment is reported with its variable."""
    options = load(tmp_path, "", {"EVENTBUS_PLUGINS__SLOW_NODES__LIMIT_SECONDS": "soon"})
    with pytest.raises(SettingsError) as caught:
        arguments_of(Plugin, options, {})
    assert caught.value.problem == (
        "the environment: EVENTBUS_PLUGINS__SLOW_NODES__LIMIT_SECONDS: Expected `float`, got `str`"
    )


# What a project may decide.


@pytest.mark.parametrize("target", [Plugin, WithStruct])
def test_an_option_that_is_up_to_the_user(tmp_path: Path, target: Any) -> None:
    """An option marked `FROM_USER` is refused from a project, and taken from the user."""
    options = load(tmp_path, '[tool.eventbus.plugins.slow_nodes]\naddress = "https://example.org"\n')
    with pytest.raises(SettingsError, match=r"pyproject.toml: .*: address: a project must not set this"):
        arguments_of(target, options, {})
    options = load(tmp_path, "", {"EVENTBUS_PLUGINS__SLOW_NODES__ADDRESS": "https://example.org"})
    assert "example.org" in str(arguments_of(target, options, {}))


def test_a_path_of_a_project(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A path that a project sets is relative to it, and one that leads outside is said."""
    options = load(tmp_path, '[tool.eventbus.plugins.slow_nodes]\ndirectory = "here"\n')
    assert arguments_of(Plugin, options, {}) == {"directory": tmp_path / "here"}
    assert caplog.records == []
    options = load(tmp_path, '[tool.eventbus.plugins.slow_nodes]\ndirectory = "../there"\n')
    arguments_of(Plugin, options, {})
    (record,) = caplog.records
    assert "directory leads outside of the project, to " in record.getMessage()
