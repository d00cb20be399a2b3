"""`python -m chatroom.web`: the gateway as a separate program."""

import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration import certificates
from tests.integration.browsers import Browser
from tests.integration.owner import Owner
from tests.integration.rooms import ROOT, room
from tests.integration.test_web import get
from tests.integration.waiting import PATIENCE, until
from tests.system.ports import free_port

WELCOME = "Welcome to socket practice"
HERE = "127.0.0.1"
GATEWAY = [sys.executable, "-m", "chatroom.web"]


@contextmanager
def alone(*options: object) -> Iterator[str]:
    """Run a gateway and yield its URL."""
    with process(*options) as (url, _):
        yield url


@contextmanager
def process(*options: object, errors: str = "") -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run a gateway, yield its URL and its process, and stop it with SIGTERM. Its error output must
    be empty, or one line that contains `errors` if that is given."""
    words = [*GATEWAY, "--listen", f"{HERE}:0", *map(str, options)]
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(
            words, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=output
        ) as gateway,
    ):
        try:
            assert gateway.stdout is not None
            line = gateway.stdout.readline()
            assert re.match(r"web page on https?://127\.0\.0\.1:", line)
            yield line.removeprefix("web page on ").strip(), gateway
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(PATIENCE) == 0
            output.seek(0)
            lines = output.read().splitlines()
            assert len(lines) == bool(errors), lines
            assert errors in "".join(lines)
        finally:
            gateway.kill()


def failed(*options: object) -> tuple[int, str]:
    """Return the exit code and the error line of a gateway that does not start."""
    words = [*GATEWAY, *map(str, options)]
    run = subprocess.run(
        words, cwd=ROOT, text=True, capture_output=True, timeout=PATIENCE, check=False
    )
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    return run.returncode, run.stderr


def test_the_room_sees_the_true_address() -> None:
    options = ("--proxy-protocol", "--proxy-from", HERE)
    with room("--workers", 1, *options) as here:
        at = f"{HERE}:{here.port}"
        with alone("--room", at, *options) as url:
            with Browser(url, X_Forwarded_For="2001:db8::7") as anna:
                anna.expect(WELCOME)
                [member] = Owner(here.run_dir).status()["members"]
                assert member["address"] == "2001:db8::7"
            with Browser(url, X_Forwarded_For="192.0.2.7") as anna, Browser(url) as ben:
                ben.expect(WELCOME)
                anna.say("hello")
                ben.expect("<192.0.2.7>hello")


def test_when_a_room_stops_the_gateway_uses_the_next_room() -> None:
    with room("--workers", 1) as second, room("--workers", 1) as first:
        rooms = f"{HERE}:{first.port},{HERE}:{second.port}"
        with alone("--room", rooms) as url, Browser(url) as anna:
            anna.expect(WELCOME)
            session = anna.session
            first.stop()
            assert anna.until_closed() is None
            anna.connect()
            assert anna.session != session
            line = second.join()
            anna.say("in the next room")
            line.expect("<127.0.0.1>in the next room\n")


def test_sighup_reads_the_certificate_again(tmp_path: Path) -> None:
    """A wrong certificate leaves the old one in use. Nobody is disconnected."""
    chain, key = certificates.make(tmp_path, "good")
    old = ssl.create_default_context(cafile=chain)
    error = "event=web-certificate error="
    with room("--workers", 1) as here:
        options = ("--room", f"{HERE}:{here.port}", "--cert", chain, "--key", key)
        with process(*options, errors=error) as (url, gateway), Browser(url, old) as anna:
            anna.expect(WELCOME)
            key.write_text("")
            gateway.send_signal(signal.SIGHUP)
            with Browser(url, old) as ben:
                ben.expect(WELCOME)
            certificates.make(tmp_path, "good")
            gateway.send_signal(signal.SIGHUP)
            until(lambda: not trusts(url, old), "the new certificate is used")
            here.join().send("still here\n")
            anna.expect("<127.0.0.1>still here")


def test_a_line_client_gets_a_clean_end_when_the_gateway_stops(tmp_path: Path) -> None:
    """The end of the TLS connection shows the client that it has received all lines."""
    chain, key = certificates.make(tmp_path, "good")
    context = ssl.create_default_context(cafile=chain)
    with room("--workers", 1) as here:
        options = ("--room", f"{HERE}:{here.port}", "--cert", chain, "--key", key)
        with process(*options, "--tls", f"{HERE}:0") as (_, gateway):
            assert gateway.stdout is not None
            port = int(gateway.stdout.readline().rpartition(":")[2])
            with (
                socket.create_connection((HERE, port), PATIENCE) as end,
                context.wrap_socket(end, server_hostname=HERE, suppress_ragged_eofs=False) as line,
            ):
                assert line.recv(100) == f"{WELCOME}\n".encode()
                gateway.send_signal(signal.SIGTERM)
                assert line.recv(100) == b""


def test_a_page_with_an_unknown_host_is_not_served() -> None:
    with room("--workers", 1) as here:
        at = f"{HERE}:{here.port}"
        with alone("--room", at, "--listen", "127.1:0", "--origin", "http://chat.example") as url:
            for host, status in (("evil.example", 421), ("chat.example", 200), ("127.1", 200)):
                assert get(url, Host=host)[0] == status


def trusts(url: str, context: ssl.SSLContext) -> bool:
    port = int(url.rstrip("/").rpartition(":")[2])
    try:
        with socket.create_connection((HERE, port), PATIENCE) as end:
            context.wrap_socket(end, server_hostname=HERE).close()
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_a_wrong_certificate_is_an_error(tmp_path: Path) -> None:
    chain, key = certificates.make(tmp_path, "old", expired=True)
    options = ("--room", "h:1", "--listen", f"{HERE}:0", "--cert", chain, "--key", key)
    error = f"python -m chatroom.web: {chain} can't be used: certificate has expired\n"
    assert failed(*options) == (1, error)


def test_without_a_room_it_does_not_start() -> None:
    nowhere = f"{HERE}:{free_port()}"
    error = f"python -m chatroom.web: no room answers at {nowhere}: Connection refused\n"
    assert failed("--room", nowhere, "--listen", f"{HERE}:0") == (1, error)
    code, error = failed("--room", "room.invalid:1", "--listen", f"{HERE}:0")
    assert code == 1
    assert error.startswith("python -m chatroom.web: no room answers at room.invalid:1: ")


def test_an_address_in_use_is_an_error() -> None:
    with socket.create_server((HERE, 0)) as other:
        at = f"{HERE}:{other.getsockname()[1]}"
        error = f"python -m chatroom.web: can't listen on {at}: Address already in use\n"
        assert failed("--room", at, "--listen", at) == (1, error)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--listen", "h:1"], "required: --room"),
        (["--room", "h:1"], "give --listen HOST:PORT, the address of the page, or --tls HOST:PORT"),
        (["--room", "h", "--listen", "h:1"], "--room: must be HOST:PORT or unix:PATH, not 'h'"),
        (["--room", "h:1", "--listen", "unix:x"], "--listen: must be HOST:PORT"),
        (["--room", "h:1", "--listen", "h:1", "--cert", "x"], "--cert and --key must be given"),
        (["--room", "h:1", "--tls", "h:1"], "--tls needs --cert and --key"),
        (["--room", "h:1", "--listen", "h:1", "--origin", "x"], "--origin: must be an origin such"),
        (["--room", "h:1", "--listen", "h:1", "--keep", "-1"], "--keep: must be seconds from 0"),
        (["--room", "h:1", "--listen", "h:1", "--proxy-from", "x"], "--proxy-from: must be an"),
        (["--room", "h:1", "--listen", "h:1", "--processes", "0"], "must be a number from 1 to 64"),
    ],
)
def test_wrong_arguments_are_errors(options: list[str], error: str) -> None:
    code, line = failed(*options)
    assert code == 2
    assert error in line
