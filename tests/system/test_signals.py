"""Tests of blocked signals in child processes, and of the check for a terminal."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chatroom.system.signals import HANDLED_SIGNALS, stop_signals_blocked

ROOT = Path(__file__).parents[2]


def blocked() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def test_stop_signals_are_blocked_while_a_process_starts() -> None:
    before = blocked()
    with stop_signals_blocked():
        assert blocked() == before | set(HANDLED_SIGNALS)
    assert blocked() == before


def test_stop_signals_are_unblocked_after_a_failed_start() -> None:
    before = blocked()
    with pytest.raises(OSError, match="no memory"), stop_signals_blocked():
        raise OSError("no memory")
    assert blocked() == before


ON_TERMINAL = """
import os, pty, signal
from chatroom.system.signals import on_terminal
before = on_terminal()
begun, ended = os.pipe(), os.pipe()
child, terminal = pty.fork()
if not child:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.close(begun[0])
    os.close(ended[1])
    os.write(begun[1], b"1" if on_terminal() else b"0")
    os.read(ended[0], 1)
    os.write(begun[1], b"1" if on_terminal() else b"0")
    os._exit(0)
os.close(begun[1])
while_it_is_there = os.read(begun[0], 1)
os.close(terminal)
os.close(ended[1])
print(before, while_it_is_there == b"1", os.read(begun[0], 1) == b"1")
"""


def test_a_terminal_is_gone_after_its_window_is_closed() -> None:
    found = subprocess.run(
        [sys.executable, "-c", ON_TERMINAL],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
        timeout=30,
        check=True,
        text=True,
    )
    assert found.stdout.split() == ["False", "True", "False"]
