"""Session ids outside Python: as bytes in an environment, and as text in logs, JSON and reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from eventbus_subscribers import JsonPersister
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus import Event, EventBus, NodeCompleted, SkillsWorkflowCorrelator, decode, encode
from eventbus.events import UnknownEvent
from eventbus.ground.session_names import name_of_argument, name_of_bytes, name_to_bytes, spell, unspell
from eventbus.history import EventLog
from eventbus.history.session_history import SessionHistory
from eventbus.session import SESSION_VARIABLE, current_session_id, set_session_of_process
from tests.history.followed import take

ENCODINGS = ["utf-8", "latin-1", "ascii"]  # of file names in a locale
ALIKE = [
    "s-\udce9",
    "s-\\udce9",
    "s-\\u005cudce9",
    "s-\\\udce9",
    "s-\\\\udce9",
    "s-é",
    "s-\ud800",
    "s-\\user",
]
"""Ids that different ways of escaping turn into the same text."""

pieces = st.sampled_from(
    ["\\", "\\u", "u", "005c", "udce9", "\udce9", "\ud83d", "d", "é", "\N{SNOWMAN}", " "]
)
ids = st.lists(pieces | st.text(max_size=2), min_size=1).map("".join)
chunks = st.binary(max_size=3) | st.sampled_from([b"\xe9", b"\\udce9", b"\\u", "é".encode()])
names = st.lists(chunks).map(lambda some: b"".join(some).replace(b"\0", b""))  # an environment has no NUL


@given(ids)
def test_a_spelling_is_read_back(session_id: str) -> None:
    """Every id has a spelling of its own, which can be stored as UTF-8."""
    text = spell(session_id)
    assert unspell(text) == session_id
    assert unspell(text.encode().decode()) == session_id


@given(ids, ids)
def test_the_spelling_of_a_beginning(beginning: str, rest: str) -> None:
    """The spelling of an id begins with the spelling of each beginning of it."""
    assert spell(beginning + rest).startswith(spell(beginning))


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "\\u" not in text))
def test_an_ordinary_id_is_spelled_as_it_is(session_id: str) -> None:
    """An id without undecodable bytes and without a backslash before a u is its own spelling."""
    assert spell(session_id) == session_id


@given(names, st.sampled_from(ENCODINGS))
def test_bytes_name_one_session_in_every_locale(name: bytes, encoding: str) -> None:
    """The same bytes name the same session, as an argument too, whatever the locale's encoding is."""
    argument = name.decode(encoding, "surrogateescape")  # as Python decodes `sys.argv`
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsencode", partial(str.encode, encoding=encoding, errors="surrogateescape"))
        assert name_of_argument(argument) == name_of_bytes(name)
    assert name_to_bytes(name_of_bytes(name)) == name


@pytest.mark.parametrize("session_id", ["\ud800", "\N{SNOWMAN}"])
def test_an_argument_without_bytes(session_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that the locale cannot express names the session with this text."""
    monkeypatch.setattr(os, "fsencode", partial(str.encode, encoding="ascii", errors="surrogateescape"))
    assert name_of_argument(session_id) == session_id
    assert name_to_bytes(session_id)


def test_the_environment_is_read_as_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """The id in the environment is read from its bytes, as UTF-8, and set so."""
    monkeypatch.setenv(SESSION_VARIABLE, "before")
    os.environb[SESSION_VARIABLE.encode()] = b"s-\xe9-\xc3\xa9"
    assert current_session_id() == "s-\udce9-é"
    set_session_of_process("s-\udce8")
    assert os.environb[SESSION_VARIABLE.encode()] == b"s-\xe8"


@given(ids)
def test_an_event_keeps_its_session(session_id: str) -> None:
    """An event's session comes back from its line, also if its type is unknown, and read twice."""
    line = encode(NodeCompleted(session_id=session_id, workflow_id="w", node_id="n"))
    for _ in range(2):
        event = decode(line)
        assert event.session_id == session_id
        line = encode(event)
    unknown = decode(line.replace(b"node_completed", b"something_else"))
    assert isinstance(unknown, UnknownEvent)
    assert unknown.session_id == session_id
    assert decode(encode(unknown)) == unknown


def write(directory: Path, sessions: list[str]) -> EventLog:
    with EventBus([JsonPersister(directory)]) as bus:
        for each in sessions:
            bus.publish(NodeCompleted(session_id=each, workflow_id="w", node_id="n", run_id="r"))
    return EventLog(directory)


def assert_different(directory: Path, sessions: list[str]) -> None:
    """Check that the log has these sessions, each with one event, for every reader."""
    log = write(directory, sessions)
    for each in sessions:
        assert [event.session_id for event in log.events(session_id=each)] == [each]
        assert [record.event.session_id for record in log.records(session_id=each)] == [each]
    correlator = SkillsWorkflowCorrelator(log=log)
    correlator.export_correlated_data(directory / "export.json")
    assert set(json.loads((directory / "export.json").read_text())["sessions"]) == {*map(spell, sessions)}
    assert set(SkillsWorkflowCorrelator(log=log).correlate_by_session()) == set(sessions)
    for _ in range(2):  # the second time from the index
        with SessionHistory(log) as history:
            assert {each.session_id for each in history.figures()} == set(sessions)
            assert set(history.names(limit=100)) == set(sessions)
            assert all(history.names(each) for each in sessions)
            for each in sessions:
                assert [event.session_id for event in history.events(each)] == [each]
                assert history.session(each) is not None


def test_sessions_that_look_alike_stay_different(tmp_path: Path) -> None:
    """Undecodable bytes, and the texts that spell them, are different sessions for every reader."""
    assert_different(tmp_path, ALIKE)


@settings(max_examples=settings().max_examples // 20)
@given(st.sets(names.filter(bool), min_size=1, max_size=8))
def test_different_bytes_are_different_sessions(
    tmp_path_factory: pytest.TempPathFactory, different: set[bytes]
) -> None:
    """Sessions named by different bytes are different sessions for every reader."""
    assert_different(tmp_path_factory.mktemp("log"), [name_of_bytes(each) for each in different])


@pytest.mark.anyio
async def test_one_session_is_followed(tmp_path: Path) -> None:
    """A session whose name cannot be decoded is followed by that name, without those that look like it."""
    async with write(tmp_path, ALIKE).follow("beginning", session_id=ALIKE[0], include_own=True) as records:
        write(tmp_path, ALIKE)
        sessions = [record.event.session_id for record in await take(records, 2)]
    assert sessions == [ALIKE[0]] * 2


def test_a_record_names_its_session(tmp_path: Path) -> None:
    """The records of a correlated session contain the spelling, and are correlated to the same session."""
    log = write(tmp_path, ALIKE)
    for name, session in SkillsWorkflowCorrelator(log=log).correlate_by_session().items():
        again = SkillsWorkflowCorrelator().correlate_by_session([], session.workflow_events)
        assert list(again) == [name]


_PUBLISH = """
import sys
from eventbus import Event, EventBus
from eventbus_subscribers import JsonPersister
with EventBus([JsonPersister(sys.argv[1])]) as bus:
    bus.publish(Event())
"""


def test_processes_of_different_locales_share_a_session(tmp_path: Path) -> None:
    """A session id in the environment names the same session in processes of different locales."""
    name = b"s-\xe9-\xc3\xa9"
    for locale in ({"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8"}):
        environment = {**os.environb, **{key.encode(): value.encode() for key, value in locale.items()}}
        environment[SESSION_VARIABLE.encode()] = name
        command = [sys.executable, "-c", _PUBLISH, str(tmp_path)]
        subprocess.run(command, env=environment, timeout=60, check=True)
    events: list[Event] = list(EventLog(tmp_path))
    assert [event.session_id for event in events] == ["s-\udce9-é"] * 2


@pytest.mark.parametrize("session_id", ALIKE)
def test_a_truncated_event_keeps_its_session(session_id: str) -> None:
    """The session of an event that is too large to be stored whole is spelled once."""
    large = NodeCompleted(
        session_id=session_id,
        workflow_id="w",
        node_id="n",
        metadata={f"k{i}": "x" * 9_000 for i in range(99)},
    )
    line = encode(large)
    assert (decode(line).session_id, decode(line).metadata["truncated"]) == (session_id, True)
