"""Connections: TLS that is TLS, clear text to this host only, errors of one line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import anyio.to_thread
import msgspec
import pytest

from eventbus import RemoteError
from eventbus.remote.connection import connect, is_encrypted
from eventbus.remote.nats_loop import NatsLoop
from eventbus.remote.remote_settings import RemoteSettings
from eventbus.remote.stream import create_stream, stream_state
from tests.remote.conftest import Certificates
from tests.remote.nats_server import NatsServer, free_port
from tests.vocabulary import PATIENCE_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nats_py")]


@pytest.fixture
def loop() -> Iterator[NatsLoop]:
    """The loop of nats-py."""
    loop = NatsLoop("eventbus-test")
    loop.start()
    yield loop
    loop.end()
    loop.join(5)


async def server_name(settings: RemoteSettings) -> str:
    async with connect(settings) as nats:
        await nats.flush(2)
        return str(nats.connected_url.scheme if nats.connected_url else "")


async def test_clear_text_to_this_host(server: NatsServer, loop: NatsLoop) -> None:
    """A server on this host may be reached in clear text."""
    assert await loop.run(server_name, server.settings) == "nats"


async def test_tls(tls_server: NatsServer, certificates: Certificates, loop: NatsLoop) -> None:
    """A server with TLS is reached if its certificate is trusted."""
    assert await loop.run(server_name, RemoteSettings(url=tls_server.url, ca=certificates.ca)) == "tls"


async def test_an_untrusted_server_is_refused(tls_server: NatsServer, loop: NatsLoop) -> None:
    """A certificate that nobody trusts is refused."""
    with pytest.raises(RemoteError, match="certificate verify failed"):
        await loop.run(server_name, RemoteSettings(url=tls_server.url))


async def test_a_server_of_another_name_is_refused(
    tls_server: NatsServer, certificates: Certificates, loop: NatsLoop
) -> None:
    """A certificate of another host is refused."""
    url = tls_server.url.replace("127.0.0.1", "localhost")
    with pytest.raises(RemoteError, match="certificate is not valid for 'localhost'"):
        await loop.run(server_name, RemoteSettings(url=url, ca=certificates.ca))


class Eavesdropper:
    """A server without TLS, which notes all that it receives."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.received = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection, suppress(ConnectionError):  # the client may leave with bytes unread
            connection.sendall(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576}\r\n')
            connection.settimeout(5)
            while data := connection.recv(65_536):
                self.received += data
                connection.sendall(b"-ERR 'Unknown Protocol Operation'\r\n")

    def close(self) -> None:
        """End it."""
        self._thread.join(5)
        self._socket.close()


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_server_without_tls_gets_no_secret(
    scheme: str, certificates: Certificates, loop: NatsLoop
) -> None:
    """Where TLS is asked for, a server without it is refused, before a name or a password is sent to it."""
    listener = Eavesdropper()
    settings = RemoteSettings(url=f"{scheme}://me:secret@127.0.0.1:{listener.port}", ca=certificates.ca)
    with pytest.raises(RemoteError) as caught:
        await loop.run(server_name, settings)
    listener.close()
    assert "handshake_first" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert b"secret" not in listener.received
    assert b"CONNECT" not in listener.received


async def test_a_real_server_without_tls_is_refused(server: NatsServer, loop: NatsLoop) -> None:
    """`tls://` to a nats-server without TLS is refused."""
    with pytest.raises(RemoteError, match=r"cannot connect to tls://127\.0\.0\.1"):
        await loop.run(server_name, RemoteSettings(url=server.url.replace("nats://", "tls://")))


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "nats.example.com", "localhost.example.com", "127.0.0.1.example.com"]
)
async def test_clear_text_to_other_hosts_is_refused(host: str) -> None:
    """Clear text to another host is refused unless it is allowed, and before anything is sent."""
    url = urlsplit(f"nats://me:secret@{host}:4222")
    with pytest.raises(RemoteError, match="in clear text") as caught:
        is_encrypted(url, RemoteSettings(url=url.geturl()))
    assert "secret" not in str(caught.value)
    assert not is_encrypted(url, RemoteSettings(url=url.geturl(), allow_clear=True))


async def test_one_clear_server_of_several_is_refused(server: NatsServer, loop: NatsLoop) -> None:
    """Of several servers all are looked at before the first one is connected to."""
    settings = RemoteSettings(url=f"{server.url},nats://10.0.0.1:4222")
    with pytest.raises(RemoteError, match="in clear text"):
        await loop.run(server_name, settings)


async def test_the_next_server_is_tried(server: NatsServer, loop: NatsLoop) -> None:
    """Of several servers the next one is tried when one cannot be reached."""
    settings = RemoteSettings(url=f"nats://127.0.0.1:{free_port()},{server.url}")
    assert await loop.run(server_name, settings) == "nats"


async def test_no_server(loop: NatsLoop) -> None:
    """A server that is not there is one error of one line."""
    port = free_port()
    with pytest.raises(RemoteError) as caught:
        await loop.run(server_name, RemoteSettings(url=f"nats://me:secret@127.0.0.1:{port}"))
    assert str(caught.value).startswith(f"cannot connect to nats://127.0.0.1:{port}: ")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("option", ["credentials", "ca"])
async def test_a_missing_file(option: str, server: NatsServer, loop: NatsLoop, tmp_path: Path) -> None:
    """A file with credentials or certificates that is missing is named."""
    settings = msgspec.structs.replace(server.settings, **{option: tmp_path / "missing"})
    with pytest.raises(RemoteError, match=r"there is no file .*missing"):
        await loop.run(server_name, settings)


async def test_the_stream_is_made_once(server: NatsServer, loop: NatsLoop) -> None:
    """A stream is made when there is none, and left as it is when there is one."""

    async def make() -> tuple[bool, int]:
        async with connect(server.settings) as nats:
            return await create_stream(nats, server.settings), (
                await stream_state(nats, server.settings)
            ).last_seq

    assert await loop.run(make) == (False, 0)
    server.delete_stream()
    with pytest.raises(RemoteError, match=r"has no stream EVENTBUS\. Make it with `eventbus ship --create`"):
        await loop.run(_state, server.settings)
    assert await loop.run(make) == (True, 0)


async def _state(settings: RemoteSettings) -> None:
    async with connect(settings) as nats:
        await stream_state(nats, settings)


async def test_a_lost_connection_is_noticed(mortal_server: NatsServer, loop: NatsLoop) -> None:
    """A killed server ends the connection, with a call, and nothing makes it again behind our back."""
    lost = threading.Event()

    async def wait() -> bool:
        async with connect(mortal_server.settings, on_lost=lost.set) as nats:
            mortal_server.kill()
            is_noticed = await anyio.to_thread.run_sync(lost.wait, PATIENCE_SECONDS)
            return is_noticed and not nats.is_reconnecting

    assert await loop.run(wait)
