"""What is wrong in a project, and the exceptions by which phases tell it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["CompileError", "LintError", "MetadataError", "PhaseError", "Problem"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a project.

    Attributes:
        file: Where, relative to the project.
        line: The line there; None when it is the file as a whole.
        message: What.
    """

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"


class PhaseError(Exception):
    """A phase did its work, and found problems.

    Args:
        problems: All of them.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


class MetadataError(PhaseError):
    """A project does not say what it is."""


class CompileError(PhaseError):
    """Sources do not compile."""


class LintError(PhaseError):
    """A linter found something, or could not do its work."""
