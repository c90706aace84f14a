"""The code in the README and in docs/ runs as it is printed, commands exist, and links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

from eventbus.cli import main
from eventbus.cli.command_table import every_command

ROOT = Path(__file__).parent.parent
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Homepage"]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [*GUIDES, *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CODE_OF_CONDUCT", "SECURITY"))]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"\n]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS_ONEIRIC = pytest.mark.skipif(
    importlib.util.find_spec("oneiric") is None,
    reason="SKIPPED: oneiric is not installed (it needs Python 3.13 or newer): make test-oneiric",
)
TUTORIAL = ROOT / "docs" / "tutorial.md"
GENERATED = {"reference/commands.md", "reference/events.md", "reference/api.md"}


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the blocks of a page that are in one of these languages."""
    return [text for language, _, text in BLOCK.findall(page.read_text("utf-8")) if language in languages]


def marks_of(block: str) -> list[pytest.MarkDecorator]:
    """Return a mark for each package that a block needs and that is not installed."""
    imported = set(re.findall(r"^(?:from|import) (structlog|starlette|textual)\b", block, re.MULTILINE))
    absent = [name for name in imported if importlib.util.find_spec(name) is None]
    reason = "SKIPPED: {} is not installed: pip install --group recipes"
    missing = [pytest.mark.skipif(True, reason=reason.format(name)) for name in absent]
    return [*missing, NEEDS_ONEIRIC] if "from oneiric" in block else missing


EXAMPLES = [
    pytest.param(block, id=f"{page.name}-{number}", marks=marks_of(block))
    for page in GUIDES
    if page != TUTORIAL
    for number, block in enumerate(blocks(page, "python"), 1)
]


@pytest.mark.parametrize("block", EXAMPLES)
def test_example_runs(block: str, tmp_path: Path) -> None:
    """An example of the documentation runs by itself and writes nothing to stderr."""
    program = tmp_path / "example.py"
    program.write_text(block, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "OTEL_SDK_DISABLED": "true"},  # there is no collector; test_otel_spans.py has one
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_there_are_examples() -> None:
    """The README and the guide for subscribers have examples."""
    assert len(EXAMPLES) >= 4


def test_the_tutorial_works_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    """The tutorial's files and commands, in their order, meet no error, and make one joined session."""
    (tmp_path / "bin").mkdir()
    for name, options in (("eventbus", "-m eventbus"), ("python", "")):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {options} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    typed = ["set -e"]
    for language, name, text in BLOCK.findall(TUTORIAL.read_text("utf-8")):
        if language == "python":
            (tmp_path / name).write_text(text, "utf-8")
        elif language == "console":
            typed += [line for line in commands(text) if "pip install" not in line and "venv" not in line]
    done = subprocess.run(
        ["/bin/bash", "-c", "\n".join(typed)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lint: ok\ntests: failed\n" in done.stdout
    assert "Session: abc123\n  Skills Used: 1\n  Skills Completed: 1\n  Workflow Nodes: 2" in done.stdout


def commands(console: str) -> list[str]:
    """Return what a console block types, without its comments."""
    return [line[2:].split("  #")[0].strip() for line in console.splitlines() if line.startswith("$ ")]


def typed_commands() -> Iterator[tuple[Path, str]]:
    """Yield each `eventbus ...` that a page types, with the page."""
    for page in PAGES:
        for line in (each for block in blocks(page, "console") for each in commands(block)):
            for found in re.findall(r"(?:^|\$\(|&& |\| )eventbus ([^|)&>]+)", line):
                yield page, found


@cache
def help_of(*words: str) -> str | None:
    """Return the help of a command, None if there is no such command."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()):
        return out.getvalue() if main([*words, "--help"]) == 0 else None


def test_typed_commands_exist() -> None:
    """Each `eventbus` command in a console block exists, and so does each of its options."""
    passing_on = {name for name, command in every_command() if command.passes_options_on}
    groups = {name.split()[0] for name, _ in every_command() if " " in name}
    found = list(typed_commands())
    assert len(found) > 20
    for page, line in found:
        words = line.split()
        if words[0] in passing_on:
            continue
        names = words[: 2 if words[0] in groups else 1]
        text = help_of(*(each for each in names if not each.startswith("-")))
        assert text is not None, f"{page.name}: there is no eventbus {' '.join(names)}"
        own = words[: words.index("--")] if "--" in words else words
        for option in (each.partition("=")[0] for each in own if each.startswith("-")):
            assert re.search(rf"(?<![\w-]){re.escape(option)}\b", text), f"{page.name}: {line}: no {option}"


def test_settings_can_be_read() -> None:
    """Each block of TOML is TOML."""
    for page in PAGES:
        for block in blocks(page, "toml"):
            tomllib.loads(block)


def test_links_lead_somewhere() -> None:
    """Every link to a file of the project leads to one, relative or by the address of the project's home."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            place = (page.parent / target).resolve()
            is_generated = (
                place.is_relative_to(ROOT / "docs") and str(place.relative_to(ROOT / "docs")) in GENERATED
            )
            assert is_generated or place.exists(), f"{page.name} links to {target}"
        raw = HOME.replace("https://github.com", "https://raw.githubusercontent.com")
        for target in re.findall(rf"(?:{HOME}/(?:blob|tree)|{raw})/main/([^)#\s\"]+)", text):
            assert (ROOT / target).exists(), f"{page.name} links to {target}"


def test_one_address_of_the_home() -> None:
    """The README, the site and the forge's files name the project's home as the metadata do."""
    owner = HOME.removeprefix("https://github.com/")
    files = [*PAGES, ROOT / "mkdocs.yml", ROOT / "CITATION.cff", *(ROOT / ".github").rglob("*.yml")]
    for file in files:
        text = file.read_text("utf-8")
        named = re.findall(r"github(?:usercontent)?\.com/([\w-]*eventbus[\w-]*/[\w-]+)", text)
        assert set(named) <= {owner}, file


def test_the_distribution_is_installed_by_its_name() -> None:
    """No page installs `eventbus`, which is the name of the package and not of the distribution."""
    for page in PAGES:
        assert not re.search(r"install '?eventbus\b", page.read_text("utf-8")), page.name


def test_the_index_page_has_no_relative_links() -> None:
    """The README, which the package index shows, links by whole addresses: relative ones are dead there."""
    assert not re.findall(r"\]\((?!https?:|#)[^)]+\)", (ROOT / "README.md").read_text("utf-8"))
