"""The page about a session is whole in itself, says what `show` says, and runs nothing."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from eventbus.events import Event, NodeCompleted, NodeProgress, WorkflowCompleted, WorkflowStarted
from tests.cli.test_show import FAILED, RUN, at, log_of

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
VOID = {"meta", "br"}
HOSTILE = "<script>alert(1)</script>\"'{{ 7 * 7 }}"


class Page(HTMLParser):
    """The tags of a page, with their attributes, and its text. It fails on a tag that is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close a tag."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text."""
        if self._open and self._open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of each tag of this name."""
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(cli: Program, directory: Path, *given: Event) -> tuple[str, Page]:
    file = directory / "pages" / "page.html"
    done = cli("report", "--html", file, "--dir", log_of(directory / "log", *given))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"note: wrote {file}\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    html = file.read_text(encoding="utf-8")
    return html, Page(html)


def test_a_page_says_what_failed_first(cli: Program, tmp_path: Path) -> None:
    """The verdict, what failed with its hooks and message, a bar for each part that ran, and each event."""
    html, page = page_of(cli, tmp_path, *FAILED)
    order = [
        "crackerjack failed after 55.7s with exit code 1",
        "1 of 4 nodes succeeded, fast_hooks failed, 2 not run",
        "What failed", "RuntimeError", "hooks: codespell 4.5s, mdformat", "codespell found 3 misspellings",
        "When", "Everything", "exit code 1", "3 hooks, 2 failed, 2 passes", "not run", "Events", "10 events",
        "FAIL   fast_hooks (55.5s) RuntimeError",
    ]  # fmt: skip
    place = 0
    for each in order:
        place = page.text.find(each, place)
        assert place >= 0, each
    bars = page.all("rect")
    assert [each["class"] for each in bars] == ["failed", "succeeded", "failed"]
    run, first, second = (float(each["width"] or 0) for each in bars)
    assert run > second > 40 * first
    assert len(html) < 20_000


def test_a_page_needs_nothing_and_runs_nothing(cli: Program, tmp_path: Path) -> None:
    """It has no script, loads nothing, and forbids both; names cannot add markup or template code."""
    run: dict[str, Any] = {"session_id": "s", "workflow_id": HOSTILE, "run_id": "r"}
    html, page = page_of(
        cli, tmp_path,
        WorkflowStarted(**run, **at(0), nodes=(HOSTILE, "p")),
        NodeProgress(**run, **at(1), node_id=HOSTILE, metadata={"hook": HOSTILE, "status": "failed"}),
        NodeCompleted(
            **run, **at(1), node_id=HOSTILE, success=False, error_type=HOSTILE, error_message=HOSTILE
        ),
        WorkflowCompleted(**run, **at(2), success=False, error_type=HOSTILE),
    )  # fmt: skip
    (policy,) = (each for each in page.all("meta") if "http-equiv" in each)
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    used = {tag for tag, _ in page.tags}
    assert not used & {"script", "link", "img", "iframe", "object", "form", "base", "a"}
    attributes = {name for _, found in page.tags for name in found}
    assert not {name for name in attributes if name.startswith("on") or name in ("src", "href", "style")}
    assert "://" not in html
    assert "49" not in re.findall(r"\b\d+\b", page.text)
    assert page.text.count("alert(1)") >= 6


def test_what_is_open_or_never_ended_has_a_bar(cli: Program, tmp_path: Path) -> None:
    """What never ended reaches to the last event, and is called unfinished."""
    _, page = page_of(cli, tmp_path, *FAILED[:5])
    assert [each["class"] for each in page.all("rect")] == ["unfinished", "succeeded", "unfinished"]
    widths = [float(each["width"] or 0) for each in page.all("rect")]
    assert widths[0] > widths[2] > widths[1]


def test_many_events_are_cut_and_said_to_be(cli: Program, tmp_path: Path) -> None:
    """Of more than 5,000 events the first are listed, and the page says so; bars end at 500."""
    many = [NodeCompleted(**RUN, **at(n), node_id=f"n{n}", duration_seconds=1.0) for n in range(6_000)]
    _, page = page_of(cli, tmp_path, *many)
    assert "6,000 events, of them the first 5,000 are listed" in page.text
    assert len(page.all("rect")) == 500


def test_without_its_package_it_says_what_to_install(
    cli: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra is named in one line, and no file is made."""
    monkeypatch.delitem(sys.modules, "eventbus.cli.session_page", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = cli("report", "--html", tmp_path / "page.html", "--dir", log_of(tmp_path, *FAILED))
    assert (done.returncode, "pip install 'anyio-eventbus[html]'" in done.stderr) == (2, True)
    assert not (tmp_path / "page.html").exists()
