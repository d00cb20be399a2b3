"""Tests of docs/chatroom.service: its restrictions hold, and a room works under them."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients import Client
from tests.integration.confined import allowed, unit
from tests.integration.rooms import ROOT, WELCOME
from tests.programs import program

SERVICE = ROOT / "docs/chatroom.service"
SOCKET = ROOT / "docs/chatroom.socket"
SAID = unit(SERVICE)


@pytest.fixture(name="units")
def fixture_units(tmp_path: Path) -> Path:
    """Write both unit files, with a command that exists on this machine; return their folder."""
    text = SERVICE.read_text().replace("/opt/chatroom/bin/chatroom", sys.executable)
    (tmp_path / SERVICE.name).write_text(text)
    (tmp_path / SOCKET.name).write_text(SOCKET.read_text())
    return tmp_path


def analyze(*arguments: object) -> str:
    command = [program("systemd-analyze"), "--no-pager", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", [SERVICE.name, SOCKET.name])
def test_systemd_accepts_the_unit_files(name: str, units: Path) -> None:
    analyze("verify", units / name)


def test_the_exposure_is_the_one_in_the_docs(units: Path) -> None:
    told = analyze("security", "--offline=true", units / SERVICE.name)
    found = re.search(r"Overall exposure level for chatroom\.service: (\S+) SAFE", told)
    assert found is not None
    assert f"Overall exposure level for chatroom.service: {found[1]} SAFE" in (
        ROOT / "docs/service.md"
    ).read_text(encoding="utf-8")


def test_system_calls_that_no_room_needs_are_forbidden() -> None:
    program("systemd-analyze")
    calls = allowed(SAID["SystemCallFilter"])
    assert {"accept4", "eventfd2", "memfd_create", "recvmsg", "prlimit64"} <= calls
    assert not {"bpf", "mount", "ptrace", "reboot", "setuid"} & calls


# --- a confined room -----------------------------------------------------------------------------


def confined(folder: Path, *command: str) -> list[str]:
    """Return a command that runs `command` confined. Skip the test if the kernel forbids this."""
    program("systemd-analyze")
    found = [sys.executable, "-m", "tests.integration.confined", str(SERVICE), str(folder)]
    tried = subprocess.run(
        [*found, "/bin/true"], check=False, cwd=ROOT, env=environment(), capture_output=True
    )
    if tried.returncode and not os.environ.get("CI"):
        pytest.skip(f"the kernel forbids this: {tried.stderr.decode().splitlines()[-1]}")
    assert tried.returncode == 0, tried.stderr.decode()
    return [*found, *command]


def environment() -> dict[str, str]:
    """Return the environment without coverage, which would write to read-only folders."""
    return {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE")}


@dataclass
class Service:
    """A confined room, and the test as its service manager."""

    process: "subprocess.Popen[bytes]"
    notified: socket.socket
    folder: Path
    port: int

    def expect_notification(self, word: str) -> None:
        """Wait until the room sends a notification that contains `word`."""
        while word not in self.notified.recv(4096).decode().splitlines():
            pass

    def join(self) -> Client:
        client = Client("127.0.0.1", self.port, "127.0.0.1")
        client.expect(WELCOME)
        return client

    def status(self) -> Any:
        command = [sys.executable, "-m", "chatroom.status", "--json", "--run-dir", str(self.folder)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=30)
        return json.loads(done.stdout)


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    [start] = SAID["ExecStart"]
    options = [str(folder) if word == "/run/chatroom" else word for word in shlex.split(start)[1:]]
    command = confined(folder, sys.executable, "-m", "chatroom", *options, "--verbose")
    folder.chmod(int(SAID["RuntimeDirectoryMode"][0], 8))
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        notified.bind(str(folder / "notify"))
        notified.settimeout(30)
        fd = listener.fileno()
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{fd}', "bash", *command],
            cwd=ROOT,
            env=environment()
            | {"NOTIFY_SOCKET": notified.getsockname(), "WATCHDOG_USEC": "1000000"},
            pass_fds=[fd],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                yield Service(process, notified, folder, listener.getsockname()[1])
            finally:
                process.kill()


def test_a_room_works_under_the_restrictions(tmp_path: Path) -> None:
    """The room starts, serves a member, reports its status, reloads, survives a death, and
    stops."""
    with service(tmp_path) as here:
        try:
            here.expect_notification("READY=1")
        except (TimeoutError, AssertionError):
            here.process.kill()
            pytest.fail(here.process.communicate()[1].decode())
        here.expect_notification("WATCHDOG=1")
        with here.join() as client, here.join() as other:
            client.send("hello\n")
            other.expect("<127.0.0.1>hello\n")
            told = here.status()
            assert told["room"]["members"] == 2
            for worker in told["workers"]:
                os.kill(worker["pid"], signal.SIGKILL)
            client.send("still here\n")
            other.expect("<127.0.0.1>still here\n")
            [reload] = SAID["ExecReload"]
            subprocess.run(
                ["sh", "-c", reload], env={"MAINPID": str(here.process.pid)}, check=True, timeout=10
            )
            here.expect_notification("RELOADING=1")
            here.expect_notification("READY=1")
            other.send("and I\n")
            client.expect("<127.0.0.1>and I\n")
            here.process.terminate()
            here.expect_notification("STOPPING=1")
            assert here.process.wait(10) == 0
        said = here.process.communicate()[1].decode()
        assert "not permitted" not in said
        assert "Traceback" not in said


def test_the_restrictions_forbid_sockets_and_executable_memory(tmp_path: Path) -> None:
    """Without these restrictions, test_a_room_works_under_the_restrictions would prove nothing."""
    script = """
import mmap, os, socket, sys
def forbidden(what):
    try:
        what()
    except OSError as error:
        print(error.strerror)
    else:
        print("allowed")
forbidden(lambda: socket.socket(socket.AF_INET))
forbidden(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC))
forbidden(lambda: os.mkdir("/var/new"))
forbidden(lambda: os.mkdir(sys.argv[1] + "/new"))
forbidden(lambda: os.chroot("/"))
forbidden(lambda: os.nice(1))
forbidden(lambda: os.listdir("/proc/1"))
forbidden(lambda: os.memfd_create("log"))
"""
    done = subprocess.run(
        confined(tmp_path, sys.executable, "-c", script, str(tmp_path)),
        cwd=ROOT,
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.splitlines() == [
        "Address family not supported by protocol",
        "Operation not permitted",
        "Read-only file system",
        "allowed",
        "Operation not permitted",
        "Operation not permitted",
        "No such file or directory",
        "allowed",
    ]
