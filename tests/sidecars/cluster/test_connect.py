"""The connection to NATS."""

import asyncio
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatroom.config.cluster_url import ClusterURL
from chatroom.sidecars.cluster.engine import Engine, EngineError, connect
from chatroom.sidecars.cluster.process import Credentials
from tests.integration.waiting import PATIENCE
from tests.programs import program
from tests.system.ports import free_port

INFO = b'INFO {"server_id":"x","version":"2.9.10","headers":true,"max_payload":1048576}\r\n'


async def attempt(url: str, credentials: Credentials) -> None:
    """Connect without further attempts, and close the connection."""
    client = await connect(ClusterURL.parse(url), credentials, "test", attempts=1)
    await client.close()


def test_no_password_is_sent_to_a_server_of_a_tls_url_that_does_not_offer_tls() -> None:
    """An attacker on the network can imitate a server without TLS. nats-py itself would connect to
    it without encryption."""
    heard = b""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            nonlocal heard
            listener.settimeout(PATIENCE)
            while True:
                end, _ = listener.accept()
                with end:
                    end.settimeout(PATIENCE)
                    end.sendall(INFO)
                    data = end.recv(1024)
                    heard += data
                    if data == b"the end":
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"tls://user:secret@127.0.0.1:{port}/room"
        with pytest.raises(EngineError) as refused:
            asyncio.run(attempt(url, Credentials()))
        with socket.create_connection(("127.0.0.1", port)) as last:
            last.sendall(b"the end")
            thread.join()
    assert heard == b"the end"
    assert str(refused.value) == (
        f"can't connect to tls://127.0.0.1:{port}/room: the server does not offer TLS"
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nats://127.0.0.1:{port}/room", "Connection refused"),
        ("nats://room.invalid:{port}/room", "Name or service not known|.* resolution"),
    ],
)
def test_a_server_that_can_not_be_reached_is_reported(url: str, reason: str) -> None:
    url = url.format(port=free_port())
    with pytest.raises(EngineError, match=f"^can't connect to {url}: ({reason})$"):
        asyncio.run(attempt(url, Credentials()))


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer like a NATS server that refuses each subscription, but as late as it may: right before
    the answer to the next ping."""
    writer.write(INFO)
    errors = b""
    while line := await reader.readline():
        if line.startswith(b"SUB"):
            errors += b"-ERR 'Permissions Violation for Subscription to \"room\"'\r\n"
        elif line == b"PING\r\n":
            writer.write(errors + b"PONG\r\n")
            errors = b""
    writer.close()


def test_a_refused_subscription_is_reported() -> None:
    """nats-py's first ping overtakes the subscription, so its answer does not tell yet."""

    async def run() -> None:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        url = ClusterURL.parse(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}/room")
        client = await connect(url, Credentials(), "test", attempts=1)
        try:
            await client.subscribe("room")
            await Engine(client, url, "node").check_permissions()
        finally:
            await client.close()
            server.close()

    with pytest.raises(EngineError, match="permissions violation for subscription"):
        asyncio.run(asyncio.wait_for(run(), PATIENCE))


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield the port of a NATS server with TLS, and its certificate."""
    key, certificate, port = folder / "key", folder / "certificate", free_port()
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([program("openssl"), *request, *names, *files], check=True, capture_output=True)
    config = folder / "config"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\n'
        f'tls: {{cert_file: "{certificate}", key_file: "{key}"}}\n'
        "authorization: {user: u, password: p}\n"
    )
    with subprocess.Popen(
        [program("nats-server"), "-c", str(config)], stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stderr is not None
            assert any(b"Server is ready" in line for line in process.stderr)
            yield port, certificate
        finally:
            process.kill()


def test_a_server_with_tls_must_have_a_certificate_of_an_authority(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (port, certificate):
        url = f"tls://u:p@127.0.0.1:{port}/room"
        asyncio.run(attempt(url, Credentials(ca=certificate)))
        with pytest.raises(EngineError, match=r"self.signed certificate"):
            asyncio.run(attempt(url, Credentials()))
        with pytest.raises(EngineError, match="Authorization Violation"):
            asyncio.run(attempt(url.replace(":p@", ":x@"), Credentials(ca=certificate)))
