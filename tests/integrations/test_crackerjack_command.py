"""`eventbus crackerjack` with a stand-in for crackerjack's program, in this process."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventbus import EventBus
from eventbus.cli import crackerjack_command, main


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="this system has no SIGPIPE")
def test_the_bus_closes_without_sigpipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """crackerjack lets SIGPIPE end the process: not while the bus closes, and again afterwards."""
    seen: list[Any] = []

    class Bus(EventBus):
        def __exit__(self, *_: object) -> None:
            seen.append(signal.getsignal(signal.SIGPIPE))
            super().__exit__(*_)

    def build(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(bus=Bus())

    def program(arguments: Sequence[str]) -> None:
        seen.append(list(arguments))
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    monkeypatch.setattr(crackerjack_command, "_program", lambda: program)
    monkeypatch.setattr(crackerjack_command, "build_runtime", build)
    before = signal.getsignal(signal.SIGPIPE)
    try:
        assert main(["crackerjack", "--dir", str(tmp_path), "run", "--fast"]) == 0
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert seen == [["run", "--fast"], signal.SIG_IGN]
