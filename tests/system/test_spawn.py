"""Tests of a spawned process: its arguments, its end, and the end of its parent."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chatroom.system.channel import PARENT, Channel
from chatroom.system.signals import HANDLED_SIGNALS
from chatroom.system.spawn import spawn
from tests.integration.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


def say(text: str, shared: socket.socket, end: socket.socket) -> None:
    shared.send(text.encode())
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    Channel(end).send({"blocked": sorted(blocked), "path": sys.path})
    sys.exit(3)


def wait_for_the_end(end: socket.socket) -> None:
    Channel(end).send({"pid": os.getpid()})
    select.select([PARENT], [], [])


def end_with_7(end: socket.socket) -> None:
    os._exit(7)


def wait_for_the_channel(end: socket.socket) -> None:
    end.setblocking(True)
    end.recv(1)


def fail_at_once(end: socket.socket) -> None:
    os._exit(1)


def readable(source: socket.socket | int) -> bool:
    return bool(select.select([source], [], [], PATIENCE)[0])


def test_a_spawned_process_has_its_arguments_and_blocks_the_signals() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process, sentinel, end = spawn(say, "hello", theirs)
        with sentinel, end:
            assert readable(sentinel)
            assert process.wait() == 3
            assert ours.recv(10) == b"hello"
            record, _ = next(Channel(end).receive())
    assert record == {"blocked": sorted(HANDLED_SIGNALS), "path": sys.path}


def test_a_process_may_end_before_it_reads_its_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The arguments are sent to a process that does not read them. The sentinel reports the end of
    this process."""
    monkeypatch.setattr("chatroom.system.spawn._PROGRAM", "raise SystemExit(4)")
    with socket.socket() as shared:
        process, sentinel, end = spawn(say, "x" * (1 << 22), shared)
    with sentinel, end:
        assert readable(sentinel)
        assert process.wait() == 4


@pytest.mark.parametrize("refused", ["process", "descriptor"])
def test_a_failed_spawn_leaves_nothing(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/dev/fd"), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    pair, pairs = socket.socketpair, iter("12")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no more")

    def give_one(*arguments: int) -> tuple[socket.socket, socket.socket]:
        if next(pairs) == "2":
            raise OSError("no more")
        return pair(*arguments)

    if refused == "process":
        monkeypatch.setattr(subprocess, "Popen", refuse)
    else:
        monkeypatch.setattr(socket, "socketpair", give_one)
    with pytest.raises(OSError, match="no more"):
        spawn(fail_at_once)
    assert (os.listdir("/dev/fd"), signal.pthread_sigmask(signal.SIG_BLOCK, [])) == before


SPAWN_AND_WAIT = """
import sys, time
from chatroom.system.channel import PARENT, Channel
from chatroom.system.spawn import spawn
from tests.system.test_spawn import wait_for_the_end
_, _, end = spawn(wait_for_the_end)
end.setblocking(True)
print(end.recv(100).decode(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd on this system")
def test_a_spawned_process_sees_the_end_of_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SPAWN_AND_WAIT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        told = parent.stdout.readline()
        spawned = os.pidfd_open(int("".join(filter(str.isdigit, told))))
        parent.kill()
    try:
        assert readable(spawned), "the spawned process has not ended"
    finally:
        os.close(spawned)


def test_no_module_comes_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other users may be able to write to the working directory, for example to /tmp."""
    (tmp_path / "pickle.py").write_text("raise SystemExit(5)")
    monkeypatch.chdir(tmp_path)
    process, sentinel, end = spawn(fail_at_once)
    with sentinel, end:
        assert readable(sentinel)
        assert process.wait() == 1


def test_a_spawn_starts_no_other_process() -> None:
    """multiprocessing would start a resource tracker. A signal to the process group would end
    it."""
    before = children()
    process, sentinel, end = spawn(wait_for_the_end)
    with sentinel, end:
        assert readable(end)
        assert children() - before == {process.pid}
        process.kill()
        process.wait()


def children() -> set[int]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(map(int, path.read_text().split()))


#: A process with two spawned children and two other children. One child of each kind has ended.
FAMILY = """
import os, signal, subprocess
from multiprocessing.connection import wait
from chatroom.system.spawn import reap_orphans, spawn
from tests.system.test_spawn import end_with_7, wait_for_the_channel

if __name__ == "__main__":
    reap_orphans()  # no child at all
    (ended, sentinel, _), (lives, _, end_of_life) = spawn(end_with_7), spawn(wait_for_the_channel)
    wait([sentinel])
    orphan, other = os.fork(), 0
    if not orphan:
        os._exit(3)
    hold, release = os.pipe()
    other = os.fork()
    if not other:
        os.close(release)
        os.read(hold, 1)
        os._exit(4)
    for pid in (ended.pid, orphan):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    reap_orphans()
    try:
        os.waitpid(orphan, 0)
    except ChildProcessError:
        print("orphan reaped")
    print(ended.wait(), lives.poll())
    os.close(release)
    print(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
    end_of_life.close()
    print(lives.wait())
"""


def test_only_ended_children_that_were_not_spawned_are_reaped(tmp_path: Path) -> None:
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.splitlines() == ["orphan reaped", "7 None", "4", "0"], done.stderr
