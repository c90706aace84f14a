"""Follow a log and ship it: what a `Forwarder` does in its thread."""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from eventbus.delivery.own_thread import OwnThread
from eventbus.delivery.rate_limited_log import RateLimitedLog
from eventbus.errors import RemoteError
from eventbus.events import Event, EventsLost, SessionLinked, SkillEvent, WorkflowEvent
from eventbus.events.printable import printable
from eventbus.history.directory_watch import DirectoryWatch
from eventbus.history.reading import Record
from eventbus.history.selection import Selection
from eventbus.history.stored_lines import Damage
from eventbus.remote.pauses import Pauses
from eventbus.remote.position import Position, ShippingLock
from eventbus.remote.shipping import Shipment, Shipper, StreamReplacedError
from eventbus.remote.subjects import subject_of, wire_name
from eventbus.remote.wire import HOST_HEADER, ID_HEADER, LEFT_OUT_HEADER, RecordId, payload_of, writer_name

if TYPE_CHECKING:
    from nats.aio.client import Client

    from eventbus.remote.remote_settings import RemoteSettings

__all__ = ["ForwarderStatistics", "Forwarding"]

_SHIPPED = (SkillEvent, WorkflowEvent, SessionLinked, EventsLost)
"""Not what is derived from them: each host would ship a copy."""

_LOOK_SECONDS = 0.05
_SAVE_SECONDS = 0.5
_SAVE_SHARE = 20
"""Saving takes at most one part of this many of the time."""
_LOCK_SECONDS = 1.0
_MAX_WARNING = 1_000
_LOOKS_AT_THE_END = 2

_logger = logging.getLogger("eventbus.remote")


class ForwarderStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a forwarder has done so far.

    Attributes:
        shipped: How many events the server has acknowledged.
        duplicates: How many of these it had already.
        refused: How many events were too large for the server, and are left out.
        pending: How many events were read and are not acknowledged yet.
        connections: How many connections were made.
        is_complete: True if, at the last look, everything in the log was in the stream.
        problem: What hinders it now, as one line; empty if nothing does.
    """

    shipped: int = 0
    duplicates: int = 0
    refused: int = 0
    pending: int = 0
    connections: int = 0
    is_complete: bool = False
    problem: str = ""


class Forwarding:
    """One log on its way to the server. `run` runs in a `NatsLoop`.

    Args:
        directory: The log's directory.
        settings: The server.

    Attributes:
        is_finished: True if it ended because everything was shipped.
    """

    def __init__(self, directory: Path, settings: RemoteSettings) -> None:
        self._directory = directory
        self._settings = settings
        self._thread = OwnThread("eventbus-forwarder")
        self._warnings = RateLimitedLog(_logger, "the forwarder:")
        self._host = printable(socket.gethostname(), scrubbed=False)
        self._scope: anyio.CancelScope | None = None
        self._is_finishing = False
        self.is_finished: bool = False
        self._shipper: Shipper | None = None
        self._before = ForwarderStatistics()  # of shippers that were given up
        self._is_at_end = False
        self._problem = ""

    def finish(self) -> None:
        """Let `run` return as soon as everything in the log is acknowledged; from any thread."""
        self._is_finishing = True

    def statistics(self) -> ForwarderStatistics:
        """Return what was done so far; from any thread."""
        shipper, before = self._shipper, self._before
        if shipper is None:
            return msgspec.structs.replace(before, problem=self._problem)
        return ForwarderStatistics(
            shipped=before.shipped + shipper.shipped,
            duplicates=before.duplicates + shipper.duplicates,
            refused=before.refused + shipper.refused,
            connections=before.connections + shipper.connections,
            pending=len(shipper),
            is_complete=self._is_at_end and shipper.is_checked and not len(shipper),
            problem=self._problem,
        )

    async def run(self) -> None:
        """Ship what the log holds and what is appended, until `finish` or `stop`."""
        lock = ShippingLock(self._directory)
        try:
            with anyio.CancelScope() as self._scope:
                await self._take(lock)
                await self._ship_again_and_again()
                self.is_finished = True
        finally:
            with anyio.move_on_after(_LOCK_SECONDS, shield=True):
                await self._thread.run(lock.release)  # there, as `take` may still be waiting for a hung disk
            self._thread.end()

    async def stop(self) -> None:
        """Let `run` return at once; in its loop, and after `run` was begun there."""
        if self._scope is not None:
            self._scope.cancel()

    async def _ship_again_and_again(self) -> None:
        position: Position = await self._thread.run(Position, self._directory, self._settings)
        if position.was_damaged:
            self._warn("position", "its position cannot be read: it ships everything again")
        while True:
            try:
                if await self._ship(position):
                    return
            except Exception as error:  # noqa: BLE001 - a defect must not end it where nobody looks
                self._warn("defect", f"begins again after {error!r}")
                await anyio.sleep(_LOCK_SECONDS)
                continue
            self._warn("stream", "the stream is another one, or was set back: it ships everything again")
            position.begin_again()

    async def _take(self, lock: ShippingLock) -> None:
        while True:
            try:
                if await self._thread.run(lock.take):
                    self._problem = ""
                    return
                self._warn("lock", "another process ships this log; waits for it to end")
            except OSError as error:
                self._warn("lock", f"cannot begin: {error}")
            await anyio.sleep(_LOCK_SECONDS)

    async def _ship(self, position: Position) -> bool:
        """Return True when everything is shipped; False if everything is to be shipped again."""
        self._is_at_end = False
        shipper = self._shipper = Shipper(
            self._settings, partial(self._check, position), partial(self._pass_over, position)
        )
        is_replaced = False

        async def connect_again_and_again() -> None:
            nonlocal is_replaced
            is_replaced = await self._connect_again_and_again(shipper)
            tasks.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(connect_again_and_again)
                tasks.start_soon(self._save_now_and_then, position)
                await self._follow(position, shipper)
                tasks.cancel_scope.cancel()
        finally:
            if not is_replaced:
                with anyio.move_on_after(_LOCK_SECONDS, shield=True):
                    await self._save(position)
        self._before = self.statistics()
        self._shipper = None
        return not is_replaced

    # Reading.

    async def _follow(self, position: Position, shipper: Shipper) -> None:
        watch = await self._begin(position)
        left_out = Counter(position.shipped.left_out)
        idle_looks = 0
        while idle_looks < _LOOKS_AT_THE_END or not self._is_finishing:
            was_finishing = self._is_finishing  # what is appended from here on need not be seen
            records = await self._thread.run(watch.poll)
            for record in records:
                self._is_at_end = False
                await shipper.put(self._shipment(record, left_out))
            if records:
                idle_looks = 0
                continue
            self._is_at_end = True
            idle_looks += was_finishing
            await anyio.sleep(_LOOK_SECONDS if not was_finishing else 0)
        await shipper.wait_until_empty()

    async def _begin(self, position: Position) -> DirectoryWatch:
        while True:
            start = dict(position.shipped.segments)
            watch = DirectoryWatch(self._directory, start, Selection(), True, self._note_damage)
            try:
                await self._thread.run(watch.begin)
            except OSError as error:
                self._warn("log", f"cannot read the log: {error}")
                await anyio.sleep(_LOCK_SECONDS)
            else:
                return watch

    def _shipment(self, record: Record, left_out: Counter[str]) -> Shipment:
        place = record.path.name, record.offset + record.length
        writer = writer_name(record.bus_id, record.pid)
        if not self._is_shipped(record.event):
            left_out[writer] += 1
            return Shipment(place=place, writer=writer)
        headers = {ID_HEADER: str(RecordId.of(record)), HOST_HEADER: self._host}
        count = left_out.pop(writer, 0)
        if count:
            headers[LEFT_OUT_HEADER] = str(count)
        return Shipment(
            place=place,
            writer=writer,
            subject=subject_of(record.event),
            payload=payload_of(record.line),
            headers=headers,
        )

    def _is_shipped(self, event: Event) -> bool:
        return isinstance(event, _SHIPPED) or wire_name(event) in self._settings.types

    # Connections.

    async def _connect_again_and_again(self, shipper: Shipper) -> bool:
        """Return True when everything is to be shipped again."""
        pauses = Pauses()
        while True:
            before = shipper.shipped
            try:
                await shipper.attempt()
            except StreamReplacedError:
                return True
            except RemoteError as error:
                self._warn(error.problem, str(error))
            except Exception as error:  # noqa: BLE001 - nats-py raises what it likes while a connection is lost
                self._warn(type(error).__name__, f"lost the connection: {error!r}")
            await pauses.wait(has_progressed=shipper.shipped > before)

    # The position.

    async def _check(self, position: Position, nats: Client) -> None:
        await position.check(nats)
        self._problem = ""

    def _pass_over(self, position: Position, shipment: Shipment, seq: int) -> None:
        position.pass_over(shipment, seq)
        if seq:
            self._problem = ""
        elif shipment.subject:
            self._warn("refused", f"too large for the server, and left out: {shipment.headers[ID_HEADER]}")

    async def _save_now_and_then(self, position: Position) -> None:
        took = 0.0
        while True:
            # With thousands of segments it is a large file.
            await anyio.sleep(max(_SAVE_SECONDS, _SAVE_SHARE * took))
            began = time.monotonic()
            await self._save(position)
            took = time.monotonic() - began

    async def _save(self, position: Position) -> None:
        if not position.is_changed:
            return
        position.is_changed = False
        try:
            await self._thread.run(position.save, position.content())
        except OSError as error:
            position.is_changed = True
            self._warn("save", f"cannot save its position: {error}")

    # What is said.

    def _note_damage(self, damage: Damage) -> None:
        reason = f"skipped {damage.length} bytes at {damage.path}:{damage.offset}: {damage.reason}"
        self._warnings.warn(str(damage.path), printable(reason, _MAX_WARNING))

    def _warn(self, cause: str, what: str) -> None:
        self._problem = printable(what, _MAX_WARNING)
        self._warnings.warn(cause, self._problem)
