"""Signals in the first and the last moments of a process.

Python starts before it runs the first line of a program. In this phase, signals act as in any
Python program. The tests send signals from hooks in the process, not after fixed times.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.rooms import ROOT, command, started
from tests.integration.waiting import PATIENCE

KEPT = [signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE]
"""Signals that do not stop a room."""

AT_IMPORT = """
import os, sys

def look(event, arguments):
    if event == "import" and arguments[0] == {module!r}:
        open({token!r}, "w").close()
        os.kill(os.getpid(), {number})

if sys.argv[0] != "-c":  # a child of a room is started with -c
    sys.addaudithook(look)
"""

AT_THE_END = """
import os, sys

class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), open=open):
        open({token!r}, "w").close()
        kill(pid, {number})

if sys.argv[0] != "-c":
    sys.last = Last()  # Python deletes it after its own handlers of signals
"""


def prepared(tmp_path: Path, code: str, number: signal.Signals, module: str = "") -> dict[str, str]:
    """Return the environment of a Python process that sends the signal to itself at a chosen
    moment."""
    token = str(tmp_path / "signalled")
    text = code.format(token=token, number=int(number), module=module)
    (tmp_path / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}


FIRST = ["chatroom.cli", "chatroom.supervisor.registry"]
"""Two modules that a starting room imports: the first one early, the second one late."""


@pytest.mark.sample(3)
@pytest.mark.parametrize("module", FIRST)
@pytest.mark.parametrize("number", KEPT)
def test_a_starting_room_is_not_ended_by_a_signal_that_stops_no_room(
    number: signal.Signals, module: str, tmp_path: Path
) -> None:
    environment = prepared(tmp_path, AT_IMPORT, number, module)
    with started(command("--workers", 1), environment=environment, measured=False) as here:
        here.listen()
        assert (tmp_path / "signalled").exists()
        here.join()
        here.stop()


@pytest.mark.sample(2)
@pytest.mark.parametrize("module", FIRST)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_ends_a_room_that_has_not_begun(
    number: signal.Signals, module: str, tmp_path: Path
) -> None:
    """The signal ends the process at once, without a traceback, because nothing needs a cleanup
    yet."""
    environment = prepared(tmp_path, AT_IMPORT, number, module)
    with started(command("--workers", 1), environment=environment, measured=False) as here:
        here.expect_exit(-number)


@pytest.mark.sample(3)
@pytest.mark.parametrize("number", [*KEPT, signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_last_moment_does_not_change_the_exit_code(
    number: signal.Signals, tmp_path: Path
) -> None:
    environment = prepared(tmp_path, AT_THE_END, number)
    with started(command("--workers", 1), environment=environment, measured=False) as here:
        here.listen()
        here.stop()
        assert (tmp_path / "signalled").exists()


PROGRAMS = {
    "chatroom.status": ("chatroom.cli", -signal.SIGINT),
    "chatroom.admin": ("chatroom.cli", -signal.SIGINT),
    "chatroom.web": ("chatroom.cli", -signal.SIGINT),
    "chatroom.client": ("chatroom.client.command", 0),
    "harness": ("harness.cli", -signal.SIGINT),
}
"""For each program, a module that it imports early, and its exit code after Ctrl-C."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_ctrl_c_during_the_imports_prints_nothing(program: str, tmp_path: Path) -> None:
    module, code = PROGRAMS[program]
    ended = subprocess.run(
        [sys.executable, "-m", program],
        env={**os.environ, **prepared(tmp_path, AT_IMPORT, signal.SIGINT, module)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, b"", b"")
