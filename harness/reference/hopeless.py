"""Targets that are not servers, or do not start, end or print as a server should.

These targets break no particular clause. They are for tests of the harness itself: with such a
target, the harness must not hang, fill its memory, report a pass, or leave a process behind. Each
target ends by itself after ten minutes, in case the harness fails to end it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from harness.reference.server import Member, Options, Server

AT_MOST = 600
"""Maximum lifetime of a target, in seconds."""

HOPELESS: dict[str, Callable[[Options], None]] = {}
"""Targets by name. Each is a function that runs the target and does not return."""


def hopeless(name: str) -> Callable[[Any], Any]:
    """Register a target under a name. The target is a server class, or a function that runs it."""

    def register(target: Any) -> Any:
        def limited(options: Options) -> None:
            signal.alarm(AT_MOST)
            if isinstance(target, type):
                target(options).run()
            else:
                target(options)

        limited.__doc__ = target.__doc__
        HOPELESS[name] = limited
        return target

    return register


def wait() -> NoReturn:
    while True:
        signal.pause()


@hopeless("never-listens")
def never_listens(_: Options) -> NoReturn:
    """Runs, but does not listen on its port."""
    wait()


@hopeless("never-accepts")
def never_accepts(options: Options) -> NoReturn:
    """Listens on its port, but accepts no connection."""
    server = Server(options)
    server.listener = server.listen()
    server.announce()
    wait()


@hopeless("closes-at-once")
class ClosesAtOnce(Server):
    """Closes each connection as soon as it has accepted it."""

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.accept()[0].close()


@hopeless("floods-with-garbage")
class FloodsWithGarbage(Server):
    """Sends all byte values to each client without end, and reads nothing."""

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            connection = self.listener.accept()[0]
            connection.setblocking(True)
            threading.Thread(target=self.flood, args=(connection,), daemon=True).start()

    def flood(self, connection: socket.socket) -> None:
        garbage = bytes(range(256)) * 64
        with contextlib.suppress(OSError), connection:
            while True:
                connection.sendall(garbage)


@hopeless("hangs-after-a-message")
class HangsAfterAMessage(Server):
    """Hangs after it has delivered a message. The kernel still accepts connections for it."""

    def hear(self, member: Member, data: bytes) -> None:
        super().hear(member, data)
        for receiver in self.recipients(member):
            self.send(receiver)
        wait()


@hopeless("exits-with-3")
def exits_with_3(_: Options) -> NoReturn:
    """Prints a reason on standard error, and exits with status 3."""
    print("no chat today: the moon is wrong", file=sys.stderr, flush=True)
    sys.exit(3)


@hopeless("dies-by-signal")
def dies_by_signal(_: Options) -> NoReturn:
    """Kills itself during its start."""
    print("starting up ...", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    wait()


@hopeless("ignores-sigterm")
class IgnoresSignals(Server):
    """Serves correctly, but ends only on SIGKILL."""

    def stop(self, *_: object) -> None:  # type: ignore[override]
        pass


@hopeless("forks-and-leaves")
def forks_and_leaves(options: Options) -> NoReturn:
    """Serves from a daemon child in its own session; the parent exits with status 0."""
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.alarm(AT_MOST)  # a child does not inherit the alarm of its parent
    Server(options).run()


@hopeless("starts-late")
def starts_late(options: Options) -> NoReturn:
    """Serves correctly, but starts to listen only after two seconds."""
    time.sleep(2)
    Server(options).run()


@hopeless("prints-nothing")
class PrintsNothing(Server):
    """Serves correctly, but prints nothing, even with --announce."""

    def announce(self) -> None:
        pass


@hopeless("floods-its-output")
class FloodsItsOutput(Server):
    """Serves correctly, but prints without end."""

    def serve(self) -> NoReturn:
        threading.Thread(target=self.print, daemon=True).start()
        super().serve()

    def print(self) -> None:
        while True:
            os.write(1, b"I am a chat server, and I am very glad of it.\n" * 1000)
