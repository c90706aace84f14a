"""What one segment or one record of a log holds takes nothing else away."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from eventbus_subscribers.json_persister import JsonPersister
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus import EventBus, NodeCompleted, SkillCompleted, SkillStarted, SkillsWorkflowCorrelator
from eventbus.cli import main
from eventbus.history import EventLog
from eventbus.history.legacy_formats import read_skill_metrics, read_workflow_events
from eventbus.history.session_history import SessionHistory

HEADER = (
    b'{"event_type":"segment_started","schema_version":1,"first_seq":1,'
    b'"timestamp":"2026-01-01T00:00:00Z","metadata":{},"session_id":null}\n'
)
EXTRA_SEGMENTS = {
    "empty": b"",
    "a header alone": HEADER,
    "two headers": HEADER * 2,
    "a header and a torn line": HEADER + b'{"seq":1,"event_type":"node_com',
    "a header and zeros": HEADER + bytes(4_096),
    "line feeds": b"\n" * 100,
    "a vast number": HEADER.replace(b'"first_seq":1', b'"first_seq":1' + b"0" * 30),
}
COMMANDS = [
    command.split()
    for command in ("sessions", "sessions --json", "report", "show sound", "stats", "export", "cat", "doctor")
]


def _write(directory: Path) -> Path:
    """Write a session that is sound; return its segment."""
    with EventBus([JsonPersister(directory)]) as bus:
        started = SkillStarted(session_id="sound", skill_name="review")
        bus.publish(started)
        for n in range(20):
            bus.publish(
                NodeCompleted(
                    session_id="sound", workflow_id="ci", run_id="r", node_id=f"n{n}", metadata={"n": n}
                )
            )
        bus.publish(
            SkillCompleted(session_id="sound", skill_name="review", invocation_id=started.invocation_id)
        )
    (segment,) = (directory / "events").iterdir()
    return segment


def _read_all_ways(directory: Path) -> set[str]:
    """Return the names of the sessions, after every public reader has read the log."""
    log = EventLog(directory, on_damage=lambda _: None)
    list(log.events())
    list(log.records())
    list(log.damage())
    correlator = SkillsWorkflowCorrelator(log=log)
    correlator.correlate_by_session()
    SkillsWorkflowCorrelator(log=log).generate_correlation_report()
    with SessionHistory(log) as history:
        for session in history.figures():
            history.events(session.session_id)
        return {session.session_id for session in history.sessions()}


@pytest.mark.parametrize("what", EXTRA_SEGMENTS)
def test_a_segment_without_a_record(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A segment without a record, whatever else it holds, takes no other session away, for no command."""
    _write(tmp_path)
    (tmp_path / "events" / "20260101T000000.000000Z-1-abcdefabcdef.jsonl").write_bytes(EXTRA_SEGMENTS[what])
    assert "sound" in _read_all_ways(tmp_path)
    for command in COMMANDS:
        assert main([*command, "--dir", str(tmp_path)]) in (0, 1, 4)
    assert "sound" in capsys.readouterr().out


@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_a_time_at_the_end_of_the_calendar(time: str, tmp_path: Path) -> None:
    """A record of year 1 or 9999, in any zone, takes no session away."""
    segment = _write(tmp_path)
    lines = segment.read_text().splitlines(keepends=True)
    record = json.loads(lines[2])
    lines[2] = json.dumps({**record, "timestamp": time}) + "\n"
    segment.write_text("".join(lines))
    assert "sound" in _read_all_ways(tmp_path)
    for command in COMMANDS:
        assert main([*command, "--dir", str(tmp_path)]) in (0, 1, 4)


def test_an_unreadable_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that cannot be read takes no other session away."""
    _write(tmp_path)
    secret = tmp_path / "events" / "20260101T000000.000000Z-1-abcdefabcdef.jsonl"
    secret.write_bytes(HEADER)
    opened = Path.open

    def refuse(path: Path, *args: Any, **options: Any) -> Any:
        if path == secret:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with SessionHistory(EventLog(tmp_path)) as history:
        assert [each.session_id for each in history.figures()] == ["sound"]


flips = st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 255)), max_size=4)
cuts = st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 300)), max_size=3)
inserts = st.sampled_from([b"\n", bytes(64), b'"', b"{}\n", b"\xff", HEADER, b"-", b"9" * 30])
splices = st.lists(st.tuples(st.integers(0, 4_000), inserts), max_size=3)


@settings(max_examples=settings().max_examples // 10)
@given(flips, cuts, splices)
def test_a_mutated_segment(
    tmp_path_factory: pytest.TempPathFactory,
    flips: list[tuple[int, int]],
    cuts: list[tuple[int, int]],
    splices: list[tuple[int, bytes]],
) -> None:
    """Whatever bytes of a segment are changed, left out or put in, every reader and every command answers."""
    directory = tmp_path_factory.mktemp("log")
    segment = _write(directory)
    data = bytearray(segment.read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    for place, length in cuts:
        data[place : place + length] = b""
    for place, inserted in splices:
        data[place:place] = inserted
    segment.write_bytes(bytes(data))
    _read_all_ways(directory)
    for command in COMMANDS:
        assert main([*command, "--dir", str(directory)]) in (0, 1, 3, 4)


INVOCATION = (
    '{"skill_name": "review", "invoked_at": "2026-01-01T00:00:00", "completed": true, "duration_seconds": %s}'
)
ODD_FILES = {
    "NaN": ("[" + INVOCATION % "NaN" + "]").encode(),
    "infinity": ("[" + INVOCATION % "Infinity" + "]").encode(),
    "a byte order mark": b"\xef\xbb\xbf" + ("[" + INVOCATION % "1" + "]").encode(),
    "UTF-16": ("[" + INVOCATION % "1" + "]").encode("utf-16"),
    "half a surrogate pair": ("[" + (INVOCATION % "1").replace("review", "\\ud800review") + "]").encode(),
}


@pytest.mark.parametrize("what", ODD_FILES)
def test_a_file_that_pythons_json_reads(what: str, tmp_path: Path) -> None:
    """A legacy file that Python's own `json` reads is read."""
    path = tmp_path / "skill_metrics.json"
    path.write_bytes(ODD_FILES[what])
    (invocation,) = read_skill_metrics(path)
    assert invocation.skill_name.endswith("review")
    assert invocation.duration_seconds in (None, 1)
    assert read_workflow_events(tmp_path / "workflow_events.json") == []


def test_a_damaged_file_beside_a_sound_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged legacy file beside a log is left out with a warning; the log is correlated."""
    _write(tmp_path)
    (tmp_path / "skill_metrics.json").write_bytes(b"no json")
    monkeypatch.setenv("EVENTBUS_DIR", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert set(SkillsWorkflowCorrelator().correlate_by_session()) == {"sound"}
    assert "skill_metrics.json is damaged" in caplog.text
