"""Secrets, e-mail addresses and home directories do not leave the process."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

import msgspec
import pytest
from eventbus_subscribers.console_progress import ConsoleProgress
from eventbus_subscribers.event_logger import EventLogger
from eventbus_subscribers.json_persister import JsonPersister
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus import (
    Event,
    EventBus,
    NodeCompleted,
    NodeProgress,
    SkillCompleted,
    SkillStarted,
    UnknownEvent,
    encode,
    encode_lines,
    scrub,
    scrubbed_line,
    scrubbed_lines,
)
from eventbus.events import codec, redaction, scrubbing, secret_shapes
from eventbus.events.scrubbing import is_clean, scrub_value
from eventbus.events.size import is_oversized
from eventbus.session import new_id
from tests.vocabulary import TooSlowError, attempts

SECRETS = {
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "github": "ghp_" + "a1B2" * 9,
    "github, fine-grained": "github_pat_" + "a1B2" * 20,
    "gitlab": "glpat-" + "a1B2" * 5,
    "slack": "xoxb-123456789012-abcdefABCDEF",
    "openai": "sk-proj-" + "a1B2" * 12,
    "anthropic": "sk-ant-api03-" + "a1B2" * 12,
    "stripe": "sk_live_" + "a1B2" * 6,
    "google": "AIza" + "a1B2c" * 7,
    "npm": "npm_" + "a1B2" * 9,
    "pypi": "pypi-" + "a1B2" * 20,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "google, oauth": "GOCSPX-" + "a1B2" * 7,
    "alibaba": "LTAI" + "a1B2" * 5,
    "databricks": "dapi" + "a1b2" * 8,
    "vault": "hvs." + "a1B2" * 10,
    "artifactory": "AKCp" + "a1B2" * 12,
    "atlassian": "ATATT3" + "a1B2" * 16,
    "docker": "dckr_pat_" + "a1B2" * 7,
    "twilio": "SK" + "a1b2" * 8,
    "mailchimp": "a1b2" * 8 + "-us21",
    "mailgun": "key-" + "a1b2" * 8,
    "telegram": "123456789:AA" + "a1B2" * 9,
    "discord": "MTA4" + "a1B2" * 5 + ".Gabcde." + "a1B2" * 8,
    "discord, webhook": "https://discord.com/api/webhooks/123456789012345678/" + "a1B2" * 16,
    "slack, webhook": "https://hooks.slack.com/services/T00000000/B00000000/" + "a1B2" * 6,
    "square": "sq0atp-" + "a1B2" * 6,
    "square, long": "EAAA" + "a1B2" * 15,
    "shopify": "shpat_" + "a1B2" * 8,
    "age": "AGE-SECRET-KEY-1" + "A1B2" * 14,
    "azure": "a1B8Q~" + "a1B2" * 8,
    "azure, connection": "DefaultEndpointsProtocol=https;AccountKey=hunter2-of-mine==;EndpointSuffix=x",
    "grafana": "glsa_" + "a1B2" * 8 + "_a1b2a1b2",
    "new relic": "NRAK-" + "A1B2" * 7,
    "postman": "PMAK-" + "a1b2" * 6 + "-" + "a1b2" * 8 + "a1",
    "notion": "ntn_" + "a1B2" * 11,
    "planetscale": "pscale_tkn_" + "a1B2" * 10,
    "groq": "gsk_" + "a1B2" * 13,
    "kelvin": "to\N{KELVIN SIGN}en=hunter2-of-mine",
    "long s": "pa\N{LATIN SMALL LETTER LONG S}sword: hunter2-of-mine",
    "url": "postgres://bob:hunter2@db.example.com:5432/app",
    "url with a token": "https://t0ken-of-mine@example.com/repo.git",
    "password": "password=hunter2-of-mine",
    "environment": "AWS_SECRET_ACCESS_KEY='hunter2-of-mine'",
    "json": '{"api_key": "hunter2-of-mine"}',
    "option": "deploy --token hunter2-of-mine",
    "bearer": "Authorization: Bearer hunter2-of-mine",
    "basic": "authorization: Basic aHVudGVyMi1vZi1taW5l",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nhunter2-of-mine\n-----END RSA PRIVATE KEY-----",
    "pem, cut": "-----BEGIN PRIVATE KEY-----\nhunter2-of-mine",
    "email": "joe.bloggs+ci@mail.example.co.uk",
    "home": "/home/joebloggs/project/secret_plan.py",
    "home on a Mac": "/Users/joebloggs/project",
    "home on Windows": r"C:\Users\joebloggs\project",
}
FRAGMENTS = [
    "AKIAIOSF",
    "a1B2a1B2",
    "a1b2a1b2",
    "A1B2A1B2",
    "abcdefABCDEF",
    "a1B2ca1B2c",
    "eyJhbGci",
    "hunter2",
    "t0ken",
    "aHVudGVy",
    "joe",
    "bloggs",
]

INNOCENT = [
    "fast_hooks",
    "0123456789abcdef0123456789abcdef01234567",
    "7f3a9c1e-4b2d-4c8e-9f1a-2b3c4d5e6f70",
    "tests/test_api.py::test_login[token-3]",
    "AssertionError: expected 200, got 500",
    "unexpected token at line 3, column 7",
    "risk-assessment-of-the-whole",
    "see https://example.com/path?page=2",
    "2 passed in 0.31s",
    "@pytest.mark.anyio",
    "",
]


class Own(Event):
    """A user's event, whose fields may hold anything."""

    text: str = ""
    inner: dict[str, object] = msgspec.field(default_factory=dict)


def of_every_field(secret: str) -> list[Event]:
    return [
        NodeCompleted(
            session_id="s-1",
            workflow_id=secret,
            run_id=secret,
            node_id=f"at {secret}",
            error_type=secret,
            error_message=f"failed: {secret} was refused",
            metadata={"a": [secret, {"b": f"<{secret}>"}], secret: 1},
        ),
        NodeProgress(session_id="s-1", workflow_id="w", node_id="n", message=secret),
        SkillCompleted(
            session_id="s-1", skill_name=secret, workflow_path=secret, follow_up_actions=(f"run {secret}",)
        ),
        Own(session_id="s-1", text=secret, inner={secret: {"deep": [secret]}}),
        UnknownEvent(session_id="s-1", unknown_type="of_tomorrow", fields={"what": secret}),
    ]


def found_in(text: str) -> list[str]:
    return [each for each in FRAGMENTS if each in text]


@pytest.mark.parametrize("kind", SECRETS)
def test_a_planted_secret_is_found(kind: str) -> None:
    """Every known kind of secret is removed from a text, and the rest of the text stays."""
    scrubbed = scrub(f"before {SECRETS[kind]}")
    assert scrubbed.startswith("before ")
    assert not found_in(scrubbed)


def direct(text: str) -> str:
    """Scrub as the rules are meant: each pattern tried at every position, in one search."""
    if len(text) > scrubbing._MAX_LENGTH:
        text = text[: scrubbing._MAX_LENGTH] + "…[truncated]"
    value, word = scrubbing._VALUE, scrubbing._SENSITIVE_WORD
    option = rf"(?<!-)--(?!-)[\w-]{{0,40}}{word}\s{{1,3}}"
    homes = "|".join([*map(re.escape, scrubbing._own_home()), scrubbing._HOME_OF_ANY])
    beginnings = [re.escape(literal) + rest for literal, rest in secret_shapes._SHAPES.items()]
    inner = [pattern for pattern, _ in secret_shapes._INNER.values()]
    inner += [pattern for pattern, _, _ in secret_shapes._INNER_UNNAMED.values()]
    rules: list[tuple[str, str, re.RegexFlag]] = [
        (rf"(?<![\w.~-])(?:{homes})(?![\w-])", "~", re.NOFLAG),
        (
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
            "***",
            re.DOTALL,
        ),
        (r"(?<=://)[^\s/@\"'<>]{1,1024}@", "***@", re.NOFLAG),
        (r"[\w.%+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}", "***", re.NOFLAG),
        (
            rf"(\b(?:proxy-)?authorization[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']?)(?:\w{{1,20}}\s{{1,3}})?{value}",
            r"\1***",
            re.IGNORECASE,
        ),
        (
            rf"({word}[\w-]{{0,40}}[\"']?\s{{0,3}}(?:=>|[=:])\s{{0,3}}|{option}){value}",
            r"\1***",
            re.IGNORECASE,
        ),
        (r"(\b[Bb]earer\s{1,3})[\w.~+/=-]{8,}", r"\1***", re.NOFLAG),
        (rf"(?<![^\W_])(?:{'|'.join([*beginnings, *inner])})", "***", re.ASCII),
    ]
    for pattern, replacement, flags in rules:
        text = re.sub(pattern, replacement, text, flags=flags)
    return text


WORDS = """
    password PASSWD passphrase pwd Secret token credential authorization Cookie api access auth key api_key
    proxy- Authorization Bearer bearer = : => -- - --- _ ' " ; , & / \\ :// @ . hunter2 jo /home/ /Users/
    C:\\Users\\ x.y http://user:pw@ jo@x.org -----BEGIN PRIVATE KEY----- -----END RSA é 0123456789 -us12
    a1B2a1B2a1B2a1B2a1B2 0123456789abcdef0123456789abcdef
"""
PIECES = [
    *WORDS.split(),
    *(" ", "  ", "\n", "to\N{KELVIN SIGN}en", "ap\N{LATIN SMALL LETTER DOTLESS I}_key"),
    *("\N{LATIN SMALL LETTER LONG S}ecret", "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}"),
    *(*secret_shapes._SHAPES, *secret_shapes._INNER, *SECRETS.values()),
]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=12).map("".join)


@given(texts)
def test_it_finds_what_the_direct_way_finds(text: str) -> None:
    """Looking for literals first finds what each pattern finds that is tried at every position."""
    assert scrub(text) == direct(text)


@given(texts)
def test_a_text_that_is_clean_at_a_glance_holds_no_secret(text: str) -> None:
    """A text that is clean at a glance has nothing to be removed."""
    assert not is_clean(text) or direct(text) == text


@settings(max_examples=50)
@given(st.lists(texts, min_size=1, max_size=12), st.booleans())
def test_a_batch_is_searched_as_its_texts_are(some: list[str], in_metadata: bool) -> None:
    """Texts that are searched together are scrubbed as each is alone, in a field and in the metadata."""
    redaction._known.clear()
    events = [
        NodeProgress(workflow_id="w", node_id="n", metadata={"said": text, "of": 1})
        if in_metadata
        else NodeProgress(workflow_id="w", node_id="n", message=text)
        for text in some
    ]
    records = map(msgspec.json.decode, scrubbed_lines(events).splitlines())
    said = [each["metadata"]["said"] if in_metadata else each["message"] for each in records]
    assert said == [direct(text) for text in some]


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_across_the_pieces_of_a_text(kind: str) -> None:
    """A long text is searched in pieces, and a secret is found wherever one piece ends in it."""
    border, secret = secret_shapes._PIECE, SECRETS[kind]
    for start in range(border - len(secret) - 1, border + 2):
        assert not is_clean(" " * start + secret + " x" * 20)
    assert not found_in(scrub(" " * (border - 4) + secret + " x" * 20))


HOSTILE = ["7", "_", "-", ".", "@", "k", "é", '\\"', ":AA", "eyJa.", "password=", "token ", "/home/"]
SIZES = [20_000, pytest.param(65_000, marks=pytest.mark.nightly)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", HOSTILE)
def test_no_search_holds_the_interpreter(text: str, size: int) -> None:
    """No call in a search, which keeps the interpreter's lock, takes longer than 2 ms, for any text."""
    whole = f"{SECRETS['discord']} " + text * (size // len(text))
    for attempt in attempts():
        with attempt:
            taken = max(_longest_call(is_clean, whole[-size:]), _longest_call(scrub, whole))
            if taken > 0.002 * SLOW:
                raise TooSlowError(f"{taken:.4f} s")


SLOW = 2
"""How much slower than an idle machine a busy one may be."""


def _longest_call(search: Callable[[str], object], text: str) -> float:
    """Return the processor time of the longest call of a built-in function, in seconds."""
    began, longest = 0.0, 0.0

    def note(_: FrameType, what: str, __: object) -> None:
        nonlocal began, longest
        if what == "c_call":
            began = time.thread_time()
        elif what == "c_return":
            longest = max(longest, time.thread_time() - began)

    scrub(text[:1_000])  # compiles the patterns
    previous = sys.getprofile()
    sys.setprofile(note)
    try:
        search(text)
    finally:
        sys.setprofile(previous)
    return longest


@pytest.mark.parametrize("text", INNOCENT)
def test_an_innocent_text_stays(text: str) -> None:
    """Names, ids, paths and messages without secrets stay unchanged."""
    assert scrub(text) == text


def test_the_home_directory_becomes_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    """This user's home directory is found anywhere, but not in a longer path with the same beginning."""
    monkeypatch.setenv("HOME", "/srv/people/jo")
    monkeypatch.setattr(scrubbing, "_own_home", scrubbing._own_home.__wrapped__)
    assert (
        scrub("in /srv/people/jo/x, /srv/people/joan and /srv/people/jo") == "in ~/x, /srv/people/joan and ~"
    )


@pytest.mark.parametrize("many", [1, 40])
@pytest.mark.parametrize("kind", SECRETS)
def test_no_field_lets_a_secret_out(kind: str, many: int) -> None:
    """A secret in any field of any event is not in its line, alone or in a batch."""
    innocent: list[Event] = [
        NodeProgress(session_id="s-1", workflow_id="w", node_id=f"n{i}") for i in range(many)
    ]
    events = [*innocent, *of_every_field(SECRETS[kind]), *innocent]
    lines = scrubbed_lines(events)
    assert lines == b"".join([scrubbed_line(event) + b"\n" for event in events])
    assert lines.count(b"\n") == len(events)
    for line in lines.splitlines():
        assert not found_in(line.decode())
        fields = msgspec.json.decode(line)
        assert fields["session_id"] == "s-1"
        assert next(iter(fields)) == "event_type"


@pytest.mark.parametrize("many", [1, 40])
def test_a_session_survives_whatever_it_looks_like(many: int) -> None:
    """The session id, which joins events, is not scrubbed."""
    event = NodeProgress(
        session_id="joe@example.com", workflow_id="w", node_id="n", message="to joe@example.com"
    )
    for line in scrubbed_lines([event] * many).splitlines():
        fields = msgspec.json.decode(line)
        assert (fields["session_id"], fields["message"]) == ("joe@example.com", "to ***")


def test_a_clean_event_is_encoded_unchanged() -> None:
    """Without secrets a line is the same as by `encode`, the first time and later."""
    events = [
        NodeCompleted(workflow_id="w", node_id=text or "n", error_message=text, metadata={"said": text})
        for text in INNOCENT
    ] * 4
    assert scrubbed_lines(events) == scrubbed_lines(events) == encode_lines(events)


def test_a_text_under_a_secret_name_is_hidden() -> None:
    """A text under a name such as `password` is removed, whatever it looks like; a number is not."""
    event = Own(inner={"db_password": "x", "tokens": 512, "Authorization": "y", "password": ""})
    assert msgspec.json.decode(scrubbed_line(event))["inner"] == {
        "db_password": "***",
        "tokens": 512,
        "Authorization": "***",
        "password": "",
    }


@pytest.mark.parametrize(
    "text",
    ["a", "a@", "://", "-----BEGIN ", "/home/", "token ", "eyJa.", "--", "password=", "Bearer ", "a.b@c.d."],
)
def test_the_time_is_proportional_to_the_length(text: str) -> None:
    """For any text the search takes time proportional to its length."""
    scrub("warm")
    began = time.process_time()
    scrub(text * (1_000_000 // len(text)))
    assert time.process_time() - began < 0.25


def test_no_secret_reaches_the_log(tmp_path: Path) -> None:
    """With every secret in every field, every event is in the log and no secret is."""
    with EventBus([JsonPersister(tmp_path)]) as bus:
        for secret in SECRETS.values():
            for event in of_every_field(secret):
                bus.publish(event)
    (segment,) = (tmp_path / "events").iterdir()
    content = segment.read_text()
    assert not found_in(content)
    assert content.count('"s-1"') == 5 * len(SECRETS)


def test_an_ordinary_event_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of known names is not searched."""
    event = NodeCompleted(workflow_id="w", node_id="n", run_id="r")
    scrubbed_line(event)
    monkeypatch.setattr("eventbus.events.redaction.scrub_value", None)
    assert scrubbed_line(event) == encode(event)


@pytest.mark.parametrize("kind", SECRETS)
def test_no_secret_is_shown_or_logged(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The output of the console and the event logger is scrubbed, except for the session."""
    secret = SECRETS[kind]
    events = [msgspec.structs.replace(event, session_id="jo@x.org") for event in of_every_field(secret)]
    out = {mode: io.StringIO() for mode in ("plain", "json")}
    shows = [ConsoleProgress(mode=cast("Any", mode), stream=stream) for mode, stream in out.items()]
    with caplog.at_level("INFO"), EventBus([EventLogger(), *shows]) as bus:
        for event in events:
            bus.publish(event)
    for text in (*(stream.getvalue() for stream in out.values()), caplog.text):
        assert "jo@x.org" in text
        assert not found_in(text)


@pytest.mark.parametrize("many", [1, 40])
def test_a_field_of_the_wrong_type_is_searched(many: int) -> None:
    """An event with a field of the wrong type is encoded and scrubbed, too."""

    class Refusing:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("hands off")

        __hash__ = None  # type: ignore[assignment]

    events = [
        NodeProgress(workflow_id=cast("Any", ["joe@bloggs.org"]), node_id="n"),
        NodeProgress(workflow_id="w", node_id=cast("Any", Refusing())),
        Own(inner=cast("Any", Refusing())),
    ] * many
    lines = scrubbed_lines(events)
    assert lines.count(b"\n") == 3 * many
    assert not found_in(lines.decode())


class Verdict(msgspec.Struct):
    """What a user's field may hold: an object with a truth of its own."""

    said: str

    def __bool__(self) -> bool:
        return False


@pytest.mark.parametrize("many", [1, 40])
def test_a_value_that_calls_itself_false_is_searched(many: int) -> None:
    """A secret is found in a value that is false, like an empty collection, and yet holds a text."""
    lines = scrubbed_lines([Own(inner=cast("Any", Verdict("joe@bloggs.org")))] * many)
    assert lines.count(b"\n") == many
    assert not found_in(lines.decode())


@pytest.mark.parametrize("many", [1, 40])
def test_a_text_kept_as_a_session_is_scrubbed_in_other_fields(many: int) -> None:
    """A text that was kept as a session is still scrubbed in every other field."""
    secret = f"bloggs{many}@example.org"
    scrubbed_line(NodeProgress(session_id=secret, workflow_id="w", node_id="n"))
    for line in scrubbed_lines(
        [NodeProgress(session_id=None, workflow_id=secret, node_id="n")] * many
    ).splitlines():
        assert secret.encode() not in line


# Texts that need no search: known ones, and invocation ids of our own.


class Searches:
    """Counts the texts and the whole events that are searched for secrets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        self.events = 0
        monkeypatch.setattr(redaction, "is_clean", self._count_text)
        monkeypatch.setattr(redaction, "scrub_value", self._count_value)

    def _count_text(self, text: str) -> bool:
        self.texts += text.split("|")
        return is_clean(text)

    def _count_value(self, value: Any) -> Any:
        self.events += next(iter(value)) == "metadata"
        return scrub_value(value)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Searches:
    for event in (
        NodeCompleted(workflow_id="w", node_id="n"),
        NodeProgress(workflow_id="w", node_id="n"),
        SkillStarted(skill_name="run"),
    ):
        scrubbed_line(event)  # the field names of a class are searched once, at its first event
    redaction._known.clear()
    return Searches(monkeypatch)


@given(st.text("0123456789abcdef", min_size=12, max_size=12))
def test_an_id_of_our_own_contains_nothing_that_is_recognised(text: str) -> None:
    """12 lower-case hexadecimal digits never contain a recognised secret."""
    assert scrub(text) == text


@pytest.mark.parametrize("many", [1, 40])
def test_an_invocation_id_of_our_own_is_not_searched_or_remembered(many: int, searches: Searches) -> None:
    """An invocation id of 12 hexadecimal digits is neither searched nor remembered."""
    for _ in range(3):
        events = [SkillStarted(skill_name="run", invocation_id=new_id()) for _ in range(many)]
        assert scrubbed_lines(events) == encode_lines(events)
    assert searches.texts == ["run"]
    assert searches.events == 0
    assert redaction._known == {"run"}


@pytest.mark.parametrize("many", [1, 40])
@pytest.mark.parametrize(
    "text",
    [
        "0123456789a",
        "0123456789abc",
        "0123456789ab0123456789ab",
        "0123456789AB",
        "0123456789ag",
        "0123456789ab\n",
        "\N{ARABIC-INDIC DIGIT ONE}123456789ab",
        "",
    ],
)
def test_an_invocation_id_of_any_other_shape_is_searched(text: str, many: int, searches: Searches) -> None:
    """An invocation id with a digit more or less, a capital letter or a line feed is searched."""
    scrubbed_lines([SkillStarted(skill_name="run", invocation_id=text)] * many)
    assert sorted(searches.texts) == sorted(["run", text])


@pytest.mark.parametrize("many", [1, 40])
@pytest.mark.parametrize("kind", SECRETS)
def test_no_secret_passes_beside_an_id_of_our_own(kind: str, many: int) -> None:
    """A secret in an invocation id is found before and after 12 hexadecimal digits, too."""
    for text in (f"{new_id()} {SECRETS[kind]}", f"{SECRETS[kind]}\n{new_id()}"):
        lines = scrubbed_lines([SkillStarted(skill_name="run", invocation_id=text)] * many)
        assert not found_in(lines.decode())


@pytest.mark.parametrize("many", [1, 40])
def test_a_text_of_hexadecimal_digits_in_another_field_is_searched(many: int, searches: Searches) -> None:
    """12 hexadecimal digits in a name or a message are searched like any text."""
    text = new_id()
    events = [
        NodeCompleted(workflow_id="w", node_id="n", error_message=text),
        SkillStarted(skill_name="run", workflow_path=text, invocation_id=text),
    ]
    scrubbed_lines(events * many)
    assert text in searches.texts


@pytest.mark.parametrize("run_id", ["0123456789ab", "7f3a9c1e-4b2d-4c8e-9f1a-2b3c4d5e6f70"])
def test_a_new_run_is_searched_once_for_a_whole_batch(run_id: str, searches: Searches) -> None:
    """In a batch with a new run the run's id is searched, once, and no whole event is."""
    events = [NodeCompleted(workflow_id="w", node_id="n", run_id=run_id) for _ in range(256)]
    assert scrubbed_lines(events) == encode_lines(events)
    assert sorted(searches.texts) == sorted(["w", "n", run_id])
    assert searches.events == 0


def test_only_the_events_with_a_secret_are_searched_whole(searches: Searches) -> None:
    """In a batch with new names and secrets, only the events with a secret are searched whole."""
    events = [
        NodeProgress(
            workflow_id="w", node_id="n", message=f"to joe{n}@example.org" if n % 8 == 0 else f"m{n}"
        )
        for n in range(64)
    ]
    lines = scrubbed_lines(events)
    assert not found_in(lines.decode())
    assert searches.events == 8


def test_a_known_text_is_hidden_under_a_secret_name() -> None:
    """A text known to be clean as a name is removed from a field called `api_key`."""

    class Deployed(Event):
        api_key: str

    scrubbed_line(NodeCompleted(workflow_id="hunter2", node_id="n"))
    for many in (1, 40):
        assert b"hunter2" not in scrubbed_lines([Deployed(api_key="hunter2")] * many)


@pytest.mark.parametrize("event", [NodeCompleted(workflow_id="w", node_id="n"), Own(inner={"a": "b"})])
def test_an_event_is_size_checked_once(event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of an event is estimated once per line."""
    checked: list[Event] = []

    def counting(event: Event) -> bool:
        checked.append(event)
        return is_oversized(event)

    for module in (codec, redaction):
        monkeypatch.setattr(module, "is_oversized", counting)
    scrubbed_line(event)
    assert checked == [event]
