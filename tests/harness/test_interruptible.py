"""What is interrupted between any two lines leaves nothing behind, and hears of it once."""

import argparse
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any

import psutil
import pytest

from harness import arguments, interruptible, processes, target
from harness.interruptible import shielded, unshielded

#: Quick to start: it has nothing to import but sockets.
COMMAND = (
    f"{shlex.quote(sys.executable)} -S -c "
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
    """As they were, whatever a test does to them."""
    before = [(number, signal.getsignal(number)) for number in interruptible._CAUGHT]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", interruptible._CAUGHT)
def test_the_first_interrupts_and_the_next_do_not(number: signal.Signals) -> None:
    done = []
    before = signal.getsignal(number)
    with interruptible.interruptible():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        for other in interruptible._CAUGHT:
            signal.raise_signal(other)
        done.append("cleaned up")
    assert done == ["cleaned up"]
    assert signal.getsignal(number) is before


def test_a_shield_holds_until_it_is_over() -> None:
    done = []

    def work() -> None:
        with shielded():
            signal.raise_signal(signal.SIGTERM)
            done.append("shielded")
            with shielded():
                done.append("twice")
            done.append("once more")

    with interruptible.interruptible():
        with pytest.raises(KeyboardInterrupt):
            work()
        with shielded():
            done.append("nothing is due any more")
    assert done == ["shielded", "twice", "once more", "nothing is due any more"]


def test_what_is_unshielded_is_interrupted() -> None:
    done = []

    def work() -> None:
        with unshielded():
            signal.raise_signal(signal.SIGINT)
            done.append("never")

    with interruptible.interruptible(), shielded():
        with pytest.raises(KeyboardInterrupt):
            work()
        done.append("shielded again")
    assert done == ["shielded again"]


def test_what_is_due_is_taken_as_soon_as_it_may_be() -> None:
    done = []
    with interruptible.interruptible(), shielded():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), unshielded():
            done.append("never")
    assert done == []


def test_an_error_in_a_shield_gives_way_to_what_is_due() -> None:
    def work() -> None:
        with shielded():
            signal.raise_signal(signal.SIGINT)
            raise ValueError

    with interruptible.interruptible(), pytest.raises(KeyboardInterrupt):
        work()


@pytest.mark.parametrize("module", [arguments, target, processes, subprocess, threading])
def test_a_target_that_is_interrupted_at_any_line(module: ModuleType) -> None:
    """Each line of the module that is run while a target starts, starts anew, and ends."""
    lines: dict[int, None] = {}  # in their order
    assert run(lines.setdefault, module) == "whole"
    assert len(lines) > 5
    struck = 0
    for chosen in lines:
        left = [chosen]

        def strike(line: int, left: list[int] = left) -> None:
            if line in left:
                left.clear()
                signal.raise_signal(signal.SIGTERM)

        found = run(strike, module)
        # A line of a loop that waits is not run where nothing has to be waited for.
        assert found == ("whole" if left else "interrupted"), chosen
        struck += not left
    assert struck > len(lines) // 2


def run(at_line: Callable[[int], object], module: ModuleType) -> str:
    """Start it, start it anew, end it; `at_line` hears of each line of the module before it runs.

    Returns how that ended. All that was started is gone.
    """
    assert module.__file__

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            return trace if frame.f_code.co_filename == module.__file__ else None
        if event == "line":
            at_line(frame.f_lineno)
        return trace

    found = "whole"
    with interruptible.interruptible():
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with arguments.started(argparse.ArgumentParser(), COMMAND, None) as server:
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
    assert [one for one in commands if "-S" in one] == []
    assert [one for one in threading.enumerate() if "_read" in one.name] == []
    return found
