"""`eventbus config` prints every setting, its value, and the place that decided it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from eventbus.settings import Settings

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"


@pytest.fixture
def project(somewhere: Path) -> Callable[[str], Path]:
    """Return a function that writes the table of the project in which commands run."""

    def write(text: str) -> Path:
        file = somewhere / "pyproject.toml"
        file.write_text(f"[tool.eventbus]\n{text}\n")
        return file

    return write


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's own file, which does not exist yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    file = tmp_path / "config" / "eventbus" / "config.toml"
    file.parent.mkdir(parents=True)
    return file


def settings(cli: Program, *words: object, **environment: str) -> dict[str, tuple[Any, str]]:
    """Return the value and the place of each setting."""
    lines = map(json.loads, cli("config", "--json", *words, **environment).stdout.splitlines())
    return {each["setting"]: (each["value"], each["from"]) for each in lines if "setting" in each}


def problems(cli: Program, **environment: str) -> list[str]:
    lines = map(json.loads, cli("config", "--json", **environment).stdout.splitlines())
    return [each["problem"] for each in lines if "problem" in each]


def test_every_setting_has_a_value_and_a_place(cli: Program, somewhere: Path) -> None:
    """Without any settings each has its default, and says so; the directory is absolute."""
    found = settings(cli)
    assert list(found) == [name for name in Settings.__struct_fields__ if name not in ("plugins", "origins")]
    assert {place for _, place in found.values()} == {"default"}
    assert found["directory"][0] == str(somewhere / ".session-buddy")
    assert (found["keep_days"][0], found["disabled"][0]) == (30.0, [])


def test_the_place_is_the_one_that_won(cli: Program, project: Callable[[str], Path], user: Path) -> None:
    """Arguments win over the environment, that over the user's file, that over the project's."""
    file = project('sync = "never"\nkeep_days = 3\nkeep_bytes = 5\nprogress = "json"\nsegment_bytes = 9')
    user.write_text('sync = "always"\nkeep_bytes = 6\nprogress = "quiet"\n')
    found = settings(
        cli, "--progress", "plain", "--dir", "there",
        EVENTBUS_KEEP_BYTES="7", EVENTBUS_PROGRESS="quiet", EVENTBUS_DIR="x",
    )  # fmt: skip
    assert found["progress"] == ("plain", "the arguments: --progress")
    assert found["directory"] == (str(Path("there").absolute()), "the arguments: --dir")
    assert found["keep_bytes"] == (7, "the environment: EVENTBUS_KEEP_BYTES")
    assert found["sync"] == ("always", f"{user}: sync")
    assert found["segment_bytes"] == (9, f"{file}: [tool.eventbus]: segment_bytes")


def test_lists_of_plugins_have_all_their_places(
    cli: Program, project: Callable[[str], Path], user: Path
) -> None:
    """`disabled` and `enabled` are put together from several places, and name each of them once."""
    file = project('disabled = ["a", "b"]\nenabled = ["event_logger"]')
    user.write_text('disabled = ["c"]\n')
    found = settings(cli)
    assert found["disabled"] == (["a", "b", "c"], f"{file}: [tool.eventbus]: disabled, {user}: disabled")
    assert found["enabled"] == (["event_logger"], f"{file}: [tool.eventbus]: enabled")


def test_options_of_the_server_are_settings(cli: Program, project: Callable[[str], Path], user: Path) -> None:
    """Each option of the server has its value and its place; a password in its address is `***`."""
    user.write_text('[nats]\nstream = "CI"\nurl = "tls://nats.example.com"\n')
    found = settings(cli, EVENTBUS_NATS_URL="tls://me:hunter2@nats.example.com:4222")
    assert found["nats.stream"] == ("CI", f"{user}: [nats]: stream")
    assert found["nats.url"] == ("tls://***@nats.example.com:4222", "the environment: EVENTBUS_NATS_URL")
    assert "nats" not in found


def test_options_of_plugins_are_settings(cli: Program, project: Callable[[str], Path]) -> None:
    """Each option of a plugin has a row, with its own place; what may be a password is not printed."""
    file = project('[tool.eventbus.plugins.slow]\nlimit = 2.5\ntoken = "hunter2"\nurl = "http://u:p4ss@h/"')
    found = settings(cli, EVENTBUS_PLUGINS__SLOW__LIMIT="3")
    header = f"{file}: [tool.eventbus.plugins.slow]"
    assert found["plugins.slow.limit"] == ("3", "the environment: EVENTBUS_PLUGINS__SLOW__LIMIT")
    assert found["plugins.slow.token"] == ("***", f"{header}: token")
    shown = cli("config").stdout
    assert "hunter2" not in shown
    assert "p4ss" not in shown


def test_what_a_project_may_not_decide_is_not_said_to_be_its_own(
    cli: Program, project: Callable[[str], Path], tmp_path: Path
) -> None:
    """Where a project's `keep_days` does not count, the place is not the project's."""
    project(f'keep_days = 3\nkeep_bytes = 4\ndirectory = "{tmp_path}/elsewhere"')
    found = settings(cli)
    reason = "no limit, as the project's log is outside of it"
    assert (found["keep_days"], found["keep_bytes"]) == ((0, reason), (0, reason))
    found = settings(cli, EVENTBUS_DIR=str(tmp_path))
    assert (found["keep_days"], found["keep_bytes"][1]) == ((30.0, "default"), "default")


def test_what_has_no_effect_is_a_problem(cli: Program, project: Callable[[str], Path]) -> None:
    """An unknown key, and a variable that is nearly right, are listed; the exit code is 1."""
    file = project('progres = "plain"')
    header = f"{file}: [tool.eventbus]"
    for _ in range(2):  # not only the first time
        assert problems(cli, EVENTBUS_KEP_DAYS="3") == [
            f"{header}: progres is ignored: there is no such setting; did you mean 'progress'?",
            "the environment: EVENTBUS_KEP_DAYS is ignored; did you mean 'EVENTBUS_KEEP_DAYS'?",
        ]
    ended = cli("config")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.splitlines()[-1].startswith(f"! {file}: ")


def test_a_wrong_value_is_an_error(cli: Program) -> None:
    """A value that is wrong is the error that it is in every command."""
    ended = cli("config", EVENTBUS_SYNC="sometimes")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "error: the environment: EVENTBUS_SYNC: " in ended.stderr


def test_hostile_values_stay_in_their_lines(cli: Program, project: Callable[[str], Path]) -> None:
    """Values with line feeds and escape sequences add no line and reach no terminal."""
    project('follow_up_actions = ["a\\nforged  value  default", "\\u001b[2J"]\n"new\\nkey" = 1')
    shown = cli("config").stdout
    assert shown.replace("\n", "").isprintable()
    assert not any(line.startswith("forged") for line in shown.splitlines())


def test_in_a_deleted_directory_the_settings_are_shown(cli: Program, somewhere: Path) -> None:
    """In a working directory that was deleted there is no project, and the default is relative."""
    somewhere.rmdir()
    assert settings(cli)["directory"] == (".session-buddy", "default")
