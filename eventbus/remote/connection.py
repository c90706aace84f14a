"""Connections to the server: TLS before the first byte, clear text to this host only, one-line errors.

nats-py connects in clear text to a server without TLS, whatever it was asked for, and sends the password
before one could look. Only with TLS first does it insist.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

import anyio

from eventbus.errors import RemoteError
from eventbus.events.printable import printable
from eventbus.ground.distribution import how_to_install

if TYPE_CHECKING:
    from nats.aio.client import Client

    from eventbus.remote.remote_settings import RemoteSettings

__all__ = ["check_usable", "connect", "is_encrypted", "jetstream", "remote_error"]

_CONNECT_SECONDS = 5
_CLOSE_SECONDS = 1.0
_CLEAN_UP_SECONDS = 0.05
"""After a failed handshake asyncio's transport may never say that it has closed."""

_MAX_REASON = 200
_TLS_HINT = (
    "Let the server speak TLS first: `handshake_first: true` in its tls block. "
    "Its certificate must be one that EVENTBUS_NATS_CA, or the system, trusts"
)
_TLS_ERRORS = (ssl.SSLError, ConnectionResetError, TimeoutError)
"""What a server that speaks first, or no TLS at all, leads to."""


@asynccontextmanager
async def connect(
    settings: RemoteSettings, *, name: str = "eventbus-read", on_lost: Callable[[], None] | None = None
) -> AsyncGenerator[Client]:
    """Connect to the server, in a `NatsLoop`; the connection is closed with the block, within a second.

    A lost connection is not made again: its user begins a new one, and knows what was lost with it.

    Args:
        settings: The server, and how to trust it.
        name: The name of the connection, shown by the server's monitoring. Its replies come under
            ``_INBOX.<name>``, so that a user's permissions can keep others from reading them.
        on_lost: Called in the loop when the connection is lost or closed.

    Raises:
        RemoteError: No server can be reached, one is not what it should be, or refuses.
    """
    nats = await _connected(settings, name, on_lost)
    try:
        yield nats
    finally:
        await _close(nats)


def check_usable(settings: RemoteSettings) -> None:
    """Find out what no later attempt would change, without a connection.

    Raises:
        RemoteError: nats-py is not installed, or a server would be reached in clear text.
    """
    _new_client()
    for url in settings.urls:
        is_encrypted(url, settings)


def is_encrypted(url: SplitResult, settings: RemoteSettings) -> bool:
    """Return True if a connection is to use TLS, False if it may go in clear text.

    Raises:
        RemoteError: Clear text is asked for, and not allowed.
    """
    if url.scheme == "tls" or settings.ca is not None:
        return True
    if settings.allow_clear or _is_this_host(url.hostname or ""):
        return False
    raise RemoteError(
        f"{url.scheme}://{url.hostname} would send the log in clear text",
        "Write tls:// instead, or set EVENTBUS_NATS_ALLOW_CLEAR in a network that you trust",
    )


def jetstream(nats: Client, settings: RemoteSettings) -> Any:
    """Return the connection's JetStream, as `Any`: the annotations of nats-py are incomplete."""
    untyped: Any = nats
    return untyped.jetstream(timeout=settings.ack_seconds)


def remote_error(settings: RemoteSettings, problem: str, error: BaseException, hint: str = "") -> RemoteError:
    """Return an exception of nats-py as one line."""
    reason = str(error).removeprefix("nats: ").strip("'") or type(error).__name__
    return RemoteError(f"{problem} {settings.server}: {printable(reason, _MAX_REASON)}", hint)


async def _connected(settings: RemoteSettings, name: str, on_lost: Callable[[], None] | None) -> Client:
    urls = settings.urls
    encrypted = [is_encrypted(url, settings) for url in urls]  # of all, before a secret is sent to the first
    for number, url in enumerate(urls, 1):
        try:
            return await _connected_to(url, settings, name, on_lost, tls_first=encrypted[number - 1])
        except RemoteError:
            if number == len(urls):
                raise
    raise AssertionError("a URL has at least one part")


async def _connected_to(
    url: SplitResult,
    settings: RemoteSettings,
    name: str,
    on_lost: Callable[[], None] | None,
    *,
    tls_first: bool,
) -> Client:
    client = _new_client()
    from nats.errors import Error  # noqa: PLC0415 - after the import that is explained

    is_made = False

    async def report(error: Exception) -> None:
        if not is_made:  # otherwise a server that cannot be reached is tried again, 60 times
            raise error

    try:
        with anyio.fail_after(2 * _CONNECT_SECONDS):
            await client.connect(
                url.geturl(),
                name=name,
                allow_reconnect=False,
                connect_timeout=_CONNECT_SECONDS,
                tls=_context(settings) if tls_first else None,
                tls_handshake_first=tls_first,
                inbox_prefix=f"_INBOX.{name}",
                user_credentials=_credentials(settings),
                error_cb=report,
                disconnected_cb=_calling(on_lost),
                closed_cb=_calling(on_lost),
            )
    except (OSError, Error, ImportError, ValueError) as error:  # TimeoutError is an OSError
        await _close(client, _CLEAN_UP_SECONDS)
        hint = _TLS_HINT if tls_first and isinstance(error, _TLS_ERRORS) else ""
        raise remote_error(settings, "cannot connect to", error, hint) from error
    except BaseException:
        await _close(client, _CLEAN_UP_SECONDS)
        raise
    is_made = True
    return client


def _new_client() -> Client:
    try:
        from nats.aio.client import Client  # noqa: PLC0415 - an extra
    except ImportError as error:
        hint = f"Install it with: {how_to_install('nats')}"
        raise RemoteError("nats-py is not installed", hint) from error
    return Client()


def _context(settings: RemoteSettings) -> ssl.SSLContext:
    if settings.ca is not None and not settings.ca.is_file():
        raise ValueError(f"there is no file {settings.ca} with certificates")
    # Of the default context the host's name and the chain are checked. With a file, it alone is trusted.
    return ssl.create_default_context(cafile=settings.ca)


def _credentials(settings: RemoteSettings) -> Any:
    if settings.credentials is None:
        return None
    if not settings.credentials.is_file():
        raise ValueError(f"there is no file {settings.credentials} with credentials")
    return str(settings.credentials)


def _calling(function: Callable[[], None] | None) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        if function is not None:
            function()

    return call


async def _close(client: Client, seconds: float = _CLOSE_SECONDS) -> None:
    """Close a connection; a server that hangs is left after some seconds."""
    with anyio.move_on_after(seconds, shield=True), suppress(Exception):
        await client.close()


def _is_this_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: only this one means this host, whatever a name server says
        return host == "localhost"
