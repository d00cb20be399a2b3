"""Tests of the protocols of a service manager: socket activation and notification."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatroom.system.listening import endpoint
from chatroom.system.systemd import SystemdNotifier, passed_to_another


@pytest.fixture(name="heard")
def fixture_heard(tmp_path: Path) -> Iterator[socket.socket]:
    """Yield the service manager's end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.setblocking(False)
        yield end


def test_the_manager_is_notified_of_the_room_s_state(heard: socket.socket) -> None:
    notifier = SystemdNotifier({"NOTIFY_SOCKET": heard.getsockname()})
    notifier.ready("2 members")
    notifier.reloading()
    notifier.alive("3 members")
    notifier.stopping()
    told = [heard.recv(999).decode().splitlines() for _ in range(4)]
    assert told[0] == ["READY=1", "STATUS=2 members"]
    assert told[1][0] == "RELOADING=1"
    assert told[1][1].startswith("MONOTONIC_USEC=")
    assert told[2:] == [["WATCHDOG=1", "STATUS=3 members"], ["STOPPING=1", "STATUS=stopping"]]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract addresses")
def test_the_manager_s_address_may_be_abstract() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(f"\0chatroom-test-{os.getpid()}")
        end.setblocking(False)
        SystemdNotifier({"NOTIFY_SOCKET": f"@chatroom-test-{os.getpid()}"}).ready("")
        assert end.recv(99).startswith(b"READY=1")


def test_a_missing_manager_is_not_an_error(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        notifier = SystemdNotifier(environment)
        notifier.ready("")
        notifier.stopping()
        assert notifier.every is None


@pytest.mark.parametrize(
    ("environment", "every"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_keepalives_are_sent_twice_in_the_manager_s_interval(
    environment: dict[str, str], every: float | None
) -> None:
    assert SystemdNotifier(environment).every == every


ACTIVATED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": sys.argv[2], "LISTEN_PID": sys.argv[3] or str(os.getpid())}
from chatroom.errors import ListenError
from chatroom.system.listening import endpoint
from chatroom.system.systemd import inherited
try:
    found = inherited()
    print([listener.getsockname() for listener in found], os.get_inheritable(3))
except ListenError as error:
    print(error)
"""


def activated(fd: int, count: str = "1", pid: str = "") -> str:
    """Return the output of a process that calls `inherited`, with `fd` as its descriptor 3."""
    command = [sys.executable, "-c", ACTIVATED, str(fd), count, pid]
    return subprocess.run(
        command, pass_fds=[fd], capture_output=True, text=True, check=True, timeout=30
    ).stdout.strip()


def test_sockets_from_the_manager_are_inherited() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = listener.getsockname()
        assert activated(listener.fileno()) == f"[{where}] False"
        assert activated(listener.fileno(), pid="1") == "[] True", "for another process"
        assert activated(listener.fileno(), count="0") == "[] True"
        assert activated(listener.fileno(), count="x") == "[] True"


def test_sockets_for_another_process_are_explained() -> None:
    ours = str(os.getpid())
    said = passed_to_another({"LISTEN_FDS": "2", "LISTEN_PID": "1"})
    assert said.startswith(f"LISTEN_PID is '1', but this is process {ours}: ")
    assert "must start the room with exec" in said
    for pid, count in ((ours, "2"), ("1", "0"), ("1", "x"), ("1", ""), ("", "2")):
        assert passed_to_another({"LISTEN_FDS": count, "LISTEN_PID": pid}) == ""


@pytest.mark.parametrize(("name", "formatted"), [(b"a test's", "a test's"), (b"\xff", r"\xff")])
def test_an_abstract_socket_is_formatted_as_systemd_does(name: bytes, formatted: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"\0chatroom/" + name)
        listener.listen()
        assert str(endpoint(listener)) == f"unix:@chatroom/{formatted}"


def test_a_descriptor_that_is_not_a_listener_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert activated(file.fileno()) == "descriptor 3 of LISTEN_FDS: Socket operation on " + (
            "non-socket"
        )
    with socket.socket() as idle:
        demand = "must be a listening stream socket (IP or Unix)"
        said = f"descriptor 3 of LISTEN_FDS {demand}"
        assert activated(idle.fileno()) == said
