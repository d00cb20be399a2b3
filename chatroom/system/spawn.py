"""Spawn a process that has one end of a pair of sockets; reap processes that were not spawned."""

import contextlib
import os
import socket
from collections.abc import Callable
from multiprocessing import active_children, get_context
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


def reap_orphans() -> None:
    """Reap the ended children of this process that it has not spawned. Never waits.

    The kernel gives orphans to process 1, which is the room's main process in a container: a
    command of `docker exec` may leave some.
    """
    spawned = {child.pid for child in active_children()}  # this reaps ended ones of them
    with contextlib.suppress(ChildProcessError):  # no child at all
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in spawned:  # it has just ended, and is reaped after the next SIGCHLD
                break
            os.waitpid(ended.si_pid, 0)
