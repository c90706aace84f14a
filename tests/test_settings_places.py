"""The places of settings: which one wins, what a project may decide, and keys of other versions."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eventbus import Event, log_directory
from eventbus.errors import SettingsError
from eventbus.ground.warned_once import warn_once
from eventbus.runtime import build_runtime
from eventbus.settings import Settings, load_settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, which is the working directory, without a table of its own."""
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.chdir(directory)
    warn_once.cache_clear()
    return directory


def write(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own file, which does not exist yet."""
    folder = tmp_path / "config" / "eventbus"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder / "config.toml"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {(record.name, record.levelno) for record in caplog.records} <= {
        ("eventbus.settings", logging.WARNING)
    }
    return [record.getMessage() for record in caplog.records]


# Which place wins.


def test_precedence(project: Path, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments override the environment, that the user's file, that the project's, and that the defaults."""
    sync: list[str] = [load_settings().sync]
    write(project, '[tool.eventbus]\nsync = "never"\n')
    sync.append(load_settings().sync)
    user.write_text('sync = "always"\n')
    sync.append(load_settings().sync)
    monkeypatch.setenv("EVENTBUS_SYNC", "interval")
    sync.append(load_settings().sync)
    sync.append(load_settings(arguments={"sync": "never", "progress": None}).sync)
    assert sync == ["interval", "never", "always", "interval", "never"]


@pytest.mark.parametrize(
    ("platform", "environment", "place"),
    [
        ("linux", {"HOME": "{home}"}, ".config"),
        ("linux", {"HOME": "/nowhere", "XDG_CONFIG_HOME": "{home}/xdg"}, "xdg"),
        ("linux", {"HOME": "{home}", "XDG_CONFIG_HOME": "relative"}, ".config"),
        ("darwin", {"HOME": "{home}"}, "Library/Application Support"),
        ("win32", {"USERPROFILE": "/nowhere", "APPDATA": "{home}/roaming"}, "roaming"),
    ],
)
def test_the_file_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], place: str
) -> None:
    """The user's file is `eventbus/config.toml` where the platform keeps settings, or in XDG_CONFIG_HOME."""
    folder = tmp_path / place / "eventbus"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('progress = "quiet"\n')
    monkeypatch.setattr(sys, "platform", platform)
    found = {name: text.format(home=tmp_path) for name, text in environment.items()}
    assert load_settings(tmp_path, found).progress == "quiet"


def test_without_a_home(tmp_path: Path) -> None:
    """Where the environment names no home directory, there is no file of the user."""
    assert load_settings(tmp_path, {}) == Settings(directory=tmp_path / ".session-buddy")


def test_a_directory_in_the_file_of_the_user(project: Path, user: Path) -> None:
    """A relative directory in the user's file is within the project, an absolute one is for all projects."""
    user.write_text('directory = "mine"\n')
    assert load_settings().directory == log_directory() == project / "mine"
    user.write_text(f'directory = "{user.parent}"\n')
    assert load_settings().directory == log_directory() == user.parent


@pytest.mark.parametrize(
    ("text", "named"), [("progress = 3\n", "progress"), ("not TOML [", "line 1"), ("[tool]\nx = 1\n", "")]
)
def test_a_wrong_file_of_the_user(project: Path, user: Path, text: str, named: str) -> None:
    """What is wrong in the user's file is one error that names it; other tables are ignored."""
    user.write_text(text)
    assert log_directory() == project / ".session-buddy"
    if not named:
        assert load_settings().progress == "auto"
        return
    with pytest.raises(SettingsError, match=f"{user}: .*{named}"):
        load_settings()


def test_the_user_decides_about_plugins(project: Path, user: Path) -> None:
    """A project cannot enable a plugin that the user has disabled."""
    write(project, '[tool.eventbus]\nenabled = ["mine", "event_logger"]\n')
    user.write_text('disabled = ["mine"]\n')
    assert load_settings().left_out == {"mine", "otel_spans"}


# Keys of other versions.


def test_a_key_of_a_newer_version(project: Path, user: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unknown key is ignored, with one warning that names its file and the nearest right key."""
    write(project, '[tool.eventbus]\nprogess = 1\nsync = "never"\n')
    user.write_text("invented = 1\n")
    assert {load_settings().sync for _ in range(3)} == {"never"}
    file = f"{project / 'pyproject.toml'}: [tool.eventbus]"
    unknown = "is ignored: there is no such setting"
    assert warnings(caplog) == [
        f"{file}: progess {unknown}; did you mean 'progress'?",
        f"{user}: invented {unknown}",
    ]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("EVENTBUS_DIRECTORY", "EVENTBUS_DIR"),
        ("EVENTBUS_DISABELD", "EVENTBUS_DISABLED"),
        ("EVENTBUS_KEEPDAYS", "EVENTBUS_KEEP_DAYS"),
        ("EVENTBUS_SESSION_ID", ""),
        ("EVENTBUS_SOMETHING", ""),
        ("MY_EVENTBUS_DIRECTORY", ""),
    ],
)
def test_a_misspelt_variable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, variable: str, meant: str
) -> None:
    """A variable whose name is nearly that of a setting is reported once."""
    warn_once.cache_clear()
    for _ in range(2):
        load_settings(tmp_path, {variable: "x"})
    assert warnings(caplog) == [f"the environment: {variable} is ignored; did you mean {meant!r}?"] * bool(
        meant
    )


# What a project may decide.


def outside(text: str, project: Path, elsewhere: Path) -> None:
    if text == "link":
        write(project, "")
        (project / ".session-buddy").symlink_to(elsewhere)
    elif text == "link within":
        write(project, "")
        (project / ".session-buddy").mkdir()
        (project / ".session-buddy" / "events").symlink_to(elsewhere / "events")
    else:
        write(project, f'[tool.eventbus]\ndirectory = "{text.format(elsewhere)}"\nkeep_days = 0.1\n')


@pytest.mark.parametrize(
    "text", ["{}", "../elsewhere", "src/../../elsewhere", "link", "link within", "~/elsewhere"]
)
@pytest.mark.parametrize("finds", [lambda: load_settings().directory, log_directory], ids=["load", "log"])
def test_a_project_that_sends_the_log_elsewhere(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    text: str,
    finds: Callable[[], Path],
) -> None:
    """A log that a project sends elsewhere, a link too, is used, and one warning names the place."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    outside(text, project, elsewhere)
    assert {(finds() / "events").resolve() for _ in range(3)} == {elsewhere / "events"}
    (warning,) = warnings(caplog)
    assert str(project) in warning
    assert f"the event log is outside of the project, in {elsewhere / 'events'}." in warning


@pytest.mark.parametrize("text", ["logs", "a/../logs", "."])
def test_a_log_within_the_project(project: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Of a log within the project nothing is said."""
    write(project, f'[tool.eventbus]\ndirectory = "{text}"\nkeep_days = 1\n')
    assert load_settings().keep_days == 1
    log_directory()
    assert warnings(caplog) == []


@pytest.mark.parametrize("place", ["variable", "file", "argument"])
def test_a_log_that_the_user_sends_elsewhere(
    project: Path,
    user: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
) -> None:
    """A place that the user chose is not warned of, and a project does not shorten what is kept there."""
    write(project, '[tool.eventbus]\ndirectory = "/tmp"\nkeep_days = 0.001\nkeep_bytes = 1\n')
    elsewhere = str(tmp_path / "elsewhere")
    if place == "variable":
        monkeypatch.setenv("EVENTBUS_DIR", elsewhere)
    if place == "file":
        user.write_text(f'directory = "{elsewhere}"\n')
    settings = load_settings(arguments={"directory": Path(elsewhere) if place == "argument" else None})
    assert settings == Settings(directory=Path(elsewhere), origins=settings.origins)
    assert warnings(caplog) == []


def test_a_project_prunes_no_log_of_others(project: Path, user: Path, tmp_path: Path) -> None:
    """Nothing is removed from a log elsewhere that a project names, unless the user says so."""
    write(project, f'[tool.eventbus]\ndirectory = "{tmp_path}"\nkeep_days = 0.001\nkeep_bytes = 1\n')
    settings = load_settings()
    assert (settings.keep_days, settings.keep_bytes) == (0, 0)
    user.write_text("keep_days = 5\n")
    settings = load_settings()
    assert (settings.keep_days, settings.keep_bytes) == (5, 0)


def test_a_link_above_the_project(tmp_path: Path, project: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A link in the path of the project itself leads nowhere else."""
    (tmp_path / "link").symlink_to(project)
    assert load_settings(tmp_path / "link").directory == tmp_path / "link" / ".session-buddy"
    assert warnings(caplog) == []


def test_a_project_that_brings_code(project: Path) -> None:
    """A project loads no code that is not installed, whatever its pyproject.toml declares and names."""
    (project / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    write(
        project,
        '[project]\nname = "evil"\n[project.entry-points."eventbus.subscribers"]\nevil = "evil:Evil"\n'
        '[tool.eventbus]\nenabled = ["evil", "evil:Evil", "./evil.py"]\n'
        '[tool.eventbus.plugins.evil]\ntarget = "evil:Evil"\nmodule = "evil"\n'
        '[tool.eventbus.plugins.json_persister]\ndirectory = "/elsewhere"\n',
    )
    runtime = build_runtime(only=("json_persister", "evil"))
    assert list(runtime.subscribers) == ["json_persister"]
    assert runtime.settings.directory == project / ".session-buddy"
    assert not (project / "ran").exists()
    with runtime.bus as bus:
        bus.publish(Event())
    assert len(list((project / ".session-buddy" / "events").iterdir())) == 1
