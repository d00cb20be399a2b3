"""Each hopeless target fails in the way that its name says."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from pathlib import Path

from harness.reference.hopeless import HOPELESS
from tests.harness.reference.targets import QUIET, Client, Target, room
from tests.integration.waiting import PATIENCE
from tests.system.ports import free_port


def hopeless(name: str, port: int = 0) -> Target:
    return Target("--hopeless", name, port=port)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


def talk(client: Client, other: Client) -> None:
    client.send(b"hello\n")
    other.expect(client.prefix + b"hello\n")


def test_never_listens() -> None:
    port = free_port()
    with hopeless("never-listens", port) as here, selectors.DefaultSelector() as selector:
        assert here.process.stdout
        selector.register(here.process.stdout, selectors.EVENT_READ)
        assert not selector.select(1)
        assert not listens(port)
        assert here.stop() == -signal.SIGTERM


def test_never_accepts() -> None:
    with room("--hopeless", "never-accepts") as here:
        assert here.knock().hear_for(QUIET) == b""
        here.stop()


def test_closes_at_once() -> None:
    with room("--hopeless", "closes-at-once") as here:
        for _ in range(3):
            assert here.knock().receive_rest() == b""
        assert here.stop() == 0


def test_floods_with_garbage() -> None:
    with room("--hopeless", "floods-with-garbage") as here:
        for client in (here.knock(), here.knock()):
            while len(client.unread) < 1 << 24:
                assert client.receive()
        client.close()
        assert here.knock().receive()
        assert here.stop() == 0


def test_hangs_after_a_message() -> None:
    with room("--hopeless", "hangs-after-a-message") as here:
        member, other = here.join_all(2)
        talk(member, other)
        other.send(b"hello?\n")
        assert member.hear_for(QUIET) == b""
        assert here.knock().hear_for(QUIET) == b""
        assert here.stop() == 0


def test_exits_with_3() -> None:
    with hopeless("exits-with-3") as here:
        assert here.errors() == b"no chat today: the moon is wrong\n"
        assert here.process.returncode == 3


def test_dies_by_signal() -> None:
    with hopeless("dies-by-signal") as here:
        assert here.errors() == b"starting up ...\n"
        assert here.process.returncode == -signal.SIGKILL


def test_ignores_sigterm() -> None:
    with room("--hopeless", "ignores-sigterm") as here:
        member, other = here.join_all(2)
        for number in (signal.SIGTERM, signal.SIGINT):
            here.process.send_signal(number)
            talk(member, other)
        assert here.process.poll() is None


def test_forks_and_leaves() -> None:
    with room("--hopeless", "forks-and-leaves") as here:
        assert here.process.wait(PATIENCE) == 0
        member, other = here.join_all(2)
        talk(member, other)
        child = child_that_listens(here.port)
        assert os.getsid(child) == child
        os.kill(child, signal.SIGTERM)
        assert member.receive_rest() == b""


def child_that_listens(port: int) -> int:
    """Return the pid of the process that listens at the port, from the kernel's tables."""
    inode = next(
        fields[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "0A" and fields[1].endswith(f":{port:04X}")
    )
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if os.readlink(descriptor) == f"socket:[{inode}]":
                    return int(process.name)
    raise AssertionError("no process listens at the port")


def test_starts_late() -> None:
    port = free_port()
    with hopeless("starts-late", port) as here, selectors.DefaultSelector() as selector:
        assert here.process.stdout
        selector.register(here.process.stdout, selectors.EVENT_READ)
        assert not selector.select(1.5)
        here.listening()
        talk(*here.join_all(2))


def test_prints_nothing() -> None:
    port = free_port()
    with hopeless("prints-nothing", port) as here:
        while not listens(port):
            assert here.process.poll() is None
        here.port = port
        talk(*here.join_all(2))
        here.stop()
        assert here.process.communicate(timeout=PATIENCE) == (b"", b"")


def test_floods_its_output() -> None:
    with room("--hopeless", "floods-its-output") as here:
        assert here.process.stdout
        talk(*here.join_all(2))
        assert len(here.process.stdout.read(1 << 22)) == 1 << 22
        assert here.join().unread == b""
        assert here.stop() == 0


def test_each_target_has_a_description_and_a_test() -> None:
    for name, target in HOPELESS.items():
        assert (target.__doc__ or "").endswith("."), name
        assert f"test_{name.replace('-', '_')}" in globals(), name
