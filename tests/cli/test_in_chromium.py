"""The page about a session, opened in a real browser; and the trace, checked as its viewers need it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zlib
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.events import NodeCompleted, NodeProgress, SkillCompleted, WorkflowCompleted, WorkflowStarted
from eventbus.views import SessionView
from eventbus.views.trace import trace_parts
from tests.cli.test_session_page import Page
from tests.cli.test_show import FAILED, log_of
from tests.history.log_examples import START

Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="SKIPPED: no Chromium is installed: no browser opens the page"
)
HOSTILE = '<img src="http://canary.test/1"><script src="http://canary.test/2"></script>'
OWN_HOSTS = r"https?://([a-z0-9-]+\.)*(google|googleapis|gstatic|chromium|gvt1|gvt2)\.(com|org)/"
"""Where the browser itself asks for updates and the time."""


class Opened:
    """What a browser made of a page: without a network, and in a log what it asked for."""

    def __init__(self, page: Path, *options: str) -> None:
        assert CHROMIUM is not None
        log = page.with_suffix(".net.json")
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={page.parent / 'profile'}",
            "--enable-logging=stderr", f"--log-net-log={log}", *options, page.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        self.dom = done.stdout
        self.console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        asked = re.findall(r'"url":"(https?://[^"]*)', log.read_text(encoding="utf-8", errors="replace"))
        self.asked = [url for url in asked if not re.match(OWN_HOSTS, url)]


def page_of(cli: Program, directory: Path, *events: Any) -> Path:
    page = directory / "page.html"
    assert cli("report", "--html", page, "--dir", log_of(directory / "log", *events)).returncode == 0
    return page


@needs_chromium
def test_a_page_asks_for_nothing_and_reports_nothing(cli: Program, tmp_path: Path) -> None:
    """A browser shows the page without a message and a request, and its bars where the figures say."""
    hostile = NodeProgress(
        session_id="04f049c0", workflow_id="crackerjack", node_id=HOSTILE, timestamp=FAILED[-1].timestamp
    )
    opened = Opened(page_of(cli, tmp_path, *FAILED[:-1], hostile, FAILED[-1]), "--dump-dom")
    assert (opened.console, opened.asked) == ([], [])
    page = Page(opened.dom.replace("<br>", ""))
    assert not {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe"}
    run, first, second = page.all("rect")[:3]
    whole, x0 = float(run["width"] or 0), float(run["x"] or 0)
    for bar, began, seconds in ((first, 0.0, 0.1), (second, 0.2, 55.5)):
        assert float(bar["x"] or 0) - x0 == pytest.approx(began / 55.7 * whole, abs=2)
        assert float(bar["width"] or 0) == pytest.approx(max(1.0, seconds / 55.7 * whole), abs=2)


@needs_chromium
@pytest.mark.nightly
def test_a_request_would_be_seen(tmp_path: Path) -> None:
    """A page that asks for a picture, and logs an error, is caught: the test above can fail."""
    page = tmp_path / "page.html"
    page.write_text('<img src="http://canary.test/x.png"><script>console.error("seen")</script>')
    opened = Opened(page, "--dump-dom")
    assert opened.asked
    assert {each.startswith("http://canary.test/") for each in opened.asked} == {True}
    assert "seen" in "".join(opened.console)


def first_pixel(png: Path) -> tuple[int, ...]:
    """Return the red, green and blue of a picture's upper left corner."""
    data, found, place = png.read_bytes(), b"", 8
    while place < len(data):
        size, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        found += data[place + 8 : place + 8 + size] if kind == b"IDAT" else b""
        place += size + 12
    return tuple(zlib.decompress(found)[1:4])  # after the row's filter, which adds nothing here


@needs_chromium
@pytest.mark.nightly
def test_a_page_is_light_dark_narrow_and_printed(cli: Program, tmp_path: Path) -> None:
    """The page follows the colors that its reader prefers, and can be printed on one sheet."""
    page, picture, paper = page_of(cli, tmp_path, *FAILED), tmp_path / "page.png", tmp_path / "page.pdf"
    for scheme, corner in ((1, (255, 255, 255)), (0, (13, 17, 23))):
        for width in (1100, 390):
            look = f"--blink-settings=preferredColorScheme={scheme}"
            Opened(page, look, f"--window-size={width},900", f"--screenshot={picture}")
            assert first_pixel(picture) == corner
    Opened(page, f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", paper.read_bytes())) == 1


# The trace: its viewers leave out, without a word, what they cannot draw.


def check_trace(data: bytes) -> list[dict[str, Any]]:
    """Check a trace as its viewers read it, and return its slices.

    On each track slices nest, and begin in the order of time, a parent before what it holds; each track has
    a name before its slices; times are whole microseconds from 0 on.
    """
    events = json.loads(data)["traceEvents"]
    tracks = defaultdict[tuple[int, int], list[dict[str, Any]]](list)
    named: set[tuple[int, int]] = set()
    for event in events:
        track = event["pid"], event["tid"]
        if event["ph"] == "M":
            if event["name"] == "thread_name":
                named.add(track)
            continue
        assert track in named
        assert isinstance(event["ts"], int)
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert isinstance(event["dur"], int)
            assert event["dur"] >= 0
            tracks[track].append(event)
    for slices in tracks.values():
        _check_nesting(slices)
    return [each for slices in tracks.values() for each in slices]


def _check_nesting(slices: list[dict[str, Any]]) -> None:
    assert all(first["ts"] <= second["ts"] for first, second in pairwise(slices))
    ends: list[int] = []  # of the slices that are open
    for each in slices:
        end = each["ts"] + each["dur"]
        while ends and ends[-1] <= each["ts"]:
            ends.pop()
        assert not ends or end <= ends[-1], "it overlaps another slice, and would not be shown"
        ends.append(end)


seconds = st.integers(0, 40).map(lambda n: n / 4)
spans = st.tuples(seconds, seconds)


@given(
    nodes=st.lists(spans, max_size=12), skills=st.lists(spans, max_size=5), runs=st.lists(spans, max_size=3)
)
def test_slices_nest_on_every_track(
    nodes: list[tuple[float, float]], skills: list[tuple[float, float]], runs: list[tuple[float, float]]
) -> None:
    """Whatever overlaps in a session, the slices of each track of its trace nest, and none is left out."""
    view = SessionView()

    def at(second: float) -> dict[str, Any]:
        return {"session_id": "s", "timestamp": START + timedelta(seconds=second)}

    for n, (begin, took) in enumerate(runs):
        run: dict[str, Any] = {"workflow_id": "w", "run_id": f"r{n}"}
        view.add(WorkflowStarted(**at(begin), **run))
        view.add(WorkflowCompleted(**at(begin + took), **run, duration_seconds=took))
    for n, (begin, took) in enumerate(nodes):
        end = at(begin + took)
        view.add(
            NodeCompleted(
                **end, workflow_id="w", run_id="r", node_id=str(n), duration_seconds=took, success=n % 2 == 0
            )
        )
    for n, (begin, took) in enumerate(skills):
        end = at(begin + took)
        view.add(SkillCompleted(**end, skill_name="k", invocation_id=str(n), duration_seconds=took))
    found = check_trace(b"".join(trace_parts([view, view])))
    assert len(found) == 2 * (len(runs) + len(nodes) + bool(nodes) + len(skills))


def test_the_check_of_a_trace_can_fail() -> None:
    """Slices that overlap without nesting, or are out of order, do not pass the check."""

    def traced(*slices: tuple[int, int]) -> bytes:
        events: list[dict[str, Any]] = [{"ph": "M", "name": "thread_name", "pid": 1, "tid": 1}]
        events += [{"ph": "X", "pid": 1, "tid": 1, "ts": ts, "dur": dur} for ts, dur in slices]
        return json.dumps({"traceEvents": events}).encode()

    assert len(check_trace(traced((0, 10), (2, 8), (10, 5)))) == 3
    for wrong in (((0, 10), (5, 10)), ((5, 1), (0, 1)), ((0, -1),)):
        with pytest.raises(AssertionError):
            check_trace(traced(*wrong))
