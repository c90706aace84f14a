"""Sessions out of a log: with an index of any kind or none, the same as when they were live."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from eventbus_subscribers import JsonPersister, LiveCorrelator
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus import EventBus
from eventbus.correlation import CorrelatedSession, Correlation
from eventbus.events import (
    Event,
    NodeCompleted,
    NodeProgress,
    NodeStarted,
    NodeStatus,
    PatternDetected,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
    encode,
)
from eventbus.history import EventLog, indexing
from eventbus.history.index import INDEX_NAME
from eventbus.history.index_state import index_state
from eventbus.history.session_history import SessionHistory

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Deployed(Event, frozen=True, kw_only=True):
    """An event of one's own, which no fast path knows."""

    target: str


def write(directory: Path, events: Sequence[Event], bus: str = "b0", *, end: bytes = b"\n") -> Path:
    """Write a segment, or append to it."""
    folder = directory / "events"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{NOON:%Y%m%dT%H%M%S.%fZ}-1-{bus}.jsonl"
    before = path.read_bytes().count(b"\n") if path.exists() else 0
    lines = [b'{"seq":%d,%b' % (n, encode(event)[1:]) for n, event in enumerate(events, before + 1)]
    with path.open("ab") as file:
        file.write(b"\n".join(lines) + end if lines else b"")
    return path


def session(name: str, start: float, *, nodes: int = 2) -> list[Event]:
    """Return a whole session: a skill around a run."""
    times = iter(NOON + timedelta(seconds=start + n) for n in range(2 * nodes + 4))
    of_run: dict[str, Any] = {"session_id": name, "workflow_id": "ci", "run_id": f"r-{name}"}
    of_skill: dict[str, Any] = {"session_id": name, "skill_name": "k", "invocation_id": f"i-{name}"}
    events: list[Event] = [
        SkillStarted(**of_skill, timestamp=next(times)),
        WorkflowStarted(**of_run, timestamp=next(times)),
    ]
    for number in range(nodes):
        events += [
            NodeStarted(**of_run, node_id=f"n{number}", timestamp=next(times)),
            NodeCompleted(**of_run, node_id=f"n{number}", timestamp=next(times), duration_seconds=1.0),
        ]
    return [
        *events,
        WorkflowCompleted(**of_run, timestamp=next(times), duration_seconds=4.0),
        SkillCompleted(**of_skill, timestamp=next(times), duration_seconds=9.0),
    ]


def told(directory: Path) -> dict[str, Any]:
    """Return the answers to all that can be asked."""
    with SessionHistory(EventLog(directory)) as history:
        figures = list(history.figures())
        names = [each.session_id for each in figures]
        return {
            "figures": figures,
            "oldest first": list(history.figures(oldest_first=True)),
            "sessions": list(history.sessions()),
            "each": [
                (history.figures_of(name), history.session(name), history.events(name)) for name in names
            ],
            "unknown": (history.figures_of("?"), history.session("?"), history.events("?")),
            "names": history.names(limit=1_000),
            "prefix": history.names("s", 3),
            "count": history.count(),
        }


def folded(events: Sequence[Event]) -> dict[str, CorrelatedSession]:
    correlation = Correlation(None, None)
    correlation.add_all(events)
    return correlation.sessions()


def by_name(sessions: Sequence[CorrelatedSession]) -> dict[str, CorrelatedSession]:
    return {each.session_id: each for each in sessions}


# The same as live.

STATUSES: st.SearchStrategy[NodeStatus] = st.sampled_from(["ok", "failed", "skipped", "cancelled"])


@st.composite
def events(draw: st.DrawFn) -> Event:
    base: dict[str, Any] = {
        "session_id": draw(st.sampled_from(["a", "s/\u202e\n", "unattributed:run:r", None])),
        "timestamp": NOON + timedelta(seconds=draw(st.integers(0, 50))),
        "metadata": draw(st.sampled_from([{}, {"k": [1, "\u2028"]}])),
    }
    of_skill: dict[str, Any] = {**base, "skill_name": "k", "invocation_id": draw(st.sampled_from("ij"))}
    run_id = draw(st.sampled_from(["r", "q", None]))
    of_run: dict[str, Any] = {**base, "workflow_id": draw(st.sampled_from("vw")), "run_id": run_id}
    of_node: dict[str, Any] = {
        **of_run,
        "node_id": draw(st.sampled_from("nm")),
        "attempt": draw(st.integers(0, 2)),
    }
    seconds = draw(st.none() | st.floats(-5, 50))
    return draw(
        st.sampled_from(
            [
                SkillStarted(**of_skill),
                SkillCompleted(**of_skill, duration_seconds=seconds, completed=draw(st.booleans())),
                WorkflowStarted(**of_run),
                WorkflowCompleted(**of_run, duration_seconds=seconds),
                NodeStarted(**of_node),
                NodeProgress(**of_node),
                NodeCompleted(**of_node, duration_seconds=seconds, status=draw(STATUSES)),
                PatternDetected(**base, pattern="p", message="m"),
                Deployed(**base, target="t"),
            ]
        )
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(events(), max_size=30), st.data())
def test_sessions_from_the_log_are_those_of_live(given_events: list[Event], data: st.DataObject) -> None:
    """Whatever was published, in whatever pieces it was indexed, the log tells the sessions told live."""
    live = folded(given_events)
    with tempfile.TemporaryDirectory() as temporary:
        directory, rest = Path(temporary), list(given_events)
        while rest:
            size = data.draw(st.integers(1, len(rest)))
            write(directory, rest[:size])
            del rest[:size]
            with SessionHistory(EventLog(directory)):
                pass  # which indexes what there is so far
        answers = told(directory)
        without_index = Correlation(None, None)
        without_index.add_all(EventLog(directory))
    assert by_name(answers["sessions"]) == without_index.sessions() == live
    assert by_name(answers["figures"]) == _figures(live)
    assert by_name([each for _, each, _ in answers["each"]]) == live


def _figures(sessions: dict[str, CorrelatedSession]) -> dict[str, CorrelatedSession]:
    correlated = by_name([CorrelatedSession(**_fields(each)) for each in sessions.values()])
    for each in correlated.values():
        each.skill_invocations, each.workflow_events = [], []
    return correlated


def _fields(session: CorrelatedSession) -> dict[str, Any]:
    return {name: getattr(session, name) for name in session.__struct_fields__}


@pytest.mark.anyio
async def test_the_log_tells_what_the_live_correlator_told(tmp_path: Path) -> None:
    """A persister and a live correlator on one bus: the log gives the very sessions that were live."""
    live = LiveCorrelator()
    async with EventBus([JsonPersister(tmp_path), live]) as bus:
        for number in range(20):
            for event in session(f"s{number}", number * 7.0):
                bus.publish(event)
            await anyio.lowlevel.checkpoint()
    assert by_name(told(tmp_path)["sessions"]) == live.sessions()


def test_a_session_of_two_processes_is_one(tmp_path: Path) -> None:
    """A skill in one segment and a run in another are one session, whichever was indexed first."""
    all_events = session("s", 0)
    skill = [each for each in all_events if isinstance(each, SkillStarted | SkillCompleted)]
    run = [each for each in all_events if each not in skill]
    write(tmp_path, run, "b1")
    assert told(tmp_path)["sessions"][0].skills == 0
    write(tmp_path, skill, "b0")
    assert by_name(told(tmp_path)["sessions"]) == folded(all_events)


def test_sessions_in_turns_and_far_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that take turns, more of them than are folded at once, are told as they were."""
    monkeypatch.setattr(indexing, "_MAX_SESSIONS", 3)
    monkeypatch.setattr(indexing, "_MAX_OPEN_EXTENTS", 2)
    monkeypatch.setattr(indexing, "_MAX_FIGURES", 2)
    monkeypatch.setattr(indexing, "_GAP", 300)
    lanes = [session(f"s{number}", number) for number in range(10)]
    all_events = [event for turn in zip(*lanes, strict=True) for event in turn]
    write(tmp_path, all_events)
    assert by_name(told(tmp_path)["sessions"]) == folded(all_events)
    assert index_state(EventLog(tmp_path)).condition == "current"


# With an index of any kind, or none.


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of two buses, with an index."""
    for number in range(6):
        write(tmp_path, session(f"s{number}", number * 10), f"b{number % 2}")
    write(tmp_path, [SkillStarted(session_id=None, skill_name="k", invocation_id="i", timestamp=NOON)])
    write(tmp_path, [Deployed(session_id="s1", target="x", timestamp=NOON)])
    told(tmp_path)
    return tmp_path


def _sql(directory: Path, *statements: str) -> None:
    with sqlite3.connect(directory / INDEX_NAME) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def _overwrite(directory: Path, content: bytes) -> None:
    (directory / INDEX_NAME).write_bytes(content)


def _flip(directory: Path, place: int) -> None:
    path = directory / INDEX_NAME
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 0xFF
    path.write_bytes(content)


def _of_another_log(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as other:
        write(Path(other), session("else", 0))
        told(Path(other))
        shutil.copy(Path(other) / INDEX_NAME, directory / INDEX_NAME)


def _in_its_place(directory: Path, make: Callable[[Path], object]) -> None:
    (directory / INDEX_NAME).unlink()
    make(directory / INDEX_NAME)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "none": lambda d: (d / INDEX_NAME).unlink(),
    "empty": lambda d: _overwrite(d, b""),
    "text": lambda d: _overwrite(d, b"not a database, whatever its name says\n" * 200),
    "cut off": lambda d: _overwrite(d, (d / INDEX_NAME).read_bytes()[:5_000]),
    "of another version": lambda d: _sql(d, "PRAGMA user_version = 99"),
    "of another application": lambda d: _sql(d, "PRAGMA application_id = 7"),
    "of another log": _of_another_log,
    "wrong figures": lambda d: _sql(d, "UPDATE sessions SET figures = replace(figures, '9.0', '8.0')"),
    "figures of others": lambda d: _sql(
        d, "UPDATE sessions SET (figures, checksum) = (SELECT figures, checksum FROM sessions LIMIT 1)"
    ),
    "other starts": lambda d: _sql(d, "UPDATE sessions SET start = '2000' WHERE name = 's3'"),
    "no sessions": lambda d: _sql(d, "DELETE FROM sessions"),
    "a session missing": lambda d: _sql(d, "DELETE FROM sessions WHERE name = 's2'"),
    "no extents": lambda d: _sql(d, "DELETE FROM extents"),
    "extents elsewhere": lambda d: _sql(d, "UPDATE extents SET start = start + 7"),
    "extents too short": lambda d: _sql(d, "UPDATE extents SET length = length / 2"),
    "no table": lambda d: _sql(d, "DROP TABLE extents"),
    "no segments": lambda d: _sql(d, "DELETE FROM segments"),
    "segments of no size": lambda d: _sql(d, "UPDATE segments SET size = 0"),
    "a directory": lambda d: _in_its_place(d, Path.mkdir),
    "a pipe": lambda d: _in_its_place(d, os.mkfifo),
    "a link to nowhere": lambda d: _in_its_place(d, lambda p: p.symlink_to(d / "nowhere")),
    **{f"byte {place} flipped": partial(_flip, place=place) for place in range(0, 60_000, 1_999)},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_the_answers_do_not_depend_on_the_index(log: Path, damage: Callable[[Path], object]) -> None:
    """Missing, stale, damaged, wrong or foreign: the same answers, and no exception; then and later."""
    expected = told(log)
    damage(log)
    assert told(log) == expected
    assert told(log) == expected


@pytest.mark.parametrize("name", ["of another application", "a directory", "a pipe", "a link to nowhere"])
def test_what_is_not_ours_is_left_alone(log: Path, name: str) -> None:
    """Something else in the index's place is neither written nor removed, and doctor can say so."""
    DAMAGE[name](log)
    before = (log / INDEX_NAME).stat(follow_symlinks=False)
    told(log)
    after = (log / INDEX_NAME).stat(follow_symlinks=False)
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert index_state(EventLog(log)).condition == "foreign"
    assert not (log / "nowhere").exists()


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("none", "missing"), ("text", "damaged"), ("of another version", "damaged"),
        ("a session missing", "damaged"),
        ("wrong figures", "damaged"), ("of another log", "stale"), ("segments of no size", "stale"),
    ],
)  # fmt: skip
def test_the_state_of_an_index_is_told_and_mended(log: Path, name: str, condition: str) -> None:
    """What is wrong with an index is said; asking for sessions makes it good."""
    assert index_state(EventLog(log)).condition == "current"
    DAMAGE[name](log)
    assert index_state(EventLog(log)).condition == condition
    told(log)
    told(log)
    assert index_state(EventLog(log)).condition == "current"


def test_an_index_is_private(log: Path) -> None:
    """The index is readable by its owner alone."""
    assert (log / INDEX_NAME).stat().st_mode & 0o777 == 0o600


def test_a_log_that_is_not_there_has_no_sessions_and_gets_no_index(tmp_path: Path) -> None:
    """Asking creates nothing."""
    assert told(tmp_path / "none")["figures"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("index", ["none", "unreadable", "unwritable and stale", "unwritable"])
def test_whoever_may_only_read_gets_the_same_answers(index: str) -> None:
    """A reader who can write neither the index nor its directory is answered all the same."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        write(directory, session("s0", 0))
        if index != "none":
            told(directory)
        if index == "unwritable and stale":
            write(directory, session("s1", 9))
        expected = by_name(list(folded(list(EventLog(directory))).values()))
        for path in (directory, *directory.rglob("*")):
            path.chmod(
                0o755
                if path.is_dir()
                else 0o600
                if index == "unreadable" and path.suffix != ".jsonl"
                else 0o644
            )
        before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
        child = os.fork()
        if not child:
            os.setgid(65_534)
            os.setuid(65_534)
            os._exit(by_name(told(directory)["sessions"]) != expected)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


# While the log changes.


def test_what_is_appended_is_told(log: Path) -> None:
    """A session that goes on after it was indexed is told whole."""
    write(log, session("s0", 500, nodes=3), "b0")
    fresh = EventLog(log)
    assert index_state(fresh).condition == "stale"
    assert by_name(told(log)["sessions"]) == folded(list(fresh))


def test_an_unfinished_line_is_told_once(tmp_path: Path) -> None:
    """A last line without its line feed is told as the log tells it, before and after it is finished."""
    first, *rest = session("s", 0)
    path = write(tmp_path, [first], end=b"")
    for _ in range(2):
        assert by_name(told(tmp_path)["sessions"]) == folded(list(EventLog(tmp_path)))
    with path.open("ab") as file:
        file.write(b"\n" + b'{"seq":2,"torn')
    assert by_name(told(tmp_path)["sessions"]) == folded([first])
    with path.open("ab") as file:
        file.write(b"\n")
    write(tmp_path, rest)
    assert by_name(told(tmp_path)["sessions"]) == folded([first, *rest])


def test_a_segment_that_is_gone_takes_its_events_along(log: Path) -> None:
    """Sessions of a deleted segment are no longer told; those that were in another one too, in part."""
    write(log, session("s0", 500), "b1")
    told(log)
    next((log / "events").glob("*-b0.jsonl")).unlink()
    assert by_name(told(log)["sessions"]) == folded(list(EventLog(log)))


def test_a_log_that_was_copied_is_indexed_anew_at_once(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no segment is the file it was, nothing is folded session by session."""
    expected = told(log)
    shutil.copytree(log, log / "copy")

    def never(*_: object) -> None:
        pytest.fail("a session was folded on its own")

    monkeypatch.setattr(indexing._Update, "_refold", never)
    assert told(log / "copy") == expected
    assert index_state(EventLog(log / "copy")).condition == "current"


def test_a_segment_deleted_while_it_is_indexed_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between being found and being read a segment may go: the others are told."""
    write(tmp_path, session("s0", 0), "b0")
    doomed = write(tmp_path, session("s1", 5), "b1")
    stale_segments = indexing.stale_segments

    def delete_after(*arguments: Any) -> Any:
        found = stale_segments(*arguments)
        doomed.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(indexing, "stale_segments", delete_after)
    with SessionHistory(EventLog(tmp_path)) as history:
        assert [each.session_id for each in history.figures()] == ["s0"]


@pytest.mark.parametrize("same_size", [True, False])
def test_a_segment_written_anew_is_read_anew(log: Path, same_size: bool) -> None:
    """A file that was rewritten in place, to the same size or not, is not taken for what it was."""
    path = next((log / "events").glob("*-b0.jsonl"))
    content = path.read_bytes().replace(b'"s2"', b'"z2"' if same_size else b'"longer"')
    os.utime(path, ns=(0, 0))
    path.write_bytes(content)
    assert by_name(told(log)["sessions"]) == folded(list(EventLog(log)))


def test_damaged_lines_are_passed_over_as_the_log_does(log: Path) -> None:
    """A broken line changes no session, indexed or not."""
    path = next((log / "events").glob("*-b1.jsonl"))
    lines = path.read_bytes().split(b"\n")
    lines[3] = lines[3][:20]
    lines.insert(5, b"\x00" * 50)
    lines.insert(7, b"[" * 5_000)
    path.write_bytes(b"\n".join(lines))
    assert by_name(told(log)["sessions"]) == folded(list(EventLog(log)))


# In several processes.

_ASK = """
import sys
from eventbus.history import EventLog
from eventbus.history.session_history import SessionHistory
with SessionHistory(EventLog(sys.argv[1])) as history:
    print(sum(each.workflow_nodes_completed for each in history.figures()), history.count())
"""


def _ask(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _ASK, str(directory)], stdout=subprocess.PIPE, text=True)


def test_several_processes_index_at_once(tmp_path: Path) -> None:
    """Four processes that find the index missing give the same answer, and leave it right."""
    write(tmp_path, [event for number in range(500) for event in session(f"s{number}", number)])
    asking = [_ask(tmp_path) for _ in range(4)]
    assert {process.communicate()[0] for process in asking} == {"1000 500\n"}
    assert index_state(EventLog(tmp_path)).condition == "current"


def test_an_update_that_was_killed_is_made_up_for(tmp_path: Path) -> None:
    """Killed at any moment of indexing, the next to ask gets the right answer."""
    write(tmp_path, [event for number in range(500) for event in session(f"s{number}", number)])
    for milliseconds in (80, 110, 140, 170):
        process = _ask(tmp_path)
        try:
            process.wait(milliseconds / 1_000)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    assert told(tmp_path)["count"] == 500
    assert index_state(EventLog(tmp_path)).condition == "current"


# What other files tell.


def test_events_of_other_files_join_the_log(log: Path) -> None:
    """What the log does not have is joined to its sessions, and told in its place."""
    others = [event for event in session("s1", 900) if isinstance(event, SkillStarted | SkillCompleted)]
    later = SkillStarted(
        session_id="later", skill_name="k", invocation_id="l", timestamp=NOON + timedelta(days=1)
    )
    with SessionHistory(EventLog(log), [*others, later]) as history:
        figures = list(history.figures())
        assert figures[0].session_id == "later"
        assert len(figures) == history.count() == 8
        joined = folded([*EventLog(log), *others, later])
        assert by_name(list(history.sessions())) == joined
        assert history.names("la") == ["later"]
        assert history.figures_of("s1") == _figures(joined)["s1"]
