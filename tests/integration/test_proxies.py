"""A room behind a proxy: the prefix has the client's own address (PREFIX-2). Some tests use
HAProxy."""

import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.clients import Client
from tests.integration.processes import connections
from tests.integration.rooms import DIED, NEVER_SILENT, WELCOME, Room, room
from tests.integration.waiting import until
from tests.programs import program
from tests.system.ports import free_port

BEHIND = ("--proxy-protocol", "--proxy-from", "127.0.0.1", "--proxy-from", "::1")

CONFIGURATION = """
global
    maxconn 200
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen room
    bind {bind}
    server room {server} {options}
"""


@contextmanager
def haproxy(folder: Path, host: str, server: str, options: str) -> Iterator[int]:
    """Run HAProxy in front of a room, and yield its port."""
    port = free_port(host)
    bind = f"{host}:{port}" if ":" not in host else f"[{host}]:{port}"
    file = folder / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(bind=bind, server=server, options=options))
    command = [program("haproxy"), "-f", str(file), "-db", "-q"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: listens(process, host, port), "HAProxy listens")
            yield port
        finally:
            process.kill()


def listens(process: "subprocess.Popen[bytes]", host: str, port: int) -> bool:
    assert process.poll() is None, process.stderr and process.stderr.read()
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def client_through(port: int, source: str) -> Iterator[Client]:
    """Yield a member that has joined through the proxy."""
    host = "::1" if ":" in source else "127.0.0.1"
    with Client(host, port, source) as client:
        client.expect(WELCOME)
        yield client


@pytest.mark.sample(1)
@pytest.mark.parametrize("options", ["send-proxy", "send-proxy-v2", "send-proxy-v2 check"])
def test_prefix_2_a_client_behind_a_proxy_has_its_own_address(options: str, tmp_path: Path) -> None:
    with (
        room("--workers", 2, *BEHIND) as here,
        haproxy(tmp_path, "127.0.0.1", here.where, options) as port,
        client_through(port, "127.0.0.7") as client,
        client_through(port, "127.0.0.8") as other,
    ):
        direct = here.join("127.0.0.9")
        client.send("hello\n")
        for each in (other, direct):
            each.expect("<127.0.0.7>hello\n")
        direct.send("hello yourself\n")
        for each in (client, other):
            each.expect("<127.0.0.9>hello yourself\n")


def test_prefix_2_an_ipv6_client_behind_a_proxy_has_its_own_address(tmp_path: Path) -> None:
    with (
        room("--workers", 2, *BEHIND, host="::1") as here,
        haproxy(tmp_path, "::1", here.where, "send-proxy-v2") as port,
        client_through(port, "::1") as client,
        client_through(port, "::1") as other,
    ):
        client.send("hello\n")
        other.expect("<::1>hello\n")


def test_prefix_2_a_proxy_on_a_unix_socket_passes_on_addresses() -> None:
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder) / "room"
        options = ("--listen", f"unix:{at}", "--proxy-protocol", "--proxy-from", "unix")
        with (
            room("--workers", 2, *options) as here,
            haproxy(Path(folder), "127.0.0.1", f"unix@{at}", "send-proxy-v2") as port,
            client_through(port, "127.0.0.7") as client,
        ):
            direct = here.join("127.0.0.9")
            client.send("hello\n")
            direct.expect("<127.0.0.7>hello\n")


def test_load_4_clients_behind_a_proxy_stay_when_their_workers_die(tmp_path: Path) -> None:
    """The kernel's count of received bytes includes the header of the PROXY protocol."""
    with (
        room("--workers", 2, *BEHIND, *NEVER_SILENT, logs=DIED) as here,
        haproxy(tmp_path, "127.0.0.1", here.where, "send-proxy-v2") as port,
        client_through(port, "127.0.0.7") as client,
        client_through(port, "127.0.0.8") as other,
    ):
        for number in range(5):
            client.send(f"half {number}")
            until(lambda: has_read_all(here), "the room has read all input")
            for worker in here.workers():
                worker.kill()
            deaths = 2 * (number + 1)
            here.wait_until_replaced(deaths, 2)
            client.send(" whole\n")
            other.expect(f"<127.0.0.7>half {number} whole\n")


def has_read_all(here: Room) -> bool:
    return not any(
        connection.unread
        for connection in connections()
        if connection.local == (here.host, here.port)
    )


# --- without HAProxy -----------------------------------------------------------------------------

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def header(source: str, port: int) -> bytes:
    block = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", port, 1)
    return V2 + b"\x21\x11" + struct.pack("!H", len(block)) + block


def test_welcome_1_the_welcome_waits_for_the_header() -> None:
    """A header is ordinary text if the connection does not come from a trusted proxy."""
    with room("--workers", 1, *BEHIND) as here, here.connect() as client, here.connect() as other:
        client.send(header("192.0.2.7", 5000)[:20])
        other.send(header("192.0.2.8", 5000) + b"hello\n")
        other.expect(WELCOME)
        assert client.unread == b""
        client.send(header("192.0.2.7", 5000)[20:])
        client.expect(WELCOME)
        client.send("hello\n")
        other.expect("<192.0.2.7>hello\n")
        here.join("127.0.0.3").send("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n")
        for each in (client, other):
            each.expect("<127.0.0.3>PROXY TCP4 192.0.2.7 192.0.2.8 1 2\n")


def test_a_health_check_of_a_proxy_is_not_a_member() -> None:
    """The check is not logged. A connection that stays open gets the welcome, and its prefix is its
    own address."""
    local = V2 + b"\x20\x00\x00\x00"
    with room("--workers", 1, *BEHIND) as here:
        for _ in range(3):
            with here.connect() as looks:
                looks.send(local)
        with here.connect() as stays:
            stays.send(local)
            stays.expect(WELCOME)
            assert here.read_until("connected\n") == b"127.0.0.1 connected\n"
            here.join("127.0.0.2").send("hello\n")
            stays.expect("<127.0.0.2>hello\n")


def test_an_invalid_header_is_refused_and_logged() -> None:
    logs = r"event=proxy-refused address=127.0.0.1 says=\"no PROXY header begins with b'hello"
    with (
        room("--workers", 1, *BEHIND, logs=logs) as here,
        here.connect() as client,
    ):
        client.send("hello\n")
        client.expect_end()
        here.join("127.0.0.2")


def test_join_5_the_limit_counts_the_address_behind_the_proxy() -> None:
    limit = ("--max-clients-per-address", 1)
    with (
        room("--workers", 1, *BEHIND, *limit) as here,
        here.connect() as client,
        here.connect() as other,
    ):
        client.send(header("192.0.2.7", 5000))
        client.expect(WELCOME)
        other.send(header("192.0.2.8", 5000))
        other.expect(WELCOME)
        with here.connect() as third:
            third.send(header("192.0.2.7", 5001))
            third.expect("Too many connections from your address\n")
