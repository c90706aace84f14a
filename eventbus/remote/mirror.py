"""Mirror: what the stream has, as a log in a directory of this user's cache.

Commands read it as they read any log: index, following and all. Rejected: a second way through each command,
for events instead of files; and reading the whole stream for each question.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from eventbus.correlation.links import SessionLinks
from eventbus.errors import RemoteError
from eventbus.events import SessionLinked
from eventbus.ground.atomic_file import make_private_directory, write_atomically
from eventbus.history import EventLog
from eventbus.history.segment_files import Writer, find_segments
from eventbus.remote.mirrored_segment import append, segment_name
from eventbus.remote.nats_loop import nats_loop
from eventbus.remote.remote_settings import RemoteSettings
from eventbus.remote.stream_reader import Batch, Message, StreamPosition, StreamReader
from eventbus.remote.subjects import ALL_EVENTS, session_filter, type_filter

__all__ = ["Mirror", "updated_mirror", "updated_mirror_of_session"]

_UNUSED_SECONDS = 30 * 86_400.0
_decoder = msgspec.json.Decoder(StreamPosition)


def updated_mirror(settings: RemoteSettings, session: str | None = None) -> Mirror:
    """Return a copy of what the stream has by now.

    Args:
        settings: The server.
        session: Copy this session only, and those that are linked with it, if the stream has it; otherwise,
            all: it may be the beginning of an id.

    Raises:
        RemoteError: The server cannot be reached, or has no stream.
        OSError: The copy cannot be written.
    """
    if session is not None:
        found = updated_mirror_of_session(settings, session)
        if not found.is_empty():
            return found
    mirror = Mirror(settings)
    mirror.update()
    return mirror


def updated_mirror_of_session(settings: RemoteSettings, session: str) -> Mirror:
    """Return a copy of one session and those that are linked with it, even if the stream has none of it."""
    links = Mirror(settings, type_filter(SessionLinked))
    links.update()
    known = SessionLinks(None)
    for event in EventLog(links.directory).events(types=SessionLinked):
        known.add(event)
    mirror = Mirror(settings, [session_filter(each) for each in known.family(session)])
    mirror.update()
    return mirror


class Mirror:
    """A copy of some subjects of the stream; several processes may keep one at once.

    Args:
        settings: The server.
        filters: The subjects; by default all.

    Attributes:
        directory: The log's directory. It may be deleted at any time.
    """

    def __init__(self, settings: RemoteSettings, filters: Sequence[str] = (ALL_EVENTS,)) -> None:
        self._settings = settings
        self._filters = sorted(filters)
        of_server = _cache() / "eventbus" / "remote" / _digest(*_identity(settings))
        self.directory: Path = of_server / _digest(*self._filters)
        self._events = self.directory / "events"
        self._paths: dict[Writer, Path] = {}
        self._listed_at = -1
        self._reader = StreamReader(settings, self._filters, self._take, self._begin_again)

    def update(self) -> None:
        """Add what the stream has by now.

        Raises:
            RemoteError: The server cannot be reached, or has no stream.
            OSError: The copy cannot be written.
        """
        self._prepare()
        with nats_loop("eventbus-mirror-nats") as loop:
            loop.begin(self._update).result()

    @contextmanager
    def kept_current(self, warn: Callable[[RemoteError], None]) -> Generator[None]:
        """Add what is shipped while the block runs.

        Args:
            warn: Called, in another thread, with what hinders it.
        """
        with nats_loop("eventbus-mirror-nats") as loop:
            loop.begin(self._reader.read_on, warn, _ignore)
            yield

    def is_empty(self) -> bool:
        """Return True if the stream had none of these events."""
        return not find_segments(self.directory)

    # Reading the stream.

    async def _update(self) -> None:
        self._reader.position = self._position()
        await self._reader.attempt(to_end=True)

    async def _take(self, batch: Batch) -> None:
        with self._locked():
            stored = self._position() or StreamPosition(created=batch.before.created)
            if stored.created != batch.before.created or stored.seq < batch.before.seq:
                self._reader.position = stored
                raise RemoteError("another process began this copy of the stream again", "Try again")
            self._add([each for each in batch.messages if each.seq > stored.seq])
            if batch.position.seq > stored.seq:
                write_atomically(self._position_file, msgspec.json.encode(batch.position))

    def _begin_again(self) -> None:
        """Empty it: it is a copy of a stream that no longer is."""
        with self._locked():
            _empty(self.directory)
            make_private_directory(self._events)
            self._paths, self._listed_at = {}, -1

    # Its files.

    @property
    def _position_file(self) -> Path:
        return self.directory / "mirror.json"

    def _position(self) -> StreamPosition | None:
        try:
            return _decoder.decode(self._position_file.read_bytes())
        except (OSError, ValueError):  # without one it is read from the beginning: records come once
            return None

    def _prepare(self) -> None:
        make_private_directory(self._events)
        os.utime(self.directory)
        for other in self.directory.parent.iterdir():
            with suppress(OSError):
                if time.time() - other.stat().st_mtime > _UNUSED_SECONDS:
                    shutil.rmtree(other)

    @contextmanager
    def _locked(self) -> Generator[None]:
        descriptor = os.open(self.directory / "mirror.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _add(self, messages: Sequence[Message]) -> None:
        by_writer: dict[Writer, list[Message]] = {}
        for each in messages:
            by_writer.setdefault((each.record.bus_id, each.record.pid), []).append(each)
        self._list()
        for writer, own in by_writer.items():
            if writer not in self._paths:
                self._paths[writer] = self._events / segment_name(own[0])
            append(self._paths[writer], own)
        self._listed_at = self._changed_at()

    def _list(self) -> None:
        """Learn which segments there are, if another process may have made some."""
        if self._listed_at != self._changed_at():
            self._paths = {each.writer: each.path for each in find_segments(self.directory)}

    def _changed_at(self) -> int:
        return self._events.stat().st_mtime_ns


def _empty(directory: Path) -> None:
    for each in directory.iterdir():
        if each.name == "mirror.lock":
            continue
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def _cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return Path(given) if given.startswith("/") else Path.home() / ".cache"
    except RuntimeError as error:
        raise RemoteError("there is no place for a copy of the stream", "Set XDG_CACHE_HOME") from error


def _identity(settings: RemoteSettings) -> list[str]:
    """Return what decides which stream it is: an account is the user's."""
    users = [f"{each.username or ''}@{each.hostname}:{each.port}" for each in settings.urls]
    return [*users, str(settings.credentials or ""), settings.stream]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _ignore() -> None:
    """Do nothing."""
