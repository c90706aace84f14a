"""SessionHistory: the same sessions as live, with an index in any condition or none."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import pytest
from eventbus_subscribers import JsonPersister, LiveCorrelator
from hypothesis import given
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
    SessionLinked,
    SkillCompleted,
    SkillStarted,
    WorkflowCompleted,
    WorkflowStarted,
    WorkflowStatus,
)
from eventbus.history import EventLog, folded_log, indexing
from eventbus.history.extents import PartitionReader
from eventbus.history.index import INDEX_NAME
from eventbus.history.index_state import index_state
from eventbus.history.session_history import SessionHistory
from eventbus.history.unfinished import all_unfinished
from tests.history.log_examples import append, fewer_examples, segment_path, stored
from tests.vocabulary import in_a_child

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Deployed(Event, frozen=True, kw_only=True):
    """An event class that raw decoding does not know."""

    target: str


def write(directory: Path, events: Sequence[Event], bus: str = "b0", *, end: bytes = b"\n") -> Path:
    """Write a segment, or append to it."""
    path = segment_path(directory, bus, start=NOON)
    before = path.read_bytes().count(b"\n") if path.exists() else 0
    content = b"".join(stored(seq, event) for seq, event in enumerate(events, before + 1))
    append(path, content.removesuffix(b"\n") + end if content else b"")
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


def read_all(directory: Path) -> dict[str, Any]:
    """Return the results of all methods."""
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
    return as_left(correlation.sessions())


def as_left(sessions: dict[str, CorrelatedSession]) -> dict[str, CorrelatedSession]:
    """Return sessions as a log gives them when their writers are gone."""
    return {name: all_unfinished(each) if each.is_open else each for name, each in sessions.items()}


def by_name(sessions: Sequence[CorrelatedSession]) -> dict[str, CorrelatedSession]:
    return {each.session_id: each for each in sessions}


# The same sessions as live.

STATUSES: st.SearchStrategy[NodeStatus] = st.sampled_from(["ok", "failed", "skipped", "cancelled"])
RUN_STATUSES: st.SearchStrategy[WorkflowStatus] = st.sampled_from(["ok", "failed", "cancelled"])


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
    of_link: dict[str, Any] = {**base, "session_id": "a"}
    exit_codes: list[dict[str, Any]] = [{}, {"exit_code": 0}, {"exit_code": 2}]
    of_end: dict[str, Any] = {**of_run, "metadata": draw(st.sampled_from(exit_codes))}
    seconds = draw(st.none() | st.floats(-5, 50))
    return draw(
        st.sampled_from(
            [
                SkillStarted(**of_skill),
                SkillCompleted(**of_skill, duration_seconds=seconds, completed=draw(st.booleans())),
                WorkflowStarted(**of_run, nodes=draw(st.sampled_from([(), ("n",), ("m", "o")]))),
                WorkflowCompleted(
                    **of_end,
                    duration_seconds=seconds,
                    status=draw(RUN_STATUSES),
                    error_type=draw(st.sampled_from([None, "ValueError"])),
                ),
                NodeStarted(**of_node),
                NodeProgress(**of_node),
                NodeCompleted(**of_node, duration_seconds=seconds, status=draw(STATUSES)),
                PatternDetected(**base, pattern="p", message="m"),
                SessionLinked(**of_link, other=draw(st.sampled_from(["b", "s/\u202e\n"]))),
                Deployed(**base, target="t"),
            ]
        )
    )


@fewer_examples
@given(st.lists(events(), max_size=30), st.data())
def test_a_log_gives_the_same_sessions_as_live_correlation(
    given_events: list[Event], data: st.DataObject
) -> None:
    """The log gives the same sessions as live, in however many steps it was indexed."""
    live = folded(given_events)
    with tempfile.TemporaryDirectory() as temporary:
        directory, rest = Path(temporary), list(given_events)
        while rest:
            size = data.draw(st.integers(1, len(rest)))
            write(directory, rest[:size])
            del rest[:size]
            with SessionHistory(EventLog(directory)):
                pass  # which indexes what there is so far
        results = read_all(directory)
        without_index = Correlation(None, None)
        without_index.add_all(EventLog(directory))
    assert by_name(results["sessions"]) == as_left(without_index.sessions()) == live
    assert by_name(results["figures"]) == _figures(live)
    assert by_name([each for _, each, _ in results["each"]]) == live


def _figures(sessions: dict[str, CorrelatedSession]) -> dict[str, CorrelatedSession]:
    correlated = by_name([CorrelatedSession(**_fields(each)) for each in sessions.values()])
    for each in correlated.values():
        each.skill_invocations, each.workflow_events = [], []
    return correlated


def _fields(session: CorrelatedSession) -> dict[str, Any]:
    return {name: getattr(session, name) for name in session.__struct_fields__}


@pytest.mark.anyio
async def test_a_persisted_log_gives_the_sessions_of_a_live_correlator(tmp_path: Path) -> None:
    """With a persister and a live correlator on one bus, the log gives the same sessions."""
    live = LiveCorrelator()
    async with EventBus([JsonPersister(tmp_path), live]) as bus:
        for number in range(20):
            for event in session(f"s{number}", number * 7.0):
                bus.publish(event)
            await anyio.lowlevel.checkpoint()
    assert by_name(read_all(tmp_path)["sessions"]) == live.sessions()


def test_a_session_of_two_processes_is_one(tmp_path: Path) -> None:
    """A skill in one segment and a run in another are one session, in either order of indexing."""
    all_events = session("s", 0)
    skill = [each for each in all_events if isinstance(each, SkillStarted | SkillCompleted)]
    run = [each for each in all_events if each not in skill]
    write(tmp_path, run, "b1")
    assert read_all(tmp_path)["sessions"][0].skills == 0
    write(tmp_path, skill, "b0")
    assert by_name(read_all(tmp_path)["sessions"]) == folded(all_events)


def test_more_interleaved_sessions_than_fit_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More interleaved sessions than are folded at once are read back unchanged."""
    monkeypatch.setattr(indexing, "_MAX_SESSIONS", 3)
    monkeypatch.setattr(indexing, "_MAX_OPEN_EXTENTS", 2)
    monkeypatch.setattr(indexing, "_MAX_FIGURES", 2)
    monkeypatch.setattr(indexing, "_GAP", 300)
    sessions = [session(f"s{number}", number) for number in range(10)]
    all_events = [event for turn in zip(*sessions, strict=True) for event in turn]
    write(tmp_path, all_events)
    assert by_name(read_all(tmp_path)["sessions"]) == folded(all_events)
    assert index_state(EventLog(tmp_path)).condition == "current"


@fewer_examples
@given(st.lists(st.tuples(st.sampled_from(["b0", "b1", "b2"]), events()), max_size=30), st.data())
def test_the_results_do_not_depend_on_clocks(written: list[tuple[str, Event]], data: st.DataObject) -> None:
    """Whatever the clocks of several writers did, the results are the same, with an index and without."""
    first = data.draw(st.integers(0, len(written)))
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        for rest in (written[:first], written[first:]):
            for bus in ("b0", "b1", "b2"):
                write(directory, [event for writer, event in rest if writer == bus], bus)
            read_all(directory)
        updated = read_all(directory)
        (directory / INDEX_NAME).unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(folded_log, "_MAX_FOLDS", data.draw(st.sampled_from([1, 2, 100])))
            without = folded_log.fold_log(EventLog(directory))
        new = read_all(directory)
    assert updated == new
    assert _figures(by_name(new["sessions"])) == by_name(new["figures"])
    if without is not None:
        assert list(without.figures()) == new["figures"]


def test_a_clock_far_ahead(tmp_path: Path) -> None:
    """An event dated far ahead changes no other session of its writer."""
    ahead = NodeStarted(
        workflow_id="w", node_id="n", session_id="other", timestamp=datetime.max.replace(tzinfo=UTC)
    )
    first, second = (
        WorkflowCompleted(
            workflow_id="w",
            run_id=f"r{code}",
            session_id="s",
            status="failed",
            metadata={"exit_code": code},
            timestamp=NOON + timedelta(seconds=code),
        )
        for code in (1, 2)
    )
    write(tmp_path, [ahead, first], "b0")
    write(tmp_path, [second], "b1")
    assert folded_log.fold_log(EventLog(tmp_path)) is None
    results = read_all(tmp_path)
    assert by_name(results["sessions"])["s"] == folded([first, second])["s"]
    assert by_name(results["figures"])["s"] == _figures(folded([first, second]))["s"]


# With an index in any condition, or none.


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log of two buses, with an index."""
    for number in range(6):
        write(tmp_path, session(f"s{number}", number * 10), f"b{number % 2}")
    write(tmp_path, [SkillStarted(session_id=None, skill_name="k", invocation_id="i", timestamp=NOON)])
    write(tmp_path, [Deployed(session_id="s1", target="x", timestamp=NOON)])
    read_all(tmp_path)
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
        read_all(Path(other))
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
def test_the_results_do_not_depend_on_the_index(log: Path, damage: Callable[[Path], object]) -> None:
    """With a missing, stale, damaged, wrong or foreign index, all results are the same, twice."""
    expected = read_all(log)
    damage(log)
    assert read_all(log) == expected
    assert read_all(log) == expected


def test_an_iteration_may_be_dropped_after_the_close(log: Path) -> None:
    """An iteration over sessions that is not finished may be dropped after the history was closed."""
    with SessionHistory(EventLog(log)) as history:
        figures = history.figures()
        next(figures)
    del figures  # a warning would fail the test


@pytest.mark.parametrize("name", ["of another application", "a directory", "a pipe", "a link to nowhere"])
def test_a_foreign_file_is_left_alone(log: Path, name: str) -> None:
    """A foreign file in the index's place is neither written nor removed, and is reported as foreign."""
    DAMAGE[name](log)
    before = (log / INDEX_NAME).stat(follow_symlinks=False)
    read_all(log)
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
def test_the_state_of_an_index_is_described_and_repaired(log: Path, name: str, condition: str) -> None:
    """A missing, damaged or stale index is described as such; reading sessions makes it current."""
    assert index_state(EventLog(log)).condition == "current"
    DAMAGE[name](log)
    assert index_state(EventLog(log)).condition == condition
    read_all(log)
    read_all(log)
    assert index_state(EventLog(log)).condition == "current"


def test_an_index_is_private(log: Path) -> None:
    """The index is readable by its owner alone."""
    assert (log / INDEX_NAME).stat().st_mode & 0o777 == 0o600


def test_a_missing_log_has_no_sessions_and_gets_no_index(tmp_path: Path) -> None:
    """Reading a log that does not exist creates nothing."""
    assert read_all(tmp_path / "none")["figures"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("index", ["none", "unreadable", "unwritable and stale", "unwritable"])
def test_a_user_who_may_only_read_gets_the_same_results(index: str) -> None:
    """Without permission to write the index or its directory, the results are the same."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        write(directory, session("s0", 0))
        if index != "none":
            read_all(directory)
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

        def gets_the_same() -> bool:
            os.setgid(65_534)
            os.setuid(65_534)
            return by_name(read_all(directory)["sessions"]) == expected

        assert in_a_child(gets_the_same)
        assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


# While the log changes.


def test_appended_events_are_read(log: Path) -> None:
    """A session that continues after it was indexed is read whole."""
    write(log, session("s0", 500, nodes=3), "b0")
    fresh = EventLog(log)
    assert index_state(fresh).condition == "stale"
    assert by_name(read_all(log)["sessions"]) == folded(list(fresh))


def test_an_unfinished_line_is_read_once(tmp_path: Path) -> None:
    """A last line without its line feed is read as `EventLog` reads it, before and after it is finished."""
    first, *rest = session("s", 0)
    path = write(tmp_path, [first], end=b"")
    for _ in range(2):
        assert by_name(read_all(tmp_path)["sessions"]) == folded(list(EventLog(tmp_path)))
    append(path, b"\n", b'{"seq":2,"torn')
    assert by_name(read_all(tmp_path)["sessions"]) == folded([first])
    append(path, b"\n")
    write(tmp_path, rest)
    assert by_name(read_all(tmp_path)["sessions"]) == folded([first, *rest])


def test_the_events_of_a_deleted_segment_are_gone(log: Path) -> None:
    """The sessions of a deleted segment are gone, except for their events in other segments."""
    write(log, session("s0", 500), "b1")
    read_all(log)
    next((log / "events").glob("*-b0.jsonl")).unlink()
    assert by_name(read_all(log)["sessions"]) == folded(list(EventLog(log)))


def test_a_log_that_changes_under_a_temporary_index(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a log is no longer what a temporary index was made from, a session is what can be read of it."""
    _in_its_place(log, Path.mkdir)  # so that no index can be stored
    events_of = PartitionReader.events

    def cut(partitions: PartitionReader, *keys: str) -> Iterator[Event]:
        return islice(events_of(partitions, *keys), 3)

    with SessionHistory(EventLog(log)) as history:
        whole = history.session("s2")
        assert whole is not None
        monkeypatch.setattr(PartitionReader, "events", cut)
        found = history.session("s2")
    assert found is not None
    assert found.workflow_events == whole.workflow_events[: len(found.workflow_events)]
    assert len(found.workflow_events) < len(whole.workflow_events)


def test_a_copied_log_is_indexed_in_one_pass(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no segment is the same file as before, sessions are not folded one by one."""
    expected = read_all(log)
    shutil.copytree(log, log / "copy")
    refold, folded_alone = indexing._Update._refold, list[str]()

    def noted(update: Any, key: str, partitions: Any) -> None:
        folded_alone.append(key)
        refold(update, key, partitions)

    monkeypatch.setattr(indexing._Update, "_refold", noted)
    assert read_all(log / "copy") == expected
    assert index_state(EventLog(log / "copy")).condition == "current"
    assert folded_alone == ["session:s1"]  # of two writers, one of which wrote an earlier time
    of_one_writer = [*session("late", 900), *session("early", 800)]
    write(log / "copy", of_one_writer, "b2")
    assert by_name(read_all(log / "copy")["sessions"])["early"] == folded(of_one_writer)["early"]
    assert folded_alone == ["session:s1"]


def test_a_segment_deleted_while_it_is_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a segment is deleted between being found and being read, the others are indexed."""
    write(tmp_path, session("s0", 0), "b0")
    removed = write(tmp_path, session("s1", 5), "b1")
    stale_segments = indexing.stale_segments

    def delete_after(*arguments: Any) -> Any:
        found = stale_segments(*arguments)
        removed.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(indexing, "stale_segments", delete_after)
    with SessionHistory(EventLog(tmp_path)) as history:
        assert [each.session_id for each in history.figures()] == ["s0"]


@pytest.mark.parametrize("same_size", [True, False])
def test_a_rewritten_segment_is_indexed_again(log: Path, same_size: bool) -> None:
    """A file that was rewritten in place is indexed again, even if its size is the same."""
    path = next((log / "events").glob("*-b0.jsonl"))
    content = path.read_bytes().replace(b'"s2"', b'"z2"' if same_size else b'"longer"')
    os.utime(path, ns=(0, 0))
    path.write_bytes(content)
    assert by_name(read_all(log)["sessions"]) == folded(list(EventLog(log)))


def test_damaged_lines_are_skipped(log: Path) -> None:
    """Damaged lines are skipped as `EventLog` skips them."""
    path = next((log / "events").glob("*-b1.jsonl"))
    lines = path.read_bytes().split(b"\n")
    lines[3] = lines[3][:20]
    lines.insert(5, b"\x00" * 50)
    lines.insert(7, b"[" * 5_000)
    path.write_bytes(b"\n".join(lines))
    assert by_name(read_all(log)["sessions"]) == folded(list(EventLog(log)))


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
    """Four processes that find no index get the same results, and leave a current index."""
    write(tmp_path, [event for number in range(500) for event in session(f"s{number}", number)])
    asking = [_ask(tmp_path) for _ in range(4)]
    assert {process.communicate()[0] for process in asking} == {"1000 500\n"}
    assert index_state(EventLog(tmp_path)).condition == "current"


def test_a_killed_update_leaves_nothing_wrong_behind(tmp_path: Path) -> None:
    """After a process was killed during an update, the next one gets the right results."""
    write(tmp_path, [event for number in range(500) for event in session(f"s{number}", number)])
    for milliseconds in (80, 110, 140, 170):
        process = _ask(tmp_path)
        try:
            process.wait(milliseconds / 1_000)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    assert read_all(tmp_path)["count"] == 500
    assert index_state(EventLog(tmp_path)).condition == "current"


# Extra events.


def test_extra_events_join_the_sessions_of_the_log(log: Path) -> None:
    """Extra events are joined to their sessions, which keep their place in the order."""
    extra = [event for event in session("s1", 900) if isinstance(event, SkillStarted | SkillCompleted)]
    later = SkillStarted(
        session_id="later", skill_name="k", invocation_id="l", timestamp=NOON + timedelta(days=1)
    )
    with SessionHistory(EventLog(log), [*extra, later]) as history:
        figures = list(history.figures())
        assert figures[0].session_id == "later"
        assert len(figures) == history.count() == 8
        joined = folded([*EventLog(log), *extra])
        correlation = Correlation()
        correlation.add(later)
        joined |= correlation.sessions()
        assert by_name(list(history.sessions())) == joined
        assert history.names("la") == ["later"]
        assert history.figures_of("s1") == _figures(joined)["s1"]
