"""The stream at the server: made only when somebody asks for it, and recognised by its creation time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from eventbus.errors import RemoteError
from eventbus.remote.connection import jetstream, remote_error
from eventbus.remote.subjects import ALL_EVENTS

if TYPE_CHECKING:
    from nats.aio.client import Client

    from eventbus.remote.remote_settings import RemoteSettings

__all__ = ["StreamState", "create_stream", "stream_state"]

_KEEP_SECONDS = 30 * 86_400.0
_DUPLICATE_SECONDS = 120.0


class StreamState(msgspec.Struct, frozen=True):
    """Which stream it is, and how long.

    Attributes:
        created: When it was made.
        last_seq: The number of its last message, 0 without one.
        first_seq: The number of the first message that it still has.
    """

    created: datetime
    last_seq: int = 0
    first_seq: int = 0


async def create_stream(nats: Client, settings: RemoteSettings) -> bool:
    """Make the stream; return False if there is one of that name already, which is left as it is.

    Raises:
        RemoteError: The server refuses it.
    """
    from nats.js.api import DiscardPolicy, StorageType, StreamConfig  # noqa: PLC0415 - an extra

    if await _found(nats, settings) is not None:
        return False
    config = StreamConfig(
        name=settings.stream,
        subjects=[ALL_EVENTS],
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_age=_KEEP_SECONDS,
        duplicate_window=_DUPLICATE_SECONDS,
    )
    try:
        await jetstream(nats, settings).add_stream(config)
    except Exception as error:
        raise remote_error(settings, f"cannot make the stream {settings.stream} at", error) from error
    return True


async def stream_state(nats: Client, settings: RemoteSettings) -> StreamState:
    """Return the state of the stream.

    Raises:
        RemoteError: There is no such stream, or the server does not answer.
    """
    state = await _found(nats, settings)
    if state is None:
        raise RemoteError(
            f"{settings.server} has no stream {settings.stream}", "Make it with `eventbus ship --create`"
        )
    return state


async def _found(nats: Client, settings: RemoteSettings) -> StreamState | None:
    from nats.js.errors import NotFoundError  # noqa: PLC0415 - an extra

    try:
        info = await jetstream(nats, settings).stream_info(settings.stream)
    except NotFoundError:
        return None
    except Exception as error:
        raise remote_error(settings, f"cannot read the stream {settings.stream} at", error) from error
    if info.created is None:
        raise RemoteError(f"{settings.server} does not say when the stream {settings.stream} was made")
    return StreamState(info.created, info.state.last_seq, info.state.first_seq)
