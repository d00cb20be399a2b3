"""The handling of signals. A command that is interrupted at any line leaves no process behind."""

import argparse
import contextlib
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import psutil
import pytest

from harness.cli import arguments, clause_help
from harness.cli.main import main
from harness.errors import CannotJudge
from harness.target import interrupts, processes, target
from harness.target.interrupts import allow_signals, defer_signals
from harness.target.processes import ROOT, Server
from tests.harness.noted import NOTED, no_server_is_left, servers_are_there
from tests.selection import Sample

PYTHON = shlex.quote(sys.executable)

#: A server that starts fast, because it imports few modules.
COMMAND = (
    f"{PYTHON} -S -c "
    + shlex.quote(
        "import _socket, sys, time\n"
        "server = _socket.socket()\n"
        "server.bind((sys.argv[1], int(sys.argv[2])))\n"
        "server.listen()\n"
        "time.sleep(60)"
    )
    + " {host} {port}"
)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Set the default handler of SIGHUP, even under nohup. Restore all handlers after the test."""
    before = [(number, signal.getsignal(number)) for number in interrupts.INTERRUPTS]
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", interrupts.INTERRUPTS)
def test_the_first_signal_interrupts_and_the_next_ones_do_not(number: signal.Signals) -> None:
    done = []
    before = signal.getsignal(number)
    with interrupts.interrupt_on_signals():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        for other in interrupts.INTERRUPTS:
            signal.raise_signal(other)
        done.append("cleaned up")
    assert done == ["cleaned up"]
    assert signal.getsignal(number) is before


def test_a_signal_after_the_clean_up_time_interrupts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exception of the first signal is lost in `__del__`, where Python ignores exceptions."""
    monkeypatch.setattr(interrupts, "SECONDS_TO_CLEAN_UP", 0)
    with interrupts.interrupt_on_signals():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)


def test_signals_are_deferred_until_the_block_is_over() -> None:
    done = []

    def work() -> None:
        with defer_signals():
            signal.raise_signal(signal.SIGTERM)
            done.append("deferred")
            with defer_signals():
                done.append("twice")
            done.append("once more")

    with interrupts.interrupt_on_signals():
        with pytest.raises(KeyboardInterrupt):
            work()
        with defer_signals():
            done.append("no signal is pending")
    assert done == ["deferred", "twice", "once more", "no signal is pending"]


def test_a_block_that_allows_signals_is_interrupted() -> None:
    done = []

    def work() -> None:
        with allow_signals():
            signal.raise_signal(signal.SIGINT)
            done.append("never")

    with interrupts.interrupt_on_signals(), defer_signals():
        with pytest.raises(KeyboardInterrupt):
            work()
        done.append("deferred again")
    assert done == ["deferred again"]


def test_a_pending_signal_interrupts_as_soon_as_signals_are_allowed() -> None:
    done = []
    with interrupts.interrupt_on_signals(), defer_signals():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), allow_signals():
            done.append("never")
    assert done == []


def test_a_pending_signal_replaces_an_error_of_the_block() -> None:
    def work() -> None:
        with defer_signals():
            signal.raise_signal(signal.SIGINT)
            raise ValueError

    with interrupts.interrupt_on_signals(), pytest.raises(KeyboardInterrupt):
        work()


def test_defer_signals_outside_of_interrupt_on_signals_has_no_effect() -> None:
    with defer_signals(), interrupts.interrupt_on_signals(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_nested_interrupt_blocks_count_signals_together() -> None:
    with interrupts.interrupt_on_signals():
        with interrupts.interrupt_on_signals(), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the second signal


def test_sighup_stays_ignored_under_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts.interrupt_on_signals():
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_interrupt_on_signals_does_nothing_in_another_thread() -> None:
    done = []

    def work() -> None:
        with interrupts.interrupt_on_signals():
            done.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [before]


@pytest.mark.parametrize(
    ("error", "status", "complaint"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (CannotJudge("x y"), 2, "python -m harness explain: the harness could not judge: x y\n"),
    ],
)
def test_each_exception_has_its_exit_status_and_message(
    error: BaseException,
    status: int,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*_: object) -> int:
        raise error

    monkeypatch.setattr(clause_help, "run", run)
    assert main(["explain", "CAST-2"]) == status
    assert capsys.readouterr().err == complaint


HARNESS = [sys.executable, "-m", "harness"]


def surroundings(folder: Path) -> dict[str, Any]:
    """Return the arguments of Popen that set the folder and the environment of the harness."""
    variables = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TMPDIR": str(folder)}
    return {"cwd": folder, "env": variables}


@pytest.mark.sample(3)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("command", "status", "last"),
    [
        ([*HARNESS, "probe"], 130, "interrupted"),
        ([*HARNESS, "simulate", "classroom"], 130, "interrupted"),
        ([*HARNESS, "limit"], 130, "interrupted"),
        ([sys.executable, "-m", "pytest", "--pyargs", "harness.conformance"], 2, ""),
    ],
    ids=["probe", "simulate", "limit", "pytest"],
)
def test_a_command_ends_its_target_on_a_signal(
    command: list[str], status: int, last: str, number: signal.Signals, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [*command, "--command", NOTED],
        **surroundings(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            servers_are_there(tmp_path)
            process.send_signal(number)
            _, said = process.communicate(timeout=40)
        finally:
            process.kill()
    assert process.returncode == status, said
    assert "Traceback" not in said
    assert (said.splitlines() or [""])[-1] == last
    no_server_is_left(tmp_path)


def test_a_closed_terminal_ends_the_target_and_the_command(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *HARNESS, "simulate", "classroom", "--command", NOTED],
        **surroundings(tmp_path),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        servers_are_there(tmp_path)
    finally:
        os.close(ours)
    assert process.wait(40) == 130
    no_server_is_left(tmp_path)


def test_an_error_of_stop_does_not_hide_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(_: object) -> None:
        raise CannotJudge("process 7 can't be ended")

    monkeypatch.setattr(target.Target, "stop", stop)
    monkeypatch.setattr(target.Target, "start", lambda _: None)
    parser = argparse.ArgumentParser(prog="prog")
    named = argparse.Namespace(command=None, target=["127.0.0.1:9"])
    with arguments.started(parser, named):
        pass
    with pytest.raises(KeyboardInterrupt), arguments.started(parser, named):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == 2 * "prog: process 7 can't be ended\n"


def test_a_wait_for_readiness_can_be_interrupted() -> None:
    """The server has closed its output and runs on, so the wait would last 30 s."""
    server = Server(["sh", "-c", "exec >/dev/null 2>&1; exec sleep 60"], re.compile(b"ready"))
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    began = time.monotonic()
    try:
        timer.start()
        with interrupts.interrupt_on_signals(), pytest.raises(KeyboardInterrupt):
            server.wait_ready(30)
    finally:
        timer.cancel()
        server.stop()
    assert time.monotonic() - began < 25


@pytest.mark.parametrize(
    "module", [arguments, contextlib, target, processes, subprocess, threading]
)
@pytest.mark.timeout(300)
def test_a_target_that_is_interrupted_at_any_line(module: ModuleType, sample: Sample) -> None:
    """Interrupt at each line of the module that runs while a target starts, restarts and ends."""
    lines: dict[int, None] = {}  # a set that keeps the order
    assert run(lines.setdefault, module) == "whole"
    assert len(lines) > 5
    struck = 0
    sampled = sample(lines, 8)
    for chosen in sampled:
        left = [chosen]

        def strike(line: int, left: list[int] = left) -> None:
            if line in left:
                left.clear()
                signal.raise_signal(signal.SIGTERM)

        found = run(strike, module)
        # The line does not run this time if it is in a waiting loop and no wait is needed.
        assert found == ("whole" if left else "interrupted"), chosen
        struck += not left
    assert struck > len(sampled) // 2


def run(at_line: Callable[[int], object], module: ModuleType) -> str:
    """Start, restart and end a target. Call `at_line` before each line of the module runs.

    Return "whole" or "interrupted". Assert that no process and no thread is left.
    """
    assert module.__file__

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            return trace if frame.f_code.co_filename == module.__file__ else None
        if event == "line":
            at_line(frame.f_lineno)
        return trace

    found = "whole"
    named = argparse.Namespace(command=COMMAND, target=None)
    with interrupts.interrupt_on_signals():
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with arguments.started(argparse.ArgumentParser(), named) as server:
                server.fresh()
        except KeyboardInterrupt:
            found = "interrupted"
        finally:
            sys.settrace(before)
    commands = []
    for process in psutil.Process().children():
        if process.status() != psutil.STATUS_ZOMBIE:
            commands.append(process.cmdline())
            process.kill()
    assert [command for command in commands if "-S" in command] == []
    assert [thread for thread in threading.enumerate() if "_read" in thread.name] == []
    return found
