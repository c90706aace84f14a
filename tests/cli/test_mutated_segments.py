"""Mutated segments of a real persister, through every public reader and every command."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eventbus_subscribers import JsonPersister
from hypothesis import given
from hypothesis import strategies as st

from eventbus import EventBus, SkillsWorkflowCorrelator
from eventbus.cli import main
from eventbus.events import NodeCompleted, WorkflowCompleted, encode
from eventbus.history import Damage, EventLog
from eventbus.history.index_state import index_state
from eventbus.history.session_history import SessionHistory
from tests.cli.report_examples import COMMANDS, TIMES, skill
from tests.history.log_examples import START, fewer_examples, header


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the segments of two buses, as the persister writes them, by their files' names."""
    directory = tmp_path_factory.mktemp("real") / "log"
    for session in ("sound", "other"):
        with EventBus([JsonPersister(directory)]) as bus:
            for number in range(3):
                for event in skill(session, number, error_type="KeyError" if number else None):
                    bus.publish(event)
            ids: dict[str, Any] = {"session_id": session, "workflow_id": "w", "run_id": session}
            bus.publish(NodeCompleted(**ids, node_id="n", timestamp=START, metadata={"list": [1, "ü", None]}))
            bus.publish(WorkflowCompleted(**ids, timestamp=START))
    return {each.path.name: each.path.read_bytes() for each in EventLog(directory).segments()}


def _mutations() -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """Return functions that spoil a segment: flips, cuts, splices, NULs, a header alone, extreme times."""
    place = st.floats(0, 1, exclude_max=True)

    def at(data: bytes, share: float) -> int:
        return int(share * len(data))

    def flip(share: float, bit: int) -> Callable[[bytes], bytes]:
        def change(data: bytes) -> bytes:
            spoilt = bytearray(data or b"\0")
            spoilt[at(bytes(spoilt), share)] ^= 1 << bit
            return bytes(spoilt)

        return change

    def splice(into: float, start: float, end: float) -> Callable[[bytes], bytes]:
        return lambda data: (
            data[: at(data, into)] + data[at(data, start) : at(data, end)] + data[at(data, into) :]
        )

    def insert(share: float, junk: bytes) -> Callable[[bytes], bytes]:
        return lambda data: data[: at(data, share)] + junk + data[at(data, share) :]

    def set_times(time: str, count: int) -> Callable[[bytes], bytes]:
        return lambda data: data.replace(b"2026-01-02T03:04:06Z", time.encode(), count)

    def cut(share: float) -> Callable[[bytes], bytes]:
        return lambda data: data[: at(data, share)]

    def keep_header(data: bytes) -> bytes:
        return data[: data.find(b"\n") + 1]

    junk = st.one_of(
        st.binary(max_size=200),
        st.sampled_from(
            [b"\0" * 5_000, b"\n", b"[" * 2_000, b"\xef\xbb\xbf", b'{"seq":1,"event_type":"x"}\n']
        ),
        st.sampled_from([header("other"), b"{}\n", b'"', b"-", b"9" * 30, b"\xff"]),
        st.sampled_from(
            [b'"duration_seconds":1e308,', b'"attempt":99999999999999999999999,', b"\xed\xa0\x80"]
        ),
    )
    return st.one_of(
        st.builds(flip, place, st.integers(0, 7)),
        st.builds(splice, place, place, place),
        st.builds(insert, place, junk),
        st.builds(set_times, st.sampled_from(TIMES), st.sampled_from([1, 2, -1])),
        st.builds(cut, place),
        st.just(keep_header),
    )


def run(*words: str) -> int:
    """Run a command in this process; throw its output away, except for an unexpected exception."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    try:
        code = main(list(words))
        sys.stderr.seek(0)
        assert "error: unexpected " not in (noted := sys.stderr.read()), noted
        return code
    finally:
        sys.stdout, sys.stderr = streams


def read_all(directory: Path) -> list[Damage]:
    """Use every public reader; return the damage."""
    log = EventLog(directory, on_damage=lambda _: None)
    # Not the whole events: one that has lost its invocation's id gets a new one each time.
    found = [(type(each), each.session_id, each.timestamp) for each in log.events()]
    records = (each.event for each in log.records())
    assert [(type(each), each.session_id, each.timestamp) for each in records] == found
    of_session = sum(session_id == "sound" for _, session_id, _ in found)
    assert sum(1 for _ in log.events(session_id="sound")) == of_session
    assert all(each.message for each in log.check())
    assert index_state(log).condition in ("missing", "current", "stale", "damaged")
    correlator = SkillsWorkflowCorrelator(log=log)
    correlated = correlator.correlate_by_session()
    reread = SkillsWorkflowCorrelator(log=log)
    assert reread.generate_correlation_report()
    reread.export_correlated_data(directory / "export.json")
    with SessionHistory(log) as history:
        assert {each.session_id for each in history.sessions()} == set(correlated)
        for name in correlated:
            assert history.figures_of(name) is not None
            assert all(encode(event) for event in history.events(name))
    return log.damage()


@fewer_examples
@given(
    st.lists(st.tuples(st.integers(0, 1), _mutations()), min_size=1, max_size=4),
    st.lists(st.sampled_from(COMMANDS), min_size=2, max_size=4, unique_by=tuple),
)
def test_no_mutation_of_a_segment_ends_a_command_or_a_reader(
    real: dict[str, bytes],
    mutations: list[tuple[int, Callable[[bytes], bytes]]],
    commands: list[list[str]],
) -> None:
    """Each reader and each command ends without an exception, and damage is exit code 4."""
    directory = Path(tempfile.mkdtemp(prefix="eventbus-mutated-"))
    try:
        segments = list(real.items())
        for which, mutate in mutations:
            name, data = segments[which]
            segments[which] = name, mutate(data)
        for name, data in segments:
            (directory / "events").mkdir(mode=0o700, exist_ok=True)
            (directory / "events" / name).write_bytes(data)
            (directory / "events" / name).chmod(0o600)
        damaged = bool(read_all(directory))
        for command in commands:
            code = run(*command, "--dir", str(directory))
            if command[0] == "show":
                assert code in (0, 3, 4), command  # its session may be what was lost
            elif command[0] == "doctor":
                assert code == 4 if damaged else code in (0, 1), command
            else:
                assert code == (4 if damaged else 0), command
    finally:
        shutil.rmtree(directory)
