"""Spawn a process that has one end of a pair of sockets; reap orphans of other processes.

multiprocessing.Process is not used. It starts another process, a resource tracker, which a signal
to the process group would end or stop. The room has no named resources to track.
"""

import contextlib
import copyreg
import io
import os
import pickle
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from chatroom.system.channel import KIND
from chatroom.system.signals import stop_signals_blocked

_spawned: "weakref.WeakSet[subprocess.Popen[bytes]]" = weakref.WeakSet()
"""Processes that were spawned, for `reap_orphans`."""

# With -P, no module is imported from the working directory, where other users may write.
_PYTHON = (sys.executable, "-P", "-c")
_PROGRAM = (
    "import pickle, sys; given = sys.stdin.buffer;"
    " sys.path[:] = pickle.load(given); pickle.load(given)()"
)


def spawn(
    target: Callable[..., None], *args: Any
) -> tuple[subprocess.Popen[bytes], socket.socket, socket.socket]:
    """Spawn a process that calls `target(*args, end)` with one end of a pair of sockets.

    Return the process, a sentinel, and the other end. The sentinel can be read once the process has
    ended. `args` are pickled; sockets among them are shared. `ps` shows the target's module.

    Only the main process calls this. The new process blocks HANDLED_SIGNALS (signals.py). Raises
    OSError if memory, descriptors or processes run out; then nothing is left behind.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, KIND)
    with contextlib.ExitStack() as undo, theirs, stop_signals_blocked():
        undo.callback(ours.close)
        call, shared = _pickled(partial(target, *args, theirs))
        sentinel, lifeline = socket.socketpair()
        undo.callback(sentinel.close)
        with lifeline:
            process = subprocess.Popen(
                [*_PYTHON, _PROGRAM, target.__module__], stdin=lifeline.fileno(), pass_fds=shared
            )
        undo.pop_all()
    with contextlib.suppress(ConnectionError):  # it was killed meanwhile: the sentinel reports it
        sentinel.sendall(pickle.dumps(sys.path) + call)
    _spawned.add(process)
    return process, sentinel, ours


def reap_orphans() -> None:
    """Reap ended children that this process has not spawned. Never waits.

    The kernel gives orphans to process 1, which is the room's main process in a container: a
    command of `docker exec` may leave some.
    """
    spawned = {process.pid for process in _spawned if process.poll() is None}
    with contextlib.suppress(ChildProcessError):  # no child at all
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in spawned:  # it has just ended, and is reaped after the next SIGCHLD
                break
            os.waitpid(ended.si_pid, 0)


def _pickled(call: Callable[[], None]) -> tuple[bytes, list[int]]:
    """Return a pickled call, and the descriptors of the sockets in it."""
    shared: list[int] = []

    def reduce(found: socket.socket) -> tuple[type[socket.socket], tuple[int, ...]]:
        shared.append(found.fileno())
        return socket.socket, (-1, -1, -1, found.fileno())

    table: dict[type, Any] = {**copyreg.dispatch_table, socket.socket: reduce}
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer)
    pickler.dispatch_table = table
    pickler.dump(call)
    return buffer.getvalue(), shared
