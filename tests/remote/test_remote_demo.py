"""The demo of several hosts, as processes or network namespaces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.nightly
def test_the_demo(binary: str) -> None:
    """The demo ends by itself with exit code 0, and the third host has seen the other two as one session."""
    demo = Path(__file__).parent.parent.parent / "examples" / "remote_demo.py"
    ended = subprocess.run(
        [sys.executable, str(demo)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    for part in ("start  skill release", "tests, attempt 2", "then git tag v1.4", "succeeded"):
        assert part in ended.stdout
