"""The recipes that `tests/test_docs.py` cannot run as a program of their own."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import FunctionType
from typing import Any

import anyio

RECIPES = Path(__file__).parent.parent / "docs" / "recipes.md"


def test_a_notebook_cell_runs() -> None:
    """The cells of the recipes run where a loop is running already, with `await` outside of functions."""
    cells = re.findall(r"^```jupyter\n(.*?)^```$", RECIPES.read_text("utf-8"), re.MULTILINE | re.DOTALL)

    async def run(cell: str) -> None:
        code = compile(cell, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        names: dict[str, Any] = {}
        await FunctionType(code, names)()
        assert names["done"].node_id == "fit"

    assert cells
    for cell in cells:
        anyio.run(run, cell)
