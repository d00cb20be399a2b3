"""Reap processes that were not spawned."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: A process with two spawned children, of which one has ended, and two others, one of which ended.
FAMILY = """
import os, signal, subprocess
from multiprocessing.connection import wait
from chatroom.system.spawn import reap_orphans, spawn

def end(socket):
    os._exit(7)

def stay(socket):
    socket.recv(1)

if __name__ == "__main__":
    reap_orphans()  # no child at all
    (ended, _), (lives, end_of_life) = spawn(end), spawn(stay)
    wait([ended.sentinel])
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
    ended.join()
    print(ended.exitcode, lives.is_alive())
    os.close(release)
    print(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
    end_of_life.close()
    lives.join()
    print(lives.exitcode)
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
    assert done.stdout.splitlines() == ["orphan reaped", "7 True", "4", "0"], done.stderr
