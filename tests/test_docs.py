"""The code in the README and in docs/ runs as it is printed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS_ONEIRIC = pytest.mark.skipif(
    importlib.util.find_spec("oneiric") is None,
    reason="SKIPPED: oneiric is not installed (it needs Python 3.13 or newer): make test-oneiric",
)
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}", marks=NEEDS_ONEIRIC if "from oneiric" in block else ())
    for page in PAGES
    for number, block in enumerate(BLOCK.findall(page.read_text("utf-8")), 1)
]


@pytest.mark.parametrize("block", BLOCKS)
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
    assert len(BLOCKS) >= 4


def test_links_lead_somewhere() -> None:
    """Every relative link of the documentation leads to a file of the project."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
