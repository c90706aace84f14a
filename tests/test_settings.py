"""Settings: the nearest pyproject.toml, the environment, and one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventbus import Event, EventBusError
from eventbus.errors import SettingsError
from eventbus.events.printable import printable
from eventbus.ground.warned_once import warn_once
from eventbus.runtime import build_runtime
from eventbus.settings import Settings, load_settings


def project(directory: Path, text: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "pyproject.toml").write_text(text, encoding="utf-8")
    return directory


def test_defaults(tmp_path: Path) -> None:
    """By default the log is in the project's .session-buddy, and the event logger is disabled."""
    settings = load_settings(project(tmp_path, ""), {})
    assert settings == Settings(directory=tmp_path / ".session-buddy")
    assert settings.left_out == {"event_logger", "otel_spans"}


def test_the_nearest_file_counts_and_directories_are_its_own(tmp_path: Path) -> None:
    """The nearest pyproject.toml counts, and its directories are relative to it."""
    project(tmp_path, '[tool.eventbus]\nprogress = "quiet"\n')
    inner = project(
        tmp_path / "inner", '[tool.eventbus]\ndirectory = "logs"\ndisabled = ["live_correlator"]\n'
    )
    (inner / "src" / "deep").mkdir(parents=True)
    settings = load_settings(inner / "src" / "deep", {})
    assert (settings.directory, settings.progress) == (inner / "logs", "auto")
    assert settings.left_out == {"event_logger", "live_correlator", "otel_spans"}


def test_the_environment_wins(tmp_path: Path) -> None:
    """A variable wins over the file; its directory is relative to the working directory."""
    start = project(tmp_path, '[tool.eventbus]\nprogress = "quiet"\ndirectory = "logs"\n')
    settings = load_settings(start, {"EVENTBUS_DIR": "elsewhere", "EVENTBUS_PROGRESS": "json"})
    assert (settings.directory, settings.progress) == (Path("elsewhere"), "json")


def test_the_log_can_be_set(tmp_path: Path) -> None:
    """The settings of the log come from the file or from the environment."""
    start = project(tmp_path, '[tool.eventbus]\nsync = "never"\nkeep_days = 7\nkeep_bytes = 0\n')
    settings = load_settings(start, {"EVENTBUS_SYNC": "always", "EVENTBUS_SEGMENT_BYTES": "4096"})
    assert (settings.sync, settings.segment_bytes) == ("always", 4_096)
    assert (settings.keep_days, settings.keep_bytes) == (7.0, 0)
    assert load_settings(start, {"EVENTBUS_KEEP_DAYS": "0.5"}).keep_days == 0.5


def test_settings_reach_the_persister(tmp_path: Path) -> None:
    """The persister gets the settings of the log."""
    runtime = build_runtime(Settings(directory=tmp_path, segment_bytes=300, progress="quiet"))
    with runtime.bus as bus:
        for number in range(600):
            bus.publish(Event(metadata={"number": number}))
    assert len(list((tmp_path / "events").iterdir())) > 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EVENTBUS_SYNC", "often"),
        ("EVENTBUS_SEGMENT_BYTES", "0"),
        ("EVENTBUS_KEEP_DAYS", "-1"),
        ("EVENTBUS_KEEP_BYTES", "x"),
    ],
)
def test_a_wrong_setting_of_the_log(tmp_path: Path, variable: str, value: str) -> None:
    """A value that cannot be used is one error that names its variable."""
    with pytest.raises(SettingsError, match=variable):
        load_settings(project(tmp_path, ""), {variable: value})


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    """`EVENTBUS_DIR= command` sets nothing."""
    start = project(tmp_path, '[tool.eventbus]\nprogress = "quiet"\n')
    settings = load_settings(start, {"EVENTBUS_DIR": "", "EVENTBUS_PROGRESS": ""})
    assert (settings.directory, settings.progress) == (tmp_path / ".session-buddy", "quiet")


def test_the_working_directory_and_the_process_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default the working directory and the process's environment are used."""
    monkeypatch.chdir(project(tmp_path, '[tool.eventbus]\ndirectory = "/logs"\n'))
    monkeypatch.setenv("EVENTBUS_PROGRESS", "plain")
    settings = load_settings()
    assert (settings.directory, settings.progress) == (Path("/logs"), "plain")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[tool.eventbus]\nprogress = "loud"\n', ["loud", "progress"]),
        ("[tool.eventbus]\nprogress = 3\n", ["progress"]),
        ("[tool.eventbus]\ndirectory = 7\n", ["7", "directory"]),
        ('[tool.eventbus]\ndirectory = ""\n', ["directory"]),
        ('[tool.eventbus]\ndisabled = "event_logger"\n', ["disabled"]),
        ("[tool.eventbus]\ndisabled = [1]\n", ["disabled"]),
        ("[tool.eventbus]\nplugins = 1\n", ["plugins"]),
        ("[tool.eventbus.plugins]\nslow_nodes = 1\n", ["plugins", "slow_nodes"]),
        ('[tool.eventbus]\nenabled = "event_logger"\n', ["enabled"]),
        ('[tool.eventbus]\nenabled = ["a"]\ndisabled = ["a"]\n', ["'a' is both disabled and enabled"]),
        ("tool = 1\n", ["tool"]),
        ("[tool]\neventbus = 1\n", ["tool.eventbus"]),
        ("[tool.eventbus\n", ["line 1"]),
        ("[project]\nname = '\udcff'\n", ["utf-8"]),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_error_that_names_file_and_key(
    tmp_path: Path, text: str, named: list[str]
) -> None:
    """A setting that cannot be used is one error that names the file and the key."""
    (tmp_path / "pyproject.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, {})
    assert isinstance(caught.value, EventBusError)
    assert isinstance(caught.value, ValueError)
    assert str(tmp_path / "pyproject.toml") in caught.value.problem
    assert [part for part in named if part not in caught.value.problem] == []
    assert str(caught.value) == f"{caught.value.problem}. {caught.value.hint}"


def test_a_variable_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """An error in the environment names the variable."""
    with pytest.raises(SettingsError, match=r"the environment: EVENTBUS_PROGRESS: .*loud"):
        load_settings(project(tmp_path, ""), {"EVENTBUS_PROGRESS": "loud"})


def test_an_unreadable_file_can_be_passed_over_but_a_wrong_setting_cannot(tmp_path: Path) -> None:
    """A file that cannot be read may be ignored; a wrong setting is still an error."""
    settings = load_settings(
        project(tmp_path, "not TOML ["), {"EVENTBUS_DIR": "/logs"}, ignore_unreadable=True
    )
    assert settings.directory == Path("/logs")
    with pytest.raises(SettingsError, match="progress"):
        load_settings(project(tmp_path, "[tool.eventbus]\nprogress = 1\n"), {}, ignore_unreadable=True)


# The plugins that are loaded.


@pytest.mark.parametrize(
    ("text", "environment", "left_out"),
    [
        ('disabled = ["x"]', {}, {"event_logger", "x", "otel_spans"}),
        ("disabled = []", {}, {"event_logger", "otel_spans"}),
        ('enabled = ["event_logger"]', {}, {"otel_spans"}),
        ('enabled = ["event_logger"]\ndisabled = ["x"]', {}, {"x", "otel_spans"}),
        ('disabled = ["x"]', {"EVENTBUS_ENABLED": "x"}, {"event_logger", "otel_spans"}),
        ('enabled = ["event_logger"]', {"EVENTBUS_DISABLED": "event_logger"}, {"event_logger", "otel_spans"}),
        ("", {"EVENTBUS_DISABLED": " x, y ,"}, {"event_logger", "x", "y", "otel_spans"}),
        (
            'disabled = ["x"]',
            {"EVENTBUS_DISABLED": "", "EVENTBUS_ENABLED": ""},
            {"event_logger", "x", "otel_spans"},
        ),
    ],
)
def test_the_lists_change_the_defaults(
    tmp_path: Path, text: str, environment: dict[str, str], left_out: set[str]
) -> None:
    """`disabled` adds to the plugins that are off by default, and `enabled` takes away from them."""
    assert load_settings(project(tmp_path, f"[tool.eventbus]\n{text}\n"), environment).left_out == left_out


def test_a_plugin_in_both_variables(tmp_path: Path) -> None:
    """A plugin that is both disabled and enabled in one place is an error."""
    with pytest.raises(SettingsError, match="the environment: the plugin 'x' is both disabled and enabled"):
        load_settings(project(tmp_path, ""), {"EVENTBUS_DISABLED": "x", "EVENTBUS_ENABLED": "x"})


@pytest.mark.parametrize("key", ["disabled", "enabled"])
@pytest.mark.parametrize("is_variable", [False, True], ids=["file", "environment"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("event_loger", "; did you mean 'event_logger'?"),
        ("Live-Correlator", "; did you mean 'live_correlator'?"),
        ("slow_nodes", ""),
        ("two\nlines", ""),
    ],
)
def test_an_unknown_plugin_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str, is_variable: bool, name: str, hint: str
) -> None:
    """A name that no installed plugin has is reported once, with its place and the nearest right name."""
    variable = f"EVENTBUS_{key.upper()}"
    line = f"[tool.eventbus]\n{key} = [{json.dumps(name)}]\n"
    settings = load_settings(
        project(tmp_path, "" if is_variable else line), {variable: name} if is_variable else {}
    )
    warn_once.cache_clear()
    for _ in range(2):
        build_runtime(settings, only=())
    place = (
        f"the environment: {variable}"
        if is_variable
        else f"{tmp_path / 'pyproject.toml'}: [tool.eventbus]: {key}"
    )
    (record,) = caplog.records
    assert record.getMessage() == f"{place}: no plugin {printable(name)!r} is installed{hint}"


def test_known_plugins_are_not_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a name that a plugin has nothing is said, whether that is loaded or not."""
    build_runtime(Settings(directory=tmp_path, disabled=("live_correlator",), enabled=("event_logger",)))
    assert caplog.records == []
