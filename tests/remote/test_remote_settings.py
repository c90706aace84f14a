"""The settings of the server, and who may decide them."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventbus import SettingsError
from eventbus.remote.remote_settings import RemoteSettings, load_remote_settings
from eventbus.settings import load_settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, which is the working directory, and a user whose file does not exist yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "eventbus").mkdir(parents=True)
    return tmp_path


def write_user_file(project: Path, text: str) -> None:
    (project / "config" / "eventbus" / "config.toml").write_text(text)


def write_project_file(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text)


def test_places(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option is looked for in the environment, the user's table `nats`, and the project's, by itself."""
    write_project_file(project, "[tool.eventbus.nats]\nwindow = 10\nack_seconds = 2\n")
    write_user_file(project, '[nats]\nurl = "tls://a:4222"\nstream = "TEAM"\nwindow = 20\n')
    monkeypatch.setenv("EVENTBUS_NATS_STREAM", "MINE")
    monkeypatch.setenv("EVENTBUS_NATS_ALLOW_CLEAR", "true")
    monkeypatch.setenv("EVENTBUS_NATS_CA", "/a/ca.pem")
    monkeypatch.setenv("EVENTBUS_NATS_TYPES", '["deploy_finished"]')
    found = load_remote_settings()
    assert found == RemoteSettings(
        url="tls://a:4222",
        stream="MINE",
        ca=Path("/a/ca.pem"),
        allow_clear=True,
        window=20,
        ack_seconds=2,
        types=("deploy_finished",),
    )


@pytest.mark.parametrize(
    "entry",
    [
        'url = "tls://evil.example"',
        'stream = "OTHER"',
        "allow_clear = true",
        'ca = "ca.pem"',
        'credentials = "a"',
        'types = ["private_event"]',
    ],
)
def test_a_project_sends_the_log_nowhere(project: Path, entry: str) -> None:
    """A project cannot decide where events are sent, which, and how safely: each such option is an error."""
    write_user_file(project, '[nats]\nurl = "tls://a:4222"\n' if "url" not in entry else "")
    write_project_file(project, f"[tool.eventbus.nats]\n{entry}\n")
    with pytest.raises(SettingsError, match="a project must not set this option"):
        load_remote_settings()


def test_what_the_user_sets_counts(project: Path) -> None:
    """The user's own table replaces what a project sets."""
    write_project_file(project, '[tool.eventbus.nats]\nurl = "tls://evil.example"\n')
    write_user_file(project, '[nats]\nurl = "tls://a:4222"\n')
    assert load_remote_settings().server == "tls://a:4222"


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "no server is set"),
        ({"URL": "http://a"}, "begins with http"),
        ({"URL": "a:4222"}, "begins with a"),
        ({"URL": "tls://u:p@a:port"}, "cannot be read"),
        ({"URL": "tls://a,,tls://b"}, "no scheme"),
        ({"URL": "tls://a", "WINDOW": "0"}, "EVENTBUS_NATS_WINDOW: Expected `int` >= 1"),
        ({"URL": "tls://a", "ACK_SECONDS": "soon"}, "EVENTBUS_NATS_ACK_SECONDS: Expected `float`"),
    ],
)
def test_wrong_values(
    project: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], problem: str
) -> None:
    """A wrong value is one error of one line, without the password in a URL."""
    for name, text in variables.items():
        monkeypatch.setenv(f"EVENTBUS_NATS_{name}", text)
    with pytest.raises(SettingsError) as caught:
        load_remote_settings()
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "u:p" not in str(caught.value)


def test_passwords_are_not_shown() -> None:
    """Neither `repr` nor `server` contains the user's name or password."""
    settings = RemoteSettings(url="tls://me:secret@a:4222, tls://token@b")
    assert settings.server == "tls://a:4222,tls://b"
    assert repr(settings) == "<RemoteSettings 'tls://a:4222,tls://b' 'EVENTBUS'>"


def test_misspelt_options_are_reported(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An option that does not exist is ignored, with one warning that names the nearest right one."""
    monkeypatch.setenv("EVENTBUS_NATS_URL", "tls://a")
    monkeypatch.setenv("EVENTBUS_NATS_STREM", "X")
    load_remote_settings(load_settings())
    assert [each.getMessage() for each in caplog.records] == [
        "the environment: EVENTBUS_NATS_STREM is ignored: there is no such option; did you mean 'stream'?"
    ]
