"""The configuration of a server in docs/remote.md, run by a real one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from eventbus import NodeStarted, RemoteError
from eventbus.remote import RemoteEvents
from eventbus.remote.connection import connect, jetstream
from eventbus.remote.forwarder import Forwarder, make_stream
from eventbus.remote.remote_settings import RemoteSettings
from tests.remote.conftest import Certificates
from tests.remote.nats_server import NatsServer, run_in_loop
from tests.remote.shipped_logs import ship, wait_until, write_log
from tests.vocabulary import PATIENCE_SECONDS

PAGE = Path(__file__).parent.parent.parent / "docs" / "remote.md"


@pytest.fixture
def documented(binary: str, certificates: Certificates, tmp_path: Path) -> Iterator[NatsServer]:
    """A server with the documented configuration, except for its files and its address."""
    server = NatsServer(binary, tmp_path / "nats", scheme="tls")
    block = re.search(r"```\n(# /etc/nats/server\.conf\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert block is not None
    text = block[1]
    for old, new in (
        ("0.0.0.0:4222", f"127.0.0.1:{server.port}"),
        ("/etc/nats", str(certificates.ca.parent)),
        ("/var/lib/nats", str(tmp_path / "js")),
        ("100G", "1G"),
        ("change me", "a-password"),
    ):
        assert old in text
        text = text.replace(old, new)
    (server.folder / "server.conf").write_text(text)
    server.start()
    yield server
    server.kill()


def settings_of(user: str, server: NatsServer, certificates: Certificates) -> RemoteSettings:
    url = f"tls://{user}:a-password@127.0.0.1:{server.port}"
    return RemoteSettings(url=url, ca=certificates.ca, ack_seconds=0.3)


def test_the_documented_server(documented: NatsServer, certificates: Certificates, tmp_path: Path) -> None:
    """The user `ship` ships, and cannot make, change or delete a stream; `read` cannot publish events."""
    admin, shipper, reader = (
        settings_of(each, documented, certificates) for each in ("admin", "ship", "read")
    )
    with pytest.raises(RemoteError, match=r"cannot (make|read) the stream"):
        make_stream(shipper)
    assert make_stream(admin)
    write_log(tmp_path / "log", 100)
    assert ship(tmp_path / "log", shipper).statistics().shipped == 100
    write_log(tmp_path / "log", 10, 100)
    assert ship(tmp_path / "log", shipper).statistics().shipped == 10
    for tried in (_delete, _read):
        with pytest.raises(Exception, match=r"timeout|no response"):
            run_in_loop(tried, shipper)
    assert run_in_loop(_read, reader) == 5
    write_log(tmp_path / "log", 10, 110)
    with Forwarder(tmp_path / "log", reader, close_timeout=0.1) as forwarder:
        wait_until(lambda: bool(forwarder.statistics().problem))
    assert forwarder.statistics().shipped == 0


@pytest.mark.anyio
async def test_the_documented_reader(
    documented: NatsServer, certificates: Certificates, tmp_path: Path
) -> None:
    """The user `read` reads: all of the stream, and a session of it."""
    make_stream(settings_of("admin", documented, certificates))
    write_log(tmp_path / "log", 10)
    ship(tmp_path / "log", settings_of("ship", documented, certificates))
    for session, first in ((None, "0"), ("s1", "1")):
        settings = settings_of("read", documented, certificates)
        async with RemoteEvents(settings, start="beginning", session_id=session) as events:
            with anyio.fail_after(PATIENCE_SECONDS):
                event = await anext(events)
            assert isinstance(event, NodeStarted)
            assert event.node_id == first


def test_without_the_right_to_read(
    documented: NatsServer, certificates: Certificates, tmp_path: Path
) -> None:
    """Without the right to get messages a forwarder ships all the same, and notices another stream."""
    config = documented.folder / "server.conf"
    config.write_text(config.read_text().replace(', "$JS.API.STREAM.MSG.GET.EVENTBUS"', ""))
    documented.restart()
    settings = settings_of("ship", documented, certificates)
    admin = settings_of("admin", documented, certificates)
    make_stream(admin)
    for first in (0, 10):
        write_log(tmp_path / "log", 10, first)
        assert ship(tmp_path / "log", settings).statistics().shipped == 10
    run_in_loop(_delete, admin)
    make_stream(admin)
    write_log(tmp_path / "other", 50)
    ship(tmp_path / "other", settings)
    assert ship(tmp_path / "log", settings).statistics().shipped == 20


async def _delete(settings: RemoteSettings) -> None:
    async with connect(settings, name="eventbus-ship") as nats:
        await jetstream(nats, settings).delete_stream(settings.stream)


async def _read(settings: RemoteSettings) -> int:
    name = "eventbus-read" if ":read:" in settings.url.replace("//", ":") else "eventbus-ship"
    async with connect(settings, name=name) as nats:
        reader = await jetstream(nats, settings).pull_subscribe("", stream=settings.stream)
        return len(await reader.fetch(5, timeout=PATIENCE_SECONDS))
