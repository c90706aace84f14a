"""The subjects of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eventbus import Event, NodeEvent, SkillStarted, decode
from eventbus.remote.subjects import session_filter, subject_of, token, type_filter
from tests.vocabulary import Tock

texts = st.none() | st.text(st.characters(), max_size=300)  # lone surrogates, too


@given(texts)
def test_tokens_are_one_level(text: str | None) -> None:
    """A token is one level of a subject: not empty, at most 120 letters, digits, and `_-%~`."""
    found = token(text)
    assert 0 < len(found) <= 120
    assert found.isascii()
    assert not set(found) & set(".*> \t\r\n\0")
    assert found.isprintable()


@given(texts, texts)
def test_different_texts_have_different_tokens(one: str | None, other: str | None) -> None:
    """Different texts have different tokens; equal texts have equal ones."""
    assert (token(one) == token(other)) == (one == other)


def test_tokens_of_hostile_texts() -> None:
    """A token cannot be made by writing what another text's token looks like."""
    long = "a.b" * 100
    assert token("abc-1_X") == "abc-1_X"
    assert token("a.b") == "a%2Eb"
    hostile = [
        "",
        "~",
        "~empty",
        "%7E",
        "%2E",
        ".",
        "*",
        ">",
        " ",
        "\0",
        "\ud800",
        "é",
        "É",
        long,
        token(long),
    ]
    assert len({None, *hostile}) == len({token(each) for each in (None, *hostile)})


def test_subjects_and_filters() -> None:
    """An event's subject is its session and its type; filters select sessions, or classes with subclasses."""
    event = SkillStarted(session_id="h7.s3", skill_name="release")
    assert subject_of(event) == "eventbus.h7%2Es3.skill_started"
    assert subject_of(Event(session_id=None)) == "eventbus.~.event"
    assert subject_of(decode('{"event_type":"lib.deploy","session_id":"s"}')) == "eventbus.s.lib%2Edeploy"
    assert session_filter("h7.s3") == "eventbus.h7%2Es3.>"
    assert type_filter(Event) == ["eventbus.*.>"]
    assert type_filter(Tock, token("s")) == ["eventbus.s.tock"]
    assert {"eventbus.*.node_started", "eventbus.*.node_progress"} < {*type_filter(NodeEvent | SkillStarted)}
