"""Run a real linter over a project, as a subprocess: ruff if there is one, else Python's tabnanny."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec

from eventbus.cli.problems import LintError, Problem

__all__ = ["find_ruff", "lint"]

_RUFF_OPTIONS = ("check", "--select", "E9,F63,F7,F82", "--no-cache", "--output-format", "json", ".")
_FILES_PER_CALL = 500
"""So many fit on any command line."""


async def lint(project: Path, sources: Sequence[Path]) -> str:
    """Lint a project.

    Args:
        project: The project's directory.
        sources: Its sources, relative to it. Ruff finds them by itself, as the project's own
            configuration says.

    Returns:
        The name of the linter, which found nothing.

    Raises:
        LintError: It found something.
    """
    ruff = find_ruff()
    problems = await _ruff(ruff, project) if ruff else None
    if problems is not None:
        name = "ruff"
    else:
        name, problems = "tabnanny", await _tabnanny(project, sources)
    if problems:
        raise LintError(problems)
    return name


def find_ruff() -> str | None:
    """Return the path of ruff: the one beside this Python, else the first on the PATH."""
    beside = shutil.which("ruff", path=str(Path(sys.executable).parent))
    return beside or shutil.which("ruff")


class _Position(msgspec.Struct):
    row: int


class _Finding(msgspec.Struct):
    filename: str
    message: str
    code: str | None = None
    location: _Position | None = None


async def _ruff(ruff: str, project: Path) -> list[Problem] | None:
    """Return what ruff found; None when there is no ruff behind that path."""
    try:
        result = await _run([ruff, *_RUFF_OPTIONS], project)
    except OSError:
        return None
    try:
        findings = msgspec.json.decode(result.stdout, type=list[_Finding])
    except msgspec.DecodeError:
        # Ruff says 2 when it cannot work; anything else is a shim that found nothing behind it.
        is_ruff = result.returncode == 2  # noqa: PLR2004
        return [Problem("ruff", None, " ".join(_lines(result.stderr)))] if is_ruff else None
    return [_as_problem(finding, project) for finding in findings]


def _as_problem(finding: _Finding, project: Path) -> Problem:
    line = finding.location.row if finding.location else None
    message = finding.message if finding.code is None else f"{finding.code} {finding.message}"
    return Problem(os.path.relpath(finding.filename, project), line, message)


async def _tabnanny(project: Path, sources: Sequence[Path]) -> list[Problem]:
    problems: list[Problem] = []
    for start in range(0, len(sources), _FILES_PER_CALL):
        files = [str(source) for source in sources[start : start + _FILES_PER_CALL]]
        # Isolated: a module of the project must not stand in for one of Python's own.
        result = await _run([sys.executable, "-I", "-m", "tabnanny", *files], project)
        problems += [_read_tabnanny(line) for line in _lines(result.stdout) + _lines(result.stderr)]
    return problems


def _read_tabnanny(line: str) -> Problem:
    told = re.fullmatch(r"(\"?)(.+?)\1 (\d+) (.*)", line)
    if told is None:
        return Problem("tabnanny", None, line)
    return Problem(told[2], int(told[3]), f"ambiguous indentation: {told[4]}")


async def _run(command: Sequence[str], project: Path) -> subprocess.CompletedProcess[bytes]:
    return await anyio.run_process(command, cwd=project, check=False, stdin=subprocess.DEVNULL)


def _lines(output: bytes) -> list[str]:
    return [line.strip() for line in output.decode(errors="backslashreplace").splitlines()]
