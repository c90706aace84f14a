"""A record as a message, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from eventbus_subscribers import JsonPersister

from eventbus import EventBus, NodeCompleted, decode
from eventbus.history import EventLog
from eventbus.remote.wire import RecordId, line_of, payload_of


def test_lines_come_back(tmp_path: Path) -> None:
    """A payload is the event's own JSON object, and with the number of its id the line of the log again."""
    with EventBus([JsonPersister(tmp_path)]) as bus:
        for n in range(12):
            bus.publish(
                NodeCompleted(session_id="é", workflow_id="ci", node_id=f'"{n}"', metadata={"a": [n]})
            )
    records = list(EventLog(tmp_path).records())
    assert len(records) == 12
    for record in records:
        found = RecordId.parsed(str(RecordId.of(record)))
        assert (found.bus_id, found.pid, found.seq) == (bus.id, record.pid, record.seq)
        assert decode(payload_of(record.line)) == record.event
        assert line_of(payload_of(record.line), found.seq) == record.line


def test_lines_of_others() -> None:
    """A line that another program has written is shipped, too; its blanks need not come back."""
    payload = payload_of(b' { "seq" : 7 , "event_type":"event"}')
    assert payload == b'{"event_type":"event"}'
    assert line_of(payload, 7) == b'{"seq":7,"event_type":"event"}'


@pytest.mark.parametrize(
    "text", ["", "a-1", "a-1-x", "a-1-2-3", "a b-1-2", "a-1-" + "9" * 19, "é-1-2", "a-1-2\n"]
)
def test_ids_that_name_nothing(text: str) -> None:
    """A text that is not an id is an error."""
    with pytest.raises(ValueError, match="is not the id of a record"):
        RecordId.parsed(text)
