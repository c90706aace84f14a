"""Ship messages in order, with acknowledgements of our own.

One connection is one ordered attempt. When it is lost, when the server refuses a message, and when no
acknowledgement comes, a new connection sends everything that was not acknowledged again, in order, before
anything new. Rejected: nats-py's `publish_async` with its reconnect, which loses what was in the dead socket,
sends what was in its buffer behind that gap, and never gives the lost ones' slots back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from eventbus.errors import RemoteError
from eventbus.remote.connection import connect, remote_error

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from eventbus.remote.remote_settings import RemoteSettings

__all__ = ["Shipment", "Shipper", "StreamReplacedError"]

_TICK_SECONDS = 0.1
_CHECK_SECONDS = 60.0
_HEADER_BYTES = 512
"""More than our headers take, which count in the server's limit."""
_MAX_BYTES = 8 * 1024 * 1024
"""Of the payloads on their way: a window of the largest events would be eight times that."""
_TOO_LARGE = 10_054
"""JetStream's code for a message that is larger than the stream takes."""


class StreamReplacedError(Exception):
    """The stream is another one, or was set back: it lacks what was acknowledged."""


class Shipment(msgspec.Struct, kw_only=True):
    """A message on its way, or a place in the log that needs none.

    Attributes:
        place: The name of its segment, and the byte behind its record.
        writer: The writer of the record.
        subject: The subject; empty if the record is left out.
        payload: The message.
        headers: Its headers.
        is_done: True if it is acknowledged, or needs no acknowledgement.
    """

    place: tuple[str, int]
    writer: str
    subject: str = ""
    payload: bytes = b""
    headers: dict[str, str] = {}
    is_done: bool = False


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Reply(msgspec.Struct):
    """What JetStream replies to a message."""

    error: _Error | None = None
    seq: int = 0
    duplicate: bool = False


_reply_decoder = msgspec.json.Decoder(_Reply)


class Shipper:
    """Ships what it is given, in order; everything runs in a `NatsLoop`.

    Args:
        settings: The server, the window, and how long to wait for acknowledgements.
        check: Called with each new connection, before anything is sent over it.
        on_done: Called for each shipment in order, when it and all before it are acknowledged, with the
            stream's number of its message, 0 if it has none.

    Attributes:
        is_checked: True if a stream was reached that contains what was acknowledged.
        shipped: How many messages were acknowledged.
        duplicates: How many of these the stream contained already.
        refused: How many messages were too large for the server, and left out.
        connections: How many connections were made.
    """

    def __init__(
        self,
        settings: RemoteSettings,
        check: Callable[[Client], Awaitable[None]],
        on_done: Callable[[Shipment, int], None],
    ) -> None:
        self._settings = settings
        self._check = check
        self._on_done = on_done
        self._waiting: deque[Shipment] = deque()
        self._sent: deque[Shipment] = deque()
        self._numbers: deque[int] = deque()  # of the stream, beside `_sent`; 0 until it is known
        self._size = 0  # of all payloads
        self._first = 0  # the number of `_sent[0]` on this connection
        self._has_more = anyio.Event()
        self._has_room = anyio.Event()
        self._trouble: Exception | None = None
        self._has_trouble = anyio.Event()
        self._moved_at = 0.0
        self._last_seq = 0
        self.is_checked: bool = False
        self.shipped: int = 0
        self.duplicates: int = 0
        self.refused: int = 0
        self.connections: int = 0

    def __len__(self) -> int:
        """Return how many shipments are not acknowledged yet."""
        return len(self._waiting) + len(self._sent)

    async def put(self, shipment: Shipment) -> None:
        """Take a shipment, as soon as fewer than a window are on their way."""
        while len(self) >= self._settings.window or self._size >= _MAX_BYTES:
            self._has_room = anyio.Event()
            await self._has_room.wait()
        self._waiting.append(shipment)
        self._size += len(shipment.payload)
        self._has_more.set()

    async def wait_until_empty(self) -> None:
        """Wait until all that was taken is acknowledged, and the stream was checked, even for nothing."""
        while len(self) or not self.is_checked:
            self._has_room = anyio.Event()
            await self._has_room.wait()

    async def attempt(self) -> None:
        """Ship over one connection until it is lost.

        Raises:
            RemoteError: Why it was lost, or could not be made.
            StreamReplacedError: The stream lacks what was acknowledged.
        """
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        self._numbers.clear()
        self._first = self._last_seq = 0
        self._trouble, self._has_trouble = None, anyio.Event()
        note_loss = partial(self._note_loss, self._has_trouble)
        async with connect(self._settings, name="eventbus-ship", on_lost=note_loss) as nats:
            self.connections += 1
            await self._check(nats)
            self.is_checked = True
            self._has_room.set()
            inbox = nats.new_inbox()
            untyped: Any = nats  # nats-py's annotations are incomplete
            await untyped.subscribe(f"{inbox}.*", cb=self._take_reply)
            trouble: Exception | None = None
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send, nats, inbox)
                trouble = await self._wait_for_trouble(nats)
                tasks.cancel_scope.cancel()
        if trouble is not None:
            raise trouble

    async def _send(self, nats: Client, inbox: str) -> None:
        while True:
            while not self._waiting:
                self._has_more = anyio.Event()
                await self._has_more.wait()
            if not self._sent:
                self._moved_at = time.monotonic()
            shipment = self._waiting.popleft()
            number = self._first + len(self._sent)
            self._sent.append(shipment)
            self._numbers.append(0)
            if not shipment.subject:
                self._settle(number, 0)
            elif len(shipment.payload) + _HEADER_BYTES > nats.max_payload:
                self._refuse(number)
            else:
                try:
                    await nats.publish(
                        shipment.subject,
                        shipment.payload,
                        reply=f"{inbox}.{number}",
                        headers=shipment.headers,
                    )
                except Exception as error:  # noqa: BLE001 - nats-py raises whatever the socket does
                    self._fail(remote_error(self._settings, "lost the connection to", error))
                    return

    async def _take_reply(self, message: Msg) -> None:
        number = int(message.subject.rpartition(".")[2])
        if self._trouble is not None:
            return  # it is sent again
        if not message.data:  # nobody listens to the subject
            self._fail(self._no_stream())
            return
        try:
            reply = _reply_decoder.decode(message.data)
        except (msgspec.MsgspecError, ValueError) as error:
            self._fail(remote_error(self._settings, "got a reply that is not JetStream's from", error))
            return
        if reply.error is not None and reply.error.err_code == _TOO_LARGE:
            self._refuse(number)
        elif reply.error is not None:
            reason = reply.error.description or reply.error.code
            self._fail(remote_error(self._settings, "an event was refused by", Exception(reason)))
        elif not reply.duplicate and reply.seq <= self._last_seq:
            self._fail(StreamReplacedError())
        else:
            self._last_seq = max(self._last_seq, reply.seq)
            self.shipped += 1
            self.duplicates += reply.duplicate
            self._settle(number, reply.seq)

    def _settle(self, number: int, seq: int) -> None:
        """Note that a shipment needs no more, and pass on all that are done without a gap."""
        place = number - self._first
        if not 0 <= place < len(self._sent):
            return
        self._sent[place].is_done = True
        self._numbers[place] = seq
        while self._sent and self._sent[0].is_done:
            self._first += 1
            self._moved_at = time.monotonic()
            shipment = self._sent.popleft()
            self._size -= len(shipment.payload)
            self._on_done(shipment, self._numbers.popleft())
        self._has_room.set()

    def _refuse(self, number: int) -> None:
        self.refused += 1
        self._settle(number, 0)

    async def _wait_for_trouble(self, nats: Client) -> Exception:
        checked_at = time.monotonic()
        while self._trouble is None:
            with anyio.move_on_after(_TICK_SECONDS):
                await self._has_trouble.wait()
            if not self._sent and time.monotonic() - checked_at > _CHECK_SECONDS:
                await self._check_idle(nats)
                checked_at = time.monotonic()
            if self._sent and time.monotonic() - self._moved_at > self._settings.ack_seconds:
                silence = Exception(f"no acknowledgement for {self._settings.ack_seconds:g} s")
                self._fail(remote_error(self._settings, "lost the connection to", silence))
        return self._trouble

    async def _check_idle(self, nats: Client) -> None:
        """Look whether the stream was deleted, which nothing else would show without an event."""
        try:
            await self._check(nats)
        except (RemoteError, StreamReplacedError) as error:
            self._fail(error)

    def _note_loss(self, has_trouble: anyio.Event) -> None:
        if has_trouble is not self._has_trouble:
            return  # an earlier connection, which took its time to close
        self._fail(remote_error(self._settings, "lost the connection to", Exception("it was closed")))

    def _no_stream(self) -> RemoteError:
        return RemoteError(
            f"{self._settings.server} has no stream for events", "Make it with `eventbus ship --create`"
        )

    def _fail(self, trouble: Exception) -> None:
        if self._trouble is None:
            self._trouble = trouble
            self._has_trouble.set()
