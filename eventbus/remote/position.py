"""How far a log has been shipped: what the server acknowledged without a gap, in a file beside the log.

With it goes what the stream was then. The server acknowledges before its disk has the message, so a power
cut there may set the stream back; and a stream may be deleted. Then it lacks what was acknowledged, and
everything that the log holds is shipped again.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from eventbus.ground.atomic_file import make_private_directory, write_atomically
from eventbus.history.segment_files import segment_at
from eventbus.history.shipped import Shipped, read_shipped, shipped_file
from eventbus.remote.connection import jetstream, remote_error
from eventbus.remote.shipping import Shipment, StreamReplacedError
from eventbus.remote.stream import stream_state
from eventbus.remote.wire import ID_HEADER, writer_name

if TYPE_CHECKING:
    from nats.aio.client import Client

    from eventbus.remote.remote_settings import RemoteSettings
    from eventbus.remote.stream import StreamState

__all__ = ["Position", "ShippingLock"]


class Position:
    """The position of one log in one stream.

    Args:
        directory: The log's directory.
        settings: The server and the stream.

    Attributes:
        shipped: The position itself.
        is_changed: True if it is to be saved.
        was_damaged: True if the file could not be read, so that everything is shipped again.
    """

    def __init__(self, directory: Path, settings: RemoteSettings) -> None:
        self._directory = directory
        self._settings = settings
        self.is_changed: bool = False
        self.was_damaged: bool = False
        try:
            found = read_shipped(directory)
        except (OSError, ValueError):
            found, self.was_damaged = None, True
        is_ours = found is not None and found.stream == settings.stream
        self.shipped: Shipped = found if found is not None and is_ours else Shipped(stream=settings.stream)
        self._forget_missing()

    def begin_again(self) -> None:
        """Begin at the beginning of the log, with whatever stream there is."""
        self.shipped = Shipped(stream=self._settings.stream)
        self.is_changed = True

    def pass_over(self, shipment: Shipment, seq: int) -> None:
        """Note that a shipment, and all before it, are acknowledged."""
        name, end = shipment.place
        shipped = self.shipped
        shipped.segments[name] = end
        if not shipment.subject:
            shipped.left_out[shipment.writer] = shipped.left_out.get(shipment.writer, 0) + 1
        else:
            shipped.left_out.pop(shipment.writer, None)
        if seq:
            shipped.last_seq, shipped.last_id = seq, shipment.headers[ID_HEADER]
        self.is_changed = True

    async def check(self, nats: Client) -> None:
        """Compare the stream with what was acknowledged.

        Raises:
            RemoteError: The stream is missing, or cannot be read.
            StreamReplacedError: It is another one, or lacks what was acknowledged.
        """
        state = await stream_state(nats, self._settings)
        if self.shipped.created is None:
            self.shipped.created = state.created
            self.is_changed = True
        elif not await self._is_same(nats, state):
            raise StreamReplacedError

    async def _is_same(self, nats: Client, state: StreamState) -> bool:
        shipped = self.shipped
        if state.created != shipped.created or state.last_seq < shipped.last_seq:
            return False
        if not shipped.last_seq:
            return True
        # Set back, it may have grown again since, by the events of other hosts.
        from nats.js.errors import NotFoundError  # noqa: PLC0415 - an extra

        try:
            stored: Any = await jetstream(nats, self._settings).get_msg(
                self._settings.stream, shipped.last_seq
            )
        except NotFoundError:  # it is too old for the stream, or somebody deleted it
            return True
        except TimeoutError:  # the user may not read messages: the server does not reply to that
            return True
        except Exception as error:
            problem = f"cannot read the stream {self._settings.stream} at"
            raise remote_error(self._settings, problem, error) from error
        headers: dict[str, str] = stored.headers or {}
        return headers.get(ID_HEADER) == shipped.last_id

    def content(self) -> bytes:
        """Return what is to be saved."""
        return msgspec.json.format(msgspec.json.encode(self.shipped)) + b"\n"

    def save(self, content: bytes) -> None:
        """Write the file, whole.

        Raises:
            OSError: It cannot be written; the old one is unchanged.
        """
        write_atomically(shipped_file(self._directory), content)

    def _forget_missing(self) -> None:
        """Forget segments that are gone; a directory that cannot be listed now may come back."""
        with suppress(OSError):
            present = set(os.listdir(self._directory / "events"))  # noqa: PTH208 - there may be thousands
            if present:
                self._keep(present)

    def _keep(self, names: Collection[str]) -> None:
        shipped = self.shipped
        shipped.segments = {name: end for name, end in shipped.segments.items() if name in names}
        if shipped.left_out:
            found = (segment_at(str(self._directory / "events" / name)) for name in names)
            writers = {writer_name(each.bus_id, each.pid) for each in found if each is not None}
            shipped.left_out = {each: n for each, n in shipped.left_out.items() if each in writers}


class ShippingLock:
    """One forwarder per log: the lock on a file beside it, which the kernel releases with the process.

    On a file system without locks nobody is kept out.

    Args:
        directory: The log's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "shipped.lock"
        self._descriptor: int | None = None
        _held.add(self)

    def take(self) -> bool:
        """Take the lock; return False if another process has it.

        Raises:
            OSError: The file cannot be made.
        """
        make_private_directory(self._path.parent)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:  # the file system has no locks
            pass
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Release the lock, if it was taken; the file stays, as another process may be about to lock it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_held: weakref.WeakSet[ShippingLock] = weakref.WeakSet()


def _release_in_child() -> None:
    """Close the descriptors in a forked child: a lock lives as long as any copy of its descriptor."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)
