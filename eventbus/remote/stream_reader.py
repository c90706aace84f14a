"""Read the stream in its order, with a consumer of our own that acknowledges nothing.

One connection is one attempt, which begins behind the last message that was taken. Rejected: nats-py's
ordered consumer, which is slower by a third; a durable consumer, which is state at the server for each
reader, and which a stream that was set back does not know of.
"""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from eventbus.errors import RemoteError
from eventbus.remote.connection import connect, jetstream, remote_error
from eventbus.remote.pauses import Pauses
from eventbus.remote.stream import StreamState, stream_state
from eventbus.remote.wire import HOST_HEADER, ID_HEADER, LEFT_OUT_HEADER, RecordId

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from eventbus.remote.remote_settings import RemoteSettings

__all__ = ["Batch", "Message", "StreamPosition", "StreamReader"]

_BATCH = 500
_MAX_PAYLOAD = 96 * 1024
"""More than any event takes."""
_MAX_BYTES = 8 * 1024 * 1024
"""Of one request: a batch of the largest events would be four times that."""
_REQUEST_SECONDS = 5.0
_FORGET_SECONDS = 300.0
"""The server forgets the consumer of a reader that is gone, or whose user was busy for longer."""
_COUNT = re.compile(r"\d{1,9}", re.ASCII)
_ENDED = ("404", "408")
_ENDED_REASON = re.compile("MaxBytes|Batch Completed", re.IGNORECASE)  # other 409s end the consumer


class StreamPosition(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the stream.

    Attributes:
        created: When the stream was made: another one has other messages under the same numbers.
        seq: The number of the last message that was taken; 0 at the beginning.
        message_id: That message's id, which shows that the stream was not set back; empty if unknown.
    """

    created: datetime
    seq: int = 0
    message_id: str = ""


class Message(msgspec.Struct, frozen=True, gc=False):
    """A record in the stream.

    Attributes:
        seq: Its number in the stream.
        record: What names the record.
        payload: The event.
        host: The name of the host that shipped it, as that host says; empty if it does not.
        left_out: How many records of its writer directly before it are not shipped.
    """

    seq: int
    record: RecordId
    payload: bytes
    host: str = ""
    left_out: int = 0


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive messages.

    Attributes:
        messages: Those that can be read.
        before: The position before them.
        position: The position behind them.
        unreadable: How many more there were: not messages of ours.
    """

    messages: list[Message]
    before: StreamPosition
    position: StreamPosition
    unreadable: int = 0


class StreamReader:
    """Reads the messages of some subjects; all of it runs in a `NatsLoop`.

    Args:
        settings: The server.
        filters: The subjects.
        take: Called with each batch, and waited for: meanwhile at most two more are on their way.
        begin_again: Called when the stream lacks the position: it was made again, or set back. Reading
            begins again at its beginning.

    Attributes:
        position: Behind the last batch that was taken; None to begin at the beginning.
        connections: How many connections were made.
    """

    def __init__(
        self,
        settings: RemoteSettings,
        filters: Sequence[str],
        take: Callable[[Batch], Awaitable[None]],
        begin_again: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._filters = list(filters)
        self._take = take
        self._begin_again = begin_again
        self.position: StreamPosition | None = None
        self.connections: int = 0

    async def begin_at_end(self) -> None:
        """Set the position behind what the stream has now.

        Raises:
            RemoteError: The server cannot be reached, or there is no stream.
        """
        async with connect(self._settings) as nats:
            state = await stream_state(nats, self._settings)
        self.position = StreamPosition(created=state.created, seq=state.last_seq)

    async def read_on(self, warn: Callable[[RemoteError], None], on_reading: Callable[[], None]) -> None:
        """Read for ever; a connection that is lost is made again."""
        pauses = Pauses()
        while True:
            before = self.position
            try:
                await self.attempt(on_reading)
            except RemoteError as error:
                warn(error)
            await pauses.wait(has_progressed=self.position != before)

    async def attempt(self, on_reading: Callable[[], None] | None = None, *, to_end: bool = False) -> None:
        """Read over one connection until it is lost.

        Args:
            on_reading: Called once what comes from here on will be read.
            to_end: Return at the end of what the stream has.

        Raises:
            RemoteError: Why it was lost, or could not be made.
        """
        arrivals = _Arrivals()
        async with connect(self._settings, on_lost=arrivals.note_loss) as nats:
            self.connections += 1
            state = await stream_state(nats, self._settings)
            position, is_checked = self._start(state)
            attempt = _Attempt(nats, self._settings, self._filters, arrivals, position, is_checked=is_checked)
            pending = await attempt.begin()
            if on_reading is not None:
                on_reading()
            is_there = bool(pending) or not attempt.is_checked
            while is_there and (pending or not to_end):
                batch, pending = await attempt.next_batch()
                is_there = batch is not None
                if batch is not None and (batch.messages or batch.unreadable):
                    await self._take(batch)
                    self.position = batch.position
            if is_there:
                return
            self._begin_anew(state)
        if to_end:
            await self.attempt(on_reading, to_end=True)

    def _start(self, state: StreamState) -> tuple[StreamPosition, bool]:
        """Return the position to begin at, and whether the message there is to be compared."""
        position = self.position
        if position is None:
            position = self.position = StreamPosition(created=state.created)
        elif position.created != state.created or position.seq > state.last_seq:
            position = self._begin_anew(state)
        return position, bool(position.message_id) and position.seq >= state.first_seq

    def _begin_anew(self, state: StreamState) -> StreamPosition:
        self.position = StreamPosition(created=state.created)
        self._begin_again()
        return self.position


class _Arrivals:
    """The messages that have arrived and are not read yet."""

    def __init__(self) -> None:
        self._messages: list[Msg] = []
        self._something = anyio.Event()
        self.is_lost = False

    async def add(self, message: Msg) -> None:
        self._messages.append(message)
        self._something.set()

    def note_loss(self) -> None:
        self.is_lost = True
        self._something.set()

    async def take(self) -> list[Msg]:
        """Return what has arrived, as soon as something has; nothing if the connection is lost."""
        if not self._messages and not self.is_lost:
            self._something = anyio.Event()
            await self._something.wait()
        messages, self._messages = self._messages, []
        return messages


class _Attempt:
    """A consumer of one connection."""

    def __init__(
        self,
        nats: Client,
        settings: RemoteSettings,
        filters: list[str],
        arrivals: _Arrivals,
        position: StreamPosition,
        *,
        is_checked: bool,
    ) -> None:
        self._nats: Any = nats  # nats-py's annotations are incomplete
        self._settings = settings
        self._filters = filters
        self._arrivals = arrivals
        self._position = position
        self.is_checked = is_checked
        self._inbox = nats.new_inbox()
        self._requests = ""
        self._wanted = 0  # by requests that have not ended
        self._delivered = 0
        self._pending = 0

    async def begin(self) -> int:
        """Make the consumer; return how many messages it has for us."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy  # noqa: PLC0415 - an extra

        name = f"eventbus-{random.getrandbits(64):016x}"
        config = ConsumerConfig(
            name=name,
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=max(1, self._position.seq + (not self.is_checked)),
            mem_storage=True,
            inactive_threshold=_FORGET_SECONDS,
            filter_subject=self._filters[0] if len(self._filters) == 1 else None,
            filter_subjects=self._filters if len(self._filters) > 1 else None,
        )
        stream = self._settings.stream
        try:
            await self._nats.subscribe(self._inbox, cb=self._arrivals.add)
            info = await jetstream(self._nats, self._settings).add_consumer(stream, config)
        except Exception as error:
            raise remote_error(self._settings, f"cannot read the stream {stream} at", error) from error
        self._requests = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
        self._pending = info.num_pending or 0
        return self._pending

    async def next_batch(self) -> tuple[Batch | None, int]:
        """Return the next messages, and how many are behind them; None if the stream was set back."""
        await self._request()
        arrived: list[Msg] = []
        with anyio.move_on_after(_REQUEST_SECONDS + self._settings.ack_seconds):
            arrived = await self._arrivals.take()
        if not arrived:
            reason = "it was closed" if self._arrivals.is_lost else "the server does not answer"
            raise self._lost(reason)
        before, messages, unreadable = self._position, list[Message](), 0
        for each in arrived:
            if each.subject == self._inbox:
                self._note_status(each)
                continue
            seq = self._number(each)
            headers = each.headers or {}
            message_id = headers.get(ID_HEADER, "")
            if self.is_checked:
                if (seq, message_id) != (before.seq, before.message_id):
                    return None, 0
                self.is_checked = False
                continue
            self._position = StreamPosition(created=before.created, seq=seq, message_id=message_id)
            message = _message(seq, message_id, headers, each.data)
            if message is None:
                unreadable += 1
            else:
                messages.append(message)
        batch = Batch(messages=messages, before=before, position=self._position, unreadable=unreadable)
        return batch, self._pending

    async def _request(self) -> None:
        if self._wanted > _BATCH // 2:
            return
        self._wanted += _BATCH
        request = {"batch": _BATCH, "max_bytes": _MAX_BYTES, "expires": int(_REQUEST_SECONDS * 1e9)}
        try:
            await self._nats.publish(self._requests, msgspec.json.encode(request), reply=self._inbox)
        except Exception as error:
            raise self._lost(str(error)) from error

    def _note_status(self, message: Msg) -> None:
        """Note that a request has ended, by its time or its size."""
        headers = message.headers or {}
        status, reason = headers.get("Status", ""), headers.get("Description", "")
        if status not in _ENDED and not _ENDED_REASON.search(reason):
            raise self._lost(reason or "it has no such stream any more")
        left = headers.get("Nats-Pending-Messages", "")
        self._wanted -= int(left) if _COUNT.fullmatch(left) else self._wanted

    def _number(self, message: Msg) -> int:
        """Return a message's number in the stream; raise RemoteError if one before it is missing."""
        # $JS.ACK.<stream>.<consumer>.<times>.<in stream>.<delivered>.<time>.<pending>, or two parts more.
        # Not `Msg.metadata`, which takes a fourteenth of all reading.
        parts = message.reply.split(".")
        shift = 0 if len(parts) == 9 else 2  # noqa: PLR2004
        seq, delivered, self._pending = int(parts[5 + shift]), int(parts[6 + shift]), int(parts[8 + shift])
        self._wanted -= 1
        if delivered != self._delivered + 1:
            raise self._lost("a message is missing")
        self._delivered = delivered
        return seq

    def _lost(self, reason: str) -> RemoteError:
        return remote_error(self._settings, "lost the connection to", Exception(reason))


def _message(seq: int, message_id: str, headers: dict[str, str], payload: bytes) -> Message | None:
    try:
        record = RecordId.parsed(message_id)
    except ValueError:
        return None
    if not payload.startswith(b"{") or b"\n" in payload or len(payload) > _MAX_PAYLOAD:
        return None
    left_out = headers.get(LEFT_OUT_HEADER, "")
    count = int(left_out) if _COUNT.fullmatch(left_out) else 0
    return Message(seq, record, payload, headers.get(HOST_HEADER, ""), count)
