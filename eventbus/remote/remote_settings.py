"""The settings of the server: ``EVENTBUS_NATS_URL`` and others, or the table ``nats``.

The address, and all that decides how safely events get there, is the user's: a pyproject.toml that comes
with a repository must not send the log anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

import msgspec

from eventbus.errors import SettingsError
from eventbus.plugins.options import FROM_USER, arguments_of
from eventbus.settings import Settings, load_settings

__all__ = ["RemoteSettings", "load_remote_settings"]

_SCHEMES = ("nats", "tls")


class RemoteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a server, and how events are shipped to it.

    Attributes:
        url: The server, ``tls://host:4222``; several are separated by commas and tried in turn. ``nats://``
            is clear text, unless `ca` is set.
        stream: The name of the stream.
        credentials: The user's ``.creds`` file, if the server wants one. A name and a password, or a token,
            are a part of the URL.
        ca: The certificates to trust instead of the system's; a file.
        allow_clear: Allow clear text to other hosts than this one.
        window: How many events may be on their way without an acknowledgement.
        ack_seconds: After how many seconds without an acknowledgement a connection counts as lost.
        types: The ``event_type`` of further events to ship, beside those of skills and workflows.

    Raises:
        SettingsError: The URL has no host, or another scheme.
    """

    url: Annotated[str, FROM_USER]
    stream: Annotated[str, FROM_USER] = "EVENTBUS"
    credentials: Annotated[Path | None, FROM_USER] = None
    ca: Annotated[Path | None, FROM_USER] = None
    allow_clear: Annotated[bool, FROM_USER] = False
    window: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 1_024
    ack_seconds: Annotated[float, msgspec.Meta(gt=0, le=300)] = 5.0
    types: Annotated[tuple[str, ...], FROM_USER] = ()

    def __post_init__(self) -> None:
        """Refuse a URL that cannot be meant."""
        for each in self.url.split(","):
            _split(each)

    def __repr__(self) -> str:
        return f"<RemoteSettings {self.server!r} {self.stream!r}>"

    @property
    def urls(self) -> list[SplitResult]:
        """The servers, one by one."""
        return [_split(each) for each in self.url.split(",")]

    @property
    def server(self) -> str:
        """The servers for people: without names and passwords."""
        return ",".join(f"{each.scheme}://{each.netloc.rpartition('@')[2]}" for each in self.urls)


def load_remote_settings(settings: Settings | None = None) -> RemoteSettings:
    """Return the settings in force.

    Args:
        settings: All settings; by default they are loaded.

    Raises:
        SettingsError: No server is set, a value is wrong, or a project sets what is up to the user.
    """
    options = (settings or load_settings()).nats
    if "url" not in options:
        raise SettingsError("no server is set", "Set EVENTBUS_NATS_URL, such as tls://nats.example.com:4222")
    found: RemoteSettings = arguments_of(_taking, options, {})["settings"]
    return found


def _taking(settings: RemoteSettings) -> None:
    """Take the whole table, as a plugin does."""


def _split(url: str) -> SplitResult:
    hint = "Write tls://host:port"
    try:
        found = urlsplit(url.strip())
        host, _ = found.hostname, found.port
    except ValueError:
        raise SettingsError("the URL of the server cannot be read", hint) from None  # it may hold a password
    if found.scheme not in _SCHEMES or not host or found.path.strip("/"):
        raise SettingsError(
            f"the URL of the server begins with {found.scheme or 'no scheme'}, or has no host, or has a path",
            hint,
        )
    return found
