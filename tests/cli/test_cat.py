"""``eventbus cat``: the log as lines for other programs."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import (
    Event,
    EventBus,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    PatternDetected,
    SkillCompleted,
    SubscriberFailed,
    UnknownEvent,
    WorkflowCompleted,
    WorkflowStarted,
    decode,
    encode,
)
from eventbus.history import EventLog
from eventbus.history.export_formats import CSV_COLUMNS

Program: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def node(number: int, **fields: Any) -> NodeCompleted:
    given: dict[str, Any] = {"session_id": "s", "timestamp": START + timedelta(seconds=number)} | fields
    return NodeCompleted(workflow_id="w", node_id=f"n{number}", duration_seconds=0.5, **given)


HOSTILE: list[Event] = [
    PatternDetected(
        session_id="=1+1", pattern='=cmd|" /C calc"!A0', message='a,"b"\n\x1b]0;x\x07', timestamp=START
    ),
    PatternDetected(session_id="\u202eevil\x9b", pattern="-", message="\x7f\u2028", timestamp=START),
]
EVENTS: list[Event] = [
    node(1),
    node(2, session_id="other", metadata={"deep": {"er": [1, None]}}),
    SkillCompleted(skill_name="x", session_id="s", follow_up_actions=("a", "b"), timestamp=START),
    WorkflowStarted(workflow_id="w", session_id=None, nodes=("n1", "n2"), timestamp=START),
    UnknownEvent(unknown_type="of_another_program", session_id="s", fields={"to": ["prod"]}, timestamp=START),
    *HOSTILE,
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log of one bus, with all kinds of events."""
    persister = JsonPersister(tmp_path / "log")
    with EventBus([persister]) as bus:
        for event in EVENTS:
            bus.publish(event)
    return tmp_path / "log"


@pytest.fixture
def repaired(log: Path) -> Path:
    """Return the same log with a damaged line, after its torn tail was set aside."""
    (segment,) = EventLog(log).segments()
    with segment.path.open("ab") as file:
        file.write(
            b'{"seq":8,"event_type":"node_\xff\0\n' + b'{"seq":9,%b\n' % encode(node(9))[1:] + b'{"seq":10,"e'
        )
    assert len(EventLog(log).repair()) == 1
    return log


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")] if text else []


def test_jsonl_is_the_stored_lines_as_they_are(program: Program, log: Path) -> None:
    """The real program prints the line of every record, byte for byte, in order, without the header."""
    ended = program("cat", "--dir", log)
    (segment,) = EventLog(log).segments()
    stored = segment.path.read_text().split("\n", 1)[1]
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, stored, "")
    assert [decode(line) for line in stored.removesuffix("\n").split("\n")][:4] == EVENTS[:4]


def test_filters_select_events(cli: Program, log: Path) -> None:
    """Events are selected by session, by either name of their type, by an unknown type, by time."""

    def numbers(*arguments: str) -> list[int]:
        return [line["seq"] for line in lines(cli("cat", "--dir", log, *arguments).stdout)]

    assert numbers("--session", "s") == [1, 3, 5]
    assert numbers("--type", "node_completed") == numbers("--type", "NodeEvent") == [1, 2]
    assert numbers("--type", "SkillEvent", "--type", "node_completed", "--session", "s") == [1, 3]
    assert numbers("--type", "of_another_program") == [5]
    assert numbers("--type", "of_another_program", "--type", "NodeEvent") == [1, 2, 5]
    assert numbers("--since", "2026-01-02T03:04:06Z", "--until", "2026-01-02T03:04:07Z") == [1]
    assert numbers("--since", "1h") == []
    assert numbers("--until", "1h") == [1, 2, 3, 4, 5, 6, 7]


def test_a_type_without_a_class_is_a_note(cli: Program, log: Path) -> None:
    """The type may belong to a plugin that is not installed here, or be misspelled."""
    ended = cli("cat", "--dir", log, "--type", "nod_completed")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr.startswith("note: there is no event class nod_completed")


def test_csv_has_stable_columns_and_no_formulas(cli: Program, log: Path) -> None:
    """The columns are the same for every log; a text like a formula begins with an apostrophe."""
    ended = cli("cat", "--dir", log, "--format", "csv")
    assert ended.returncode == 0
    rows = list(csv.DictReader(io.StringIO(ended.stdout, newline="")))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["seq"] for row in rows] == ["1", "2", "3", "4", "5", "6", "7"]
    assert rows[0]["duration_seconds"] == "0.5"
    assert rows[0]["success"] == "true"
    assert rows[0]["timestamp"] == "2026-01-02T03:04:06Z"
    assert rows[0]["other"] == ""
    assert json.loads(rows[1]["other"]) == {"metadata": {"deep": {"er": [1, None]}}}
    assert json.loads(rows[2]["other"]) == {"follow_up_actions": ["a", "b"]}
    assert json.loads(rows[4]["other"]) == {"to": ["prod"]}
    assert rows[5]["session_id"] == "'=1+1"
    assert not any(cell.startswith(tuple("=+-@\t\r\n")) for row in rows for cell in row.values())
    assert cli("cat", "--dir", log, "--format", "csv", "--session", "none").stdout == (
        ",".join(CSV_COLUMNS) + "\n"
    )


def test_cloudevents_follow_version_1_0(cli: Program, log: Path) -> None:
    """Required attributes are there, source and id are unique, names and values follow the rules."""
    ended = cli("cat", "--dir", log, "--format", "cloudevents")
    events = lines(ended.stdout)
    assert ended.returncode == 0
    assert len(events) == len(EVENTS)
    assert len({(event["source"], event["id"]) for event in events}) == len(events)
    for event in events:
        assert event["specversion"] == "1.0"
        assert {"id", "source", "type", "time", "datacontenttype", "data"} <= event.keys()
        for name, value in event.items():
            assert name.isascii()
            assert name.isalnum()
            assert name == name.lower()
            assert name == "data" or (isinstance(value, str) and value and value.isprintable())
        assert datetime.fromisoformat(event["time"]).tzinfo is not None
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)
    assert events[0]["type"] == "eventbus.node_completed"
    assert events[0]["sessionid"] == "s"
    assert "sessionid" not in events[3]
    assert events[3]["data"] == {"metadata": {}, "workflow_id": "w", "run_id": None, "nodes": ["n1", "n2"]}


def test_damage_is_skipped_with_a_note_and_exit_code_4(cli: Program, repaired: Path) -> None:
    """Every intact record is printed; the damaged places are listed on stderr."""
    ended = cli("cat", "--dir", repaired)
    assert ended.returncode == 4
    assert [line["seq"] for line in lines(ended.stdout)] == [1, 2, 3, 4, 5, 6, 7, 9]
    (note,) = ended.stderr.splitlines()
    assert note.startswith("note: ")
    assert "skipped" in note


def test_a_missing_log_is_exit_code_3(cli: Program, tmp_path: Path, log: Path) -> None:
    """The error is one line; without --dir the directory is the one in EVENTBUS_DIR."""
    ended = cli("cat", "--dir", tmp_path / "nowhere")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == (
        f"error: there is no event log in {tmp_path / 'nowhere'}. "
        "hint: name its directory with --dir or EVENTBUS_DIR\n"
    )
    assert cli("cat").returncode == 3
    assert cli("cat", EVENTBUS_DIR=str(log)).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--since", "yesterday"], "'yesterday' is not a time"),
        (["--until", "99999999999d"], "is not a time"),
        (["--format", "xml"], "'xml' is not one of jsonl, text, csv, cloudevents"),
    ],
)
def test_wrong_usage_is_one_line(cli: Program, arguments: list[str], problem: str) -> None:
    """The exit code is 2, and the line says which values are right."""
    ended = cli("cat", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert problem in ended.stderr
    assert ended.stderr.count("\n") == 1


def start(log: Path, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "eventbus", "cat", "--dir", str(log), *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def test_following_prints_stored_and_new_events(log: Path) -> None:
    """With --since stored lines come first, then each line as it is appended; Ctrl-C ends it with 130."""
    running = start(log, "-f", "--session", "s", "--since", "2026-01-01")
    assert running.stdout is not None
    try:
        assert [json.loads(running.stdout.readline())["seq"] for _ in range(3)] == [1, 3, 5]
        with EventBus([JsonPersister(log)]) as bus:
            bus.publish(node(7, session_id="other"))
            bus.publish(node(8))
        assert json.loads(running.stdout.readline())["node_id"] == "n8"
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=20)
    finally:
        running.kill()
        running.communicate()
    assert (running.returncode, output, errors) == (130, b"", b"")


def test_following_begins_at_the_end(log: Path) -> None:
    """`eventbus cat -f` prints no stored event, as `tail -f`: the first line came after it began."""
    running = start(log, "-f", "--format", "text", "--type", "NodeEvent")
    assert running.stdout is not None
    printed = threading.Event()
    try:
        with EventBus([JsonPersister(log)]) as bus:
            # Until the first line comes it is not known whether following has begun.
            numbers = itertools.count(100)
            line: list[bytes] = []

            def read() -> None:
                assert running.stdout is not None
                line.append(running.stdout.readline())
                printed.set()

            reader = threading.Thread(target=read)
            reader.start()
            while not printed.wait(0.05):
                bus.publish(node(next(numbers)))
            reader.join()
    finally:
        running.kill()
        running.communicate()
    assert re.search(rb"  done   n[1-9]\d\d+ \(0\.5s\)\n$", line[0])


def test_text_is_in_the_plain_words(cli: Program, log: Path) -> None:
    """A line has the local time, the session, and the words of the live progress; every event has one."""
    with EventBus([JsonPersister(log)]) as bus:
        bus.publish(NodeStarted(session_id="s", workflow_id="w", node_id="tests"))
        bus.publish(NodeProgress(session_id="s", workflow_id="w", node_id="tests", completed=3, total=10))
        bus.publish(
            NodeCompleted(workflow_id="w", node_id="tests", success=False, error_type="E", session_id="s")
        )
        bus.publish(SubscriberFailed(subscriber="x", error_type="OSError", quarantined=True, session_id="s"))
        bus.publish(WorkflowCompleted(workflow_id="w", success=False, session_id="s"))
    ended = cli("cat", "--dir", log, "--format", "text")
    assert (ended.returncode, ended.stderr) == (0, "")
    shown = ended.stdout.splitlines()
    assert all(line.isprintable() and line[:2] == "20" for line in shown)
    assert [re.split(r"  +", line, maxsplit=1)[1] for line in shown[:4]] == [
        "s  done   n1 (0.5s)",
        "other  done   n2 (0.5s)",
        "s  done   skill x, then a, b",
        "-  start  workflow w",
    ]
    assert [line.split("  ", 2)[2] for line in shown[-5:]] == [
        "start  tests",
        "still  tests 3/10",
        "FAIL   tests E",
        "warn   subscriber x OSError (quarantined)",
        "end    workflow w FAILED",
    ]


def test_following_waits_for_a_log(tmp_path: Path) -> None:
    """The log may be created after the command is started; SIGTERM ends it with 143."""
    running = start(tmp_path / "log", "--follow", "--format", "csv")
    assert running.stdout is not None
    assert running.stderr is not None
    try:
        assert b"waiting for one" in running.stderr.readline()
        assert running.stdout.readline().startswith(b"bus_id,seq,")
        with EventBus([JsonPersister(tmp_path / "log")]) as bus:
            bus.publish(node(8))
        assert b",n8," in running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=20)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 143


def test_a_reader_that_leaves_ends_it_quietly(log: Path) -> None:
    """`eventbus cat | head -1` prints no traceback, even if there is more than a pipe holds."""
    with EventBus([JsonPersister(log)]) as bus:
        for number in range(5_000):
            bus.publish(node(number))
    running = start(log)
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.readline()
    running.stdout.close()
    errors = running.stderr.read()
    running.stderr.close()
    assert (running.wait(60), errors) == (141, b"")


def test_no_control_character_reaches_a_terminal(log: Path) -> None:
    """On a terminal, characters that are not printable are escaped as in JSON, with the same meaning."""
    leader, follower = pty.openpty()
    running = start(log, stdout=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            shown += os.read(leader, 65_536)
        except OSError:  # the other side is closed
            break
    os.close(leader)
    running.communicate()
    text = shown.decode().replace("\r\n", "\n")
    assert text.replace("\n", "").isprintable()
    (segment,) = EventLog(log).segments()
    assert lines(text) == lines(segment.path.read_text().split("\n", 1)[1])


# Programs that read the output.


def test_jq_reads_a_repaired_log(cli: Program, repaired: Path) -> None:
    """Jq reads every line."""
    jq: Any = pytest.importorskip("jq", reason="jq is not installed")
    output = cli("cat", "--dir", repaired).stdout
    assert jq.compile(".seq").input_text(output).all() == [1, 2, 3, 4, 5, 6, 7, 9]


def test_duckdb_reads_a_repaired_log(cli: Program, repaired: Path, tmp_path: Path) -> None:
    """DuckDB reads JSON lines and CSV, and infers the types of the columns."""
    duckdb: Any = pytest.importorskip("duckdb", reason="duckdb is not installed")
    jsonl, table = tmp_path / "log.jsonl", tmp_path / "log.csv"
    jsonl.write_text(cli("cat", "--dir", repaired).stdout)
    table.write_text(cli("cat", "--dir", repaired, "--format", "csv").stdout, newline="")
    query = "SELECT count(*), sum(duration_seconds), max(seq) FROM {} WHERE event_type = 'node_completed'"
    for source in (f"read_json('{jsonl}')", f"read_csv('{table}')"):
        assert duckdb.sql(query.format(source)).fetchall() == [(3, 1.5, 9)]


def test_sqlite_utils_reads_a_repaired_log(cli: Program, repaired: Path, tmp_path: Path) -> None:
    """The command of sqlite-utils inserts every line, although their fields differ."""
    pytest.importorskip("sqlite_utils", reason="sqlite-utils is not installed")
    command = [sys.executable, "-m", "sqlite_utils"]
    output = cli("cat", "--dir", repaired).stdout
    database = tmp_path / "log.db"
    subprocess.run(
        [*command, "insert", str(database), "events", "-", "--nl", "--alter"],
        input=output,
        text=True,
        check=True,
    )
    query = "select count(*) as n, max(seq) as last from events where session_id = 's'"
    ended = subprocess.run(
        [*command, "query", str(database), query], capture_output=True, text=True, check=True
    )
    assert json.loads(ended.stdout) == [{"n": 4, "last": 9}]


@pytest.mark.parametrize("words", [("--type", "skill_completed"), ("--session", "s", "--format", "csv")])
def test_a_reader_that_leaves_ends_following_while_nothing_is_printed(
    log: Path, words: tuple[str, ...]
) -> None:
    """`eventbus cat -f --type T | grep -m1 T` ends, although no other event of that type comes."""
    running = start(log, "-f", "--since", "2026-01-01", *words)
    assert running.stdout is not None
    assert running.stderr is not None
    try:
        running.stdout.readline()
        running.stdout.close()
        assert running.wait(20) == 141
        assert running.stderr.read() == b""
    finally:
        running.kill()
        running.wait()
        running.stderr.close()
