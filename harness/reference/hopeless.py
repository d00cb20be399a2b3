"""Targets that are no servers at all, or do not end, start or print as a server should.

No clause is judged by them: they are there to show that who judges is not
hung, flooded, fooled, or left with processes behind. As they are made to be
left behind, each ends by itself after ten minutes.
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
from typing import NoReturn

from harness.reference.server import Member, Options, Server

AT_MOST = 600
"""Seconds that any of them lives."""

HOPELESS: dict[str, Callable[[Options], NoReturn]] = {}

Run = Callable[[Options], NoReturn]


def hopeless(name: str) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        def limited(options: Options) -> NoReturn:
            signal.alarm(AT_MOST)
            run(options)

        limited.__doc__ = run.__doc__
        HOPELESS[name] = limited
        return run

    return register


def wait() -> NoReturn:
    while True:
        signal.pause()


class ClosesAtOnce(Server):
    def accept(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.accept()[0].close()


class FloodsWithGarbage(Server):
    """Never reads, so as to need nothing but its thread for each newcomer."""

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


class HangsAfterAMessage(Server):
    def hear(self, member: Member, data: bytes) -> None:
        super().hear(member, data)
        for receiver in self.recipients(member):
            self.send(receiver)
        wait()


class IgnoresSignals(Server):
    def stop(self, *_: object) -> None:  # type: ignore[override]
        pass


class FloodsItsOutput(Server):
    def serve(self) -> NoReturn:
        threading.Thread(target=self.print, daemon=True).start()
        super().serve()

    def print(self) -> None:
        while True:
            os.write(1, b"I am a chat server, and I am very glad of it.\n" * 1000)


@hopeless("never-listens")
def never_listens(_: Options) -> NoReturn:
    """Runs, and does not listen."""
    wait()


@hopeless("never-accepts")
def never_accepts(options: Options) -> NoReturn:
    """Listens, and accepts nobody."""
    server = Server(options)
    server.listener = server.listen()
    server.announce()
    wait()


@hopeless("closes-at-once")
def closes_at_once(options: Options) -> NoReturn:
    """Closes each connection as soon as it has accepted it."""
    ClosesAtOnce(options).run()


@hopeless("floods-with-garbage")
def floods_with_garbage(options: Options) -> NoReturn:
    """Sends each newcomer all bytes there are, for ever, and listens to nobody."""
    FloodsWithGarbage(options).run()


@hopeless("hangs-after-a-message")
def hangs_after_a_message(options: Options) -> NoReturn:
    """Does nothing any more once a message was delivered; the system still accepts for it."""
    HangsAfterAMessage(options).run()


@hopeless("exits-with-3")
def exits_with_3(_: Options) -> NoReturn:
    """Says on standard error why it can't run, and exits with 3."""
    print("no chat today: the moon is wrong", file=sys.stderr, flush=True)
    sys.exit(3)


@hopeless("dies-by-signal")
def dies_by_signal(_: Options) -> NoReturn:
    """Is killed half-way through its start."""
    print("starting up ...", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    wait()


@hopeless("ignores-sigterm")
def ignores_sigterm(options: Options) -> NoReturn:
    """Serves as it should, and ends of SIGKILL only."""
    IgnoresSignals(options).run()


@hopeless("forks-and-leaves")
def forks_and_leaves(options: Options) -> NoReturn:
    """Serves from a child in a session of its own, as daemons do; the parent exits with 0."""
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.alarm(AT_MOST)  # A child does not inherit it.
    Server(options).run()


@hopeless("starts-late")
def starts_late(options: Options) -> NoReturn:
    """Serves as it should, from two seconds after its start."""
    time.sleep(2)
    Server(options).run()


@hopeless("prints-nothing")
def prints_nothing(options: Options) -> NoReturn:
    """Serves as it should, and does not print that it listens, though told to."""
    Server(Options(**{**vars(options), "announce": False})).run()


@hopeless("floods-its-output")
def floods_its_output(options: Options) -> NoReturn:
    """Serves as it should, and prints without end."""
    FloodsItsOutput(options).run()
