"""Spawn a process that has one end of a pair of sockets."""

import contextlib
import socket
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from typing import Any

from chatroom.system.channel import KIND
from chatroom.system.signals import stop_signals_blocked


def spawn(
    target: Callable[..., None], *args: Any, kind: int = KIND
) -> tuple[SpawnProcess, socket.socket]:
    """Spawn a process that calls `target(*args, end)`; return it, and the other end.

    Only the main process calls this. The new process blocks HANDLED_SIGNALS (signals.py). Raises
    OSError if memory, descriptors or processes run out; then nothing is left behind.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with contextlib.ExitStack() as undo, theirs, stop_signals_blocked():
        undo.callback(ours.close)
        child = get_context("spawn").Process(target=target, args=(*args, theirs))
        child.start()
        undo.pop_all()
    return child, ours
