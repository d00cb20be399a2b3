"""Programs that are full clients: OpenBSD's netcat, Nmap's netcat, and telnet."""

import os
import pty
import select
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.integration.rooms import room
from tests.integration.waiting import PATIENCE
from tests.programs import program

#: Options of each netcat: the local address, and a shutdown at the end of the input.
NETCATS = {
    "nc.openbsd": ["-s", "127.0.0.7", "-N"],
    "ncat": ["--source", "127.0.0.7"],
}


@contextmanager
def netcat(name: str, host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [program(name), *NETCATS[name], host, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_line(process: subprocess.Popen[bytes], line: bytes) -> None:
    """Check that the process prints this line next."""
    assert process.stdout is not None
    assert process.stdout.readline() == line


def type_text(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


@pytest.mark.parametrize("name", NETCATS)
def test_people_talk_with_netcat(name: str) -> None:
    """WELCOME-1, CAST-1, CAST-2, LINE-1: all members use netcat."""
    with room("--workers", 2) as here:
        witness = here.join("127.0.0.2")
        with netcat(name, here.host, here.port) as client:
            wait_for_line(client, b"Welcome to socket practice\n")
            type_text(client, b"hello\n")
            witness.expect("<127.0.0.7>hello\n")
            witness.send("hello yourself\r\n")
            wait_for_line(client, b"<127.0.0.2>hello yourself\n")
            with netcat(name, here.host, here.port) as other:
                wait_for_line(other, b"Welcome to socket practice\n")
                type_text(other, "Chào 👋\n".encode())
                wait_for_line(client, "<127.0.0.7>Chào 👋\n".encode())
                witness.expect("<127.0.0.7>Chào 👋\n")


@pytest.mark.parametrize("name", NETCATS)
def test_a_file_is_piped_into_the_room(name: str) -> None:
    """LEAVE-2, LEAVE-4: `nc HOST PORT < FILE` delivers the whole file, and ends."""
    text = "".join(f"line {number} of a file\n" for number in range(5000)) + "the end"
    heard = "".join(f"<127.0.0.7>line {number} of a file\n" for number in range(5000))
    with room("--workers", 2) as here:
        witness = here.join("127.0.0.2")
        with netcat(name, here.host, here.port) as client:
            output, _ = client.communicate(text.encode(), PATIENCE)
            assert output == b"Welcome to socket practice\n"
        witness.expect(heard + "<127.0.0.7>the end")


@pytest.mark.parametrize("name", NETCATS)
def test_netcat_ends_with_the_room(name: str) -> None:
    """JOIN-3, LEAVE-4: netcat ends when the connection ends; `nc` also waits for the end of its
    input."""
    with room("--workers", 1) as here, netcat(name, here.host, here.port) as client:
        wait_for_line(client, b"Welcome to socket practice\n")
        here.stop()
        output, _ = client.communicate(timeout=PATIENCE)
        assert output == b""


class Telnet:
    """A telnet process at a terminal, and the text that it prints."""

    def __init__(self, host: str, port: int) -> None:
        self._terminal, its_end = pty.openpty()
        # Ctrl-C interrupts the session that the terminal controls, so telnet needs its own session.
        command = [program("setsid"), "--ctty", program("telnet"), host, str(port)]
        self._process = subprocess.Popen(command, stdin=its_end, stdout=its_end, stderr=its_end)
        os.close(its_end)

    def type(self, text: bytes) -> None:
        os.write(self._terminal, text)

    def wait_for(self, text: bytes) -> None:
        """Wait until telnet prints the text."""
        shown = b""
        while text not in shown:
            assert select.select([self._terminal], [], [], PATIENCE)[0], shown
            shown += os.read(self._terminal, 1 << 16)

    def close(self) -> None:
        """End telnet and close its terminal."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


def test_people_talk_with_telnet() -> None:
    """TEXT-2: telnet's commands never become text. After Ctrl-C, telnet prints nothing until the
    server answers DO TIMING-MARK."""
    with room("--workers", 1) as here, closing(Telnet(here.host, here.port)) as telnet:
        telnet.wait_for(b"Welcome to socket practice")
        witness = here.join("127.0.0.2")
        telnet.type(b"hello\n")
        witness.expect("<127.0.0.1>hello\n")
        telnet.type(b"\x03")
        telnet.type(b"still here\n")
        witness.expect("<127.0.0.1>still here\n")
        witness.send("so am I\n")
        telnet.wait_for(b"<127.0.0.2>so am I")
