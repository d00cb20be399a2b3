"""Tests of the client's command line: its arguments, and the error line for a wrong argument."""

import asyncio
import re
import signal
import socket
import subprocess
from collections.abc import Sequence

import pytest

import chatroom
from chatroom.client.address import RoomAddress
from chatroom.client.command import main
from chatroom.client.connection import Connection
from tests.client.drivers import CLIENT, ROOT


def run(*arguments: str, command: Sequence[str] = ()) -> tuple[int, str, str]:
    """Run the client; return its exit code, standard output and standard error."""
    done = subprocess.run(
        [*command, *CLIENT, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=10,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "HOST, PORT"),
        (["localhost"], "PORT"),
        (
            ["localhost", "http"],
            "argument PORT: must be a port number from 1 to 65535, not 'http'",
        ),
        (["localhost", "0"], "argument PORT"),
        (["localhost", "65536"], "argument PORT"),
        (["localhost", "-1"], "argument PORT"),
        (
            ["localhost", "9" * 5000],
            "argument PORT: must be a port number from 1 to 65535",
        ),
        (["localhost", "٤٠٠٠"], "argument PORT"),
        (["localhost", "4000", "more"], "more"),
        (["127.0.0.1:4711"], "argument HOST: put a space before the port: 127.0.0.1 4711"),
        (["[::1]:4711"], "argument HOST: put a space before the port: ::1 4711"),
        (["localhost:4711", "4711"], "argument HOST: put a space before the port: localhost 4711"),
        (["--colour", "localhost", "4000"], "--colour"),
        (["--cafile", "file", "localhost", "4000"], "argument --cafile: requires --tls"),
        (["--insecure", "localhost", "4000"], "argument --insecure: requires --tls"),
        (
            ["--tls", "--cafile", "file", "--insecure", "localhost", "4000"],
            "not allowed with --insecure",
        ),
        (["--tls", "--cafile", "nowhere", "localhost", "4000"], "nowhere: No such file or"),
        (["--tls", "--cafile", "README.md", "localhost", "4000"], "it contains no certificate"),
    ],
)
def test_a_wrong_argument_is_named_in_one_line(arguments: list[str], named: str) -> None:
    code, output, error = run(*arguments)
    assert (code, output) == (2, "")
    assert re.fullmatch(r"python -m chatroom\.client: [^\n]+ \(--help shows the usage\)\n", error)
    assert named in error


def test_help_shows_the_usage() -> None:
    code, output, error = run("--help")
    assert (code, error) == (0, "")
    assert output.startswith("usage: python -m chatroom.client [options] HOST PORT\n")
    assert "Ctrl-D" in output
    assert max(map(len, output.splitlines())) <= 100


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version") == (0, f"chatroom {chatroom.__version__}\n", "")


@pytest.mark.parametrize("command", [[], ["sh", "-c", 'exec "$@" 2>&-', "sh"]])
def test_a_refused_connection_is_reported_in_one_line(command: list[str]) -> None:
    with socket.socket() as silent:  # This socket is bound but does not listen.
        silent.bind(("127.0.0.1", 0))
        port = str(silent.getsockname()[1])
        code, output, error = run("127.0.0.1", port, command=command)
    assert (code, output) == (1, "")
    said = f"python -m chatroom.client: cannot connect to 127.0.0.1:{port}: Connection refused\n"
    assert error == ("" if command else said)


@pytest.mark.parametrize(
    "host",
    [
        "::1%nowhere",  # No interface has this name, so the lookup fails without a name server.
        "no..name",
        "x" * 64,
    ],
)
def test_a_host_that_does_not_resolve_is_reported_in_one_line(host: str) -> None:
    code, output, error = run(host, "4000")
    assert (code, output) == (1, "")
    where = f"[{host}]:4000" if ":" in host else f"{host}:4000"
    assert re.fullmatch(
        rf"python -m chatroom\.client: cannot connect to {re.escape(where)}: .+\n", error
    )


@pytest.mark.parametrize("host", ["::1%nowhere", "[::1%nowhere]"])
def test_an_ipv6_address_may_be_in_brackets(host: str) -> None:
    _, _, error = run(host, "4000")
    assert error.startswith("python -m chatroom.client: cannot connect to [::1%nowhere]:4000: ")


def test_options_that_need_a_window_are_reported_without_one() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = str(silent.getsockname()[1])
        _, _, error = run("--time", "--mouse", "--no-reconnect", "127.0.0.1", port)
    said = "python -m chatroom.client: --time, --mouse: only at a terminal, with prompt_toolkit\n"
    assert error.startswith(said)
    assert len(error.splitlines()) == 2


def test_ctrl_c_ends_the_client_while_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(_address: RoomAddress) -> Connection:
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(RoomAddress, "connect", connect)
    assert main(["localhost", "4000"]) == 0
