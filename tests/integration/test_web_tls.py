"""Browsers and line clients over TLS (--web-cert, --tls)."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatroom.sidecars.web.certificate import check
from chatroom.sidecars.web.process import Certificate
from tests.integration import certificates
from tests.integration.browsers import Browser
from tests.integration.clients import Client
from tests.integration.owner import Owner
from tests.integration.rooms import ERROR_LINE, Room, command, room, started
from tests.integration.waiting import PATIENCE, until
from tests.programs import program

WELCOME = "Welcome to socket practice"
HERE = "127.0.0.1"


class TLSClient(Client):
    """A line client over TLS."""

    def __init__(self, port: int, chain: Path) -> None:
        super().__init__(HERE, port, HERE)
        context = ssl.create_default_context(cafile=chain)
        self.socket = context.wrap_socket(self.socket, server_hostname=HERE)


@contextmanager
def encrypted(folder: Path, *options: object, logs: str = "") -> Iterator[tuple[Room, str, int]]:
    """Run a room with a page and a TLS port for line clients; yield the room, the page's URL and
    the port."""
    chain, key = certificates.make(folder, "good")
    words = ("--web", f"{HERE}:0", "--tls", f"{HERE}:0", "--web-cert", chain, "--web-key", key)
    with room("--workers", 2, *words, *options, logs=logs) as here:
        url = here.read_until("\n").decode().removeprefix("web page on ").strip()
        assert url.startswith("https://127.0.0.1:")
        line = here.read_until("\n").decode()
        assert line.startswith("TLS on 127.0.0.1:")
        yield here, url, int(line.rpartition(":")[2])


def test_browsers_and_line_clients_over_tls_are_members(tmp_path: Path) -> None:
    with encrypted(tmp_path) as (here, url, port):
        chain = tmp_path / "good.pem"
        context = ssl.create_default_context(cafile=chain)
        with Browser(url, context) as anna, TLSClient(port, chain) as line:
            anna.expect(WELCOME)
            line.expect(f"{WELCOME}\n")
            plain = here.join("127.0.0.9")
            line.send("over TLS\n")
            anna.expect("<127.0.0.1>over TLS")
            plain.expect("<127.0.0.1>over TLS\n")
            anna.say("x" * 8000)
            line.expect(f"<127.0.0.1>{'x' * 8000}\n")
            found = Owner(here.run_dir).status()["members"]
            assert line.end[1] in [member["port"] for member in found]


def test_a_line_client_that_floods_and_leaves_loses_nothing(tmp_path: Path) -> None:
    """LEAVE-2, and backpressure in both directions."""
    with encrypted(tmp_path, "--rate", 0, "--room-rate", 0) as (here, _, port):
        chain, plain = tmp_path / "good.pem", here.join()
        with TLSClient(port, chain) as line, TLSClient(port, chain) as other:
            line.expect(f"{WELCOME}\n")
            other.expect(f"{WELCOME}\n")
            count = 4000
            line.send("".join(f"{number:090}\n" for number in range(count)))
        expected = "".join(f"<127.0.0.1>{number:090}\n" for number in range(count)).encode()
        assert plain.receive_bytes(len(expected)) == expected
        Owner(here.run_dir).until(
            lambda status: len(status["members"]) == 1, "both clients have left"
        )


def test_a_kicked_line_client_is_told_why(tmp_path: Path) -> None:
    with encrypted(tmp_path) as (here, _, port), TLSClient(port, tmp_path / "good.pem") as line:
        line.expect(f"{WELCOME}\n")
        Owner(here.run_dir).admin("kick", HERE)
        line.expect("<room>You were kicked\n")
        line.expect_end()


def test_a_refused_line_client_is_told_why(tmp_path: Path) -> None:
    with encrypted(tmp_path, "--max-clients", 1) as (here, _, port):
        here.join()
        with TLSClient(port, tmp_path / "good.pem") as line:
            line.expect("The room is full\n")
            line.expect_end()


@pytest.mark.parametrize("name", ["openssl", "ncat", "chatroom.client"])
def test_other_programs_speak_tls(name: str, tmp_path: Path) -> None:
    with encrypted(tmp_path) as (here, _, port):
        chain, line = tmp_path / "good.pem", here.join()
        commands = {
            "openssl": ["s_client", "-quiet", "-no_ign_eof", "-verify_return_error", "-CAfile"],
            "ncat": ["--ssl", "--ssl-verify", "--ssl-trustfile"],
            "chatroom.client": ["-m", name, "--tls", "--cafile"],
        }
        start = sys.executable if name == "chatroom.client" else program(name)
        at = ["-connect", f"{HERE}:{port}"] if name == "openssl" else [HERE, str(port)]
        words = [start, *commands[name], str(chain), *at]
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == f"{WELCOME}\n".encode()
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            line.expect("<127.0.0.1>hello\n")
            line.send("answer\n")
            assert process.stdout.readline() == b"<127.0.0.1>answer\n"
            process.kill()


def test_plain_text_to_the_tls_port_makes_no_member(tmp_path: Path) -> None:
    with encrypted(tmp_path) as (here, url, port):
        line = here.join()
        for at in (port, int(url.rstrip("/").rpartition(":")[2])):
            with socket.create_connection((HERE, at), PATIENCE) as plain:
                plain.sendall(b"hello\n")
                while plain.recv(100):
                    pass
        talker = here.join()
        talker.send("only this\n")
        line.expect("<127.0.0.1>only this\n")


CERTIFICATE_ERROR = r" level=error event=web-certificate error="


def test_sighup_reads_the_certificate_again(tmp_path: Path) -> None:
    """Nobody is disconnected. A wrong certificate leaves the old one in use."""
    with encrypted(tmp_path, logs=CERTIFICATE_ERROR) as (here, url, port):
        old = tmp_path / "old.pem"
        shutil.copy(tmp_path / "good.pem", old)
        with Browser(url, ssl.create_default_context(cafile=old)) as anna:
            anna.expect(WELCOME)
            with TLSClient(port, old) as line:
                line.expect(f"{WELCOME}\n")
                certificates.make(tmp_path, "good", expired=True)
                here.process.send_signal(signal.SIGHUP)
                until(lambda: "certificate has expired" in here.errors, "the error is logged")
                TLSClient(port, old).close()
                certificates.make(tmp_path, "good")
                here.process.send_signal(signal.SIGHUP)
                until(lambda: trusts(port, tmp_path / "good.pem"), "the new certificate is used")
                assert not trusts(port, old)
                line.send("still here\n")
                anna.expect("<127.0.0.1>still here")


def trusts(port: int, chain: Path) -> bool:
    try:
        TLSClient(port, chain).close()
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_a_wrong_certificate_is_an_error(tmp_path: Path) -> None:
    chain, key = certificates.make(tmp_path, "good")
    _, other = certificates.make(tmp_path, "other")
    expired, its_key = certificates.make(tmp_path, "expired", expired=True)
    empty = tmp_path / "empty"
    empty.touch()
    secret = tmp_path / "secret.key"
    subprocess.run(
        [program("openssl"), "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", secret],
        check=True,
        capture_output=True,
    )
    for files, words in (
        ((chain, other), f"the key {other} does not fit the certificate {chain}"),
        ((expired, its_key), f"{expired} can't be used: certificate has expired"),
        ((tmp_path / "none", key), f"{tmp_path}/none can't be read: No such file or directory"),
        ((empty, key), f"{empty} holds no certificate in PEM"),
        ((chain, chain), f"{chain} holds no private key in PEM"),
        ((chain, secret), f"the key {secret} is encrypted; decrypt it: openssl pkey"),
    ):
        with pytest.raises(Exception, match="^" + words.replace(".", r"\.")):
            check(Certificate(*files))
    options = ("--web", f"{HERE}:0", "--web-cert", chain, "--web-key", other)
    with started(command("--workers", 1, *options), logs=ERROR_LINE) as here:
        here.expect_error(1, f"the key {other} does not fit the certificate {chain}")


@pytest.mark.parametrize("broken", [False, True])
def test_the_gateway_comes_back_with_its_certificate(tmp_path: Path, broken: bool) -> None:
    """`broken`: the file is invalid by then, so the gateway gets the last valid contents."""
    logs = r" level=warning event=web-died gateway=0 exit=-9 "
    if broken:
        logs += f"|{CERTIFICATE_ERROR}"
    with encrypted(tmp_path, logs=logs) as (here, _, port):
        certificates.make(tmp_path, "good")
        here.process.send_signal(signal.SIGHUP)
        trusted = tmp_path / "trusted.pem"
        shutil.copy(tmp_path / "good.pem", trusted)
        until(lambda: trusts(port, trusted), "the new one is used")
        if broken:
            (tmp_path / "good.pem").write_text("broken")
            here.process.send_signal(signal.SIGHUP)
            until(lambda: "holds no certificate" in here.errors, "the error is logged")
        [gateway] = [child for child in here.children() if "web.process" in child.command]
        os.kill(gateway.pid, signal.SIGKILL)
        with TLSClient(port, trusted) as line:
            line.expect(f"{WELCOME}\n")
