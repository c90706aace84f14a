"""`eventbus schema` prints a JSON Schema that every line of `eventbus cat` validates against."""

from __future__ import annotations

import gc
import json
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import pytest
from eventbus_subscribers import JsonPersister

from eventbus import Event, EventBus, NodeCompleted, encode, event_types
from eventbus.cli.schema_command import line_schema
from eventbus.events.event import classes_by_wire_name
from tests.history.log_examples import START, append, header, segment_path, stored
from tests.history.test_golden import GOLDEN

_REASON = "SKIPPED: jsonschema is not installed: the printed lines are not validated"
Validator: Any = pytest.importorskip("jsonschema", reason=_REASON).Draft202012Validator
Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"

OTHERS = [
    b'{"seq":1,"event_type":"of_another_program","target":"prod","n":1}',
    b'{"event_type":"unknown_event"}',
    b'{"seq":3,"event_type":"node_completed","node":"of an older version","session_id":null}',
    b'{"seq":4,"event_type":"node_completed","workflow_id":1,"node_id":[],"metadata":{"a":[1,{}]}}',
    # A record as others write it, without an attempt, a number and a zone.
    b'{"event_type":"node_started","workflow_id":"w","node_id":"n","timestamp":"2026-01-02T03:04:05"}',
    b'{"seq":"five","event_type":"event"}',
    b'{ "seq" : 6 , "event_type" : "event", "timestamp":"2026-01-02T03:04:05+02:00" }',
    b'{"seq":7,"event_type":"segment_started"}',
    rb'{"seq":8,"event_type":"event","session_id":"s-\\udcfc"}',
]
NOT_LINES = [
    "[]", "1", "{}", '{"seq":1}', '{"event_type":1}', '{"event_type":"event","session_id":1}',
    '{"event_type":"event","metadata":[]}', '{"event_type":"event","timestamp":5}',
]  # fmt: skip


@pytest.fixture(scope="module")
def lines() -> Any:
    """Return the validator of the schema for all types."""
    classes = [each for of_name in classes_by_wire_name().values() for each in of_name]
    return Validator(line_schema(classes))


def printed(cli: Program, directory: Path) -> list[Any]:
    ended = cli("cat", "--dir", directory)
    assert (ended.returncode, ended.stderr) == (0, "")
    return list(map(json.loads, ended.stdout.split("\n")[:-1]))


def test_it_is_a_schema_with_every_event_class(cli: Program) -> None:
    """The schema is valid, of the dialect 2020-12, and has a definition for each event class."""
    schema = json.loads(cli("schema").stdout)
    Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    built_in = {each.__name__ for each in event_types().values() if each.__module__.startswith("eventbus.")}
    assert built_in - {"UnknownEvent"} <= {*schema["$defs"]}
    assert schema["$defs"]["NodeCompleted"]["required"] == ["event_type", "workflow_id", "node_id"]
    assert schema["$defs"]["NodeCompleted"]["description"].splitlines()[0] == "An attempt at a node ended."


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.jsonl")), ids=lambda file: file.stem)
def test_golden_logs_validate(cli: Program, lines: Any, tmp_path: Path, file: Path) -> None:
    """Every line of a golden log validates, as printed and as stored, and against its own class."""
    append(segment_path(tmp_path), file.read_bytes())
    for line in file.read_bytes().splitlines():
        lines.validate(json.loads(line))
    found = printed(cli, tmp_path)
    assert len(found) > 15
    known = event_types()
    for line in found:
        lines.validate(line)
        if line["event_type"] in known:
            Validator(line_schema([known[line["event_type"]]])).validate(line)


def test_what_is_unknown_validates(cli: Program, lines: Any, tmp_path: Path) -> None:
    """Unknown types, other versions of known ones, records of other programs and odd numbers validate."""
    append(segment_path(tmp_path), header(), *(each + b"\n" for each in OTHERS))
    found = printed(cli, tmp_path)
    assert len(found) == len(OTHERS)
    for line in found:
        lines.validate(line)


def test_what_the_persister_writes_validates(cli: Program, lines: Any, tmp_path: Path) -> None:
    """Lines with replaced, truncated and redacted values validate, and the header of their segment."""
    hostile: dict[str, Any] = {"x": b"\xff", "y": float("nan"), "z": {1, 2}, "token": "ghp_" + "a" * 36}
    with EventBus([JsonPersister(tmp_path)]) as bus:
        bus.publish(NodeCompleted(workflow_id="w", node_id="n", metadata=hostile, session_id="s-\udcfc"))
        bus.publish(NodeCompleted(workflow_id="w" * 100_000, node_id="n", duration_seconds=1.5))
    for line in printed(cli, tmp_path):
        lines.validate(line)
    (segment,) = (tmp_path / "events").glob("*.jsonl")
    first, *_ = segment.read_bytes().splitlines()
    of_header: dict[str, Any] = {
        **line_schema([Event, NodeCompleted]),
        "anyOf": [{"$ref": "#/$defs/segment_started"}],
    }
    Validator(of_header).validate(json.loads(first))
    assert {*json.loads(first)} == {*of_header["$defs"]["segment_started"]["properties"]}


@pytest.mark.parametrize("line", NOT_LINES)
def test_what_is_not_an_event_does_not_validate(lines: Any, line: str) -> None:
    """What no event can be is refused: another value than an object, no type, base fields of other types."""
    assert not lines.is_valid(json.loads(line))


def test_one_type_is_strict(cli: Program) -> None:
    """`eventbus schema TYPE` takes a wire name or a class name, and allows lines of that type only."""
    by_name, by_class = (cli("schema", each).stdout for each in ("node_completed", "NodeCompleted"))
    assert by_name == by_class
    of_type = Validator(json.loads(by_name))
    line = json.loads(stored(1, NodeCompleted(workflow_id="w", node_id="n")))
    assert of_type.is_valid(line)
    wrong = {"event_type": "node_started"}, {"status": "odd"}, {"duration_seconds": "1"}, {"attempt": "2"}
    assert not any(of_type.is_valid(line | each) for each in wrong)
    assert not of_type.is_valid({key: value for key, value in line.items() if key != "node_id"})


def test_an_unknown_type_is_not_found(cli: Program) -> None:
    """A type that does not exist is an error with exit code 3, which names the nearest one."""
    ended = cli("schema", "node_complete")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.endswith("hint: did you mean node_completed?\n")
    assert "jq" in cli("schema", "zzz").stderr


def test_classes_of_others_are_in_it() -> None:
    """Classes of one name, limits of fields, and fields that have no schema spoil nothing."""

    class Deployed(Event, tag="deployed_in_test"):
        target: str
        replicas: Annotated[int, msgspec.Meta(ge=1)] = 1

    class Library:
        class Deployed(Event, tag="deployed_in_test"):
            at: datetime = START

    class Odd(Event, tag="odd_in_test"):
        value: complex = 1j

    classes: list[type[Event]] = [Deployed, Library.Deployed, Odd]
    found = Validator(line_schema(classes))
    Validator.check_schema(found.schema)
    for event in (Deployed(target="x"), Library.Deployed(), Event()):
        found.validate(json.loads(encode(event)))
    strict = Validator(line_schema([Deployed]))
    assert not strict.is_valid(json.loads(encode(Deployed(target="x", replicas=0))))
    Validator(line_schema([Odd])).validate({"event_type": "odd_in_test"})
    del Deployed, Library, Odd, classes, event
    gc.collect()  # event classes are found as long as they exist
