"""Fake child processes, which the test controls, and the event loop that watches them."""

import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from chatroom.supervisor import child
from chatroom.system.channel import KIND, Channel, Record
from tests.system.loops import ManualLoop


class FakeProcess:
    """A child process that the test controls; there is no real process."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.pid = 1
        self.arguments = args[:-1]
        end: socket.socket = args[-1]
        self.channel = Channel(end)
        self.exitcode: int | None = None
        self.sentinel, self._alive = socket.socketpair()
        self.descriptors: list[int] = []
        """Descriptors that came with the records."""

    def records(self) -> list[Record]:
        """Return the records that the child has received since the last call."""
        records = []
        for record, descriptors in self.channel.receive():
            records.append(record)
            self.descriptors += descriptors
        return records

    def die(self, exitcode: int) -> None:
        if self.exitcode is None:
            self.exitcode = exitcode
            self.channel.close()
            self._alive.close()
            for fd in self.descriptors:
                os.close(fd)

    def kill(self) -> None:
        self.die(-9)

    def wait(self) -> int:
        assert self.exitcode is not None, "the main process would wait for a living process"
        return self.exitcode


class Spawned(Protocol):
    """Attribute of a fake process that `fake_spawn` uses."""

    sentinel: socket.socket


def fake_spawn(monkeypatch: pytest.MonkeyPatch, make: Callable[[tuple[Any, ...]], Spawned]) -> None:
    """Replace `spawn`. `make` gets the target's arguments and the child's end of the channel."""

    def spawn(target: object, *args: Any) -> tuple[Spawned, socket.socket, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, KIND)
        try:
            process = make((*args, theirs))
        except OSError:
            ours.close()
            theirs.close()
            raise
        return process, process.sentinel, ours

    monkeypatch.setattr(child, "spawn", spawn)


class Children:
    """All started processes, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = ManualLoop()
        self.started: list[FakeProcess] = []
        self.error: OSError | None = None
        """Error that the next starts raise."""
        fake_spawn(monkeypatch, self._start)

    def _start(self, args: tuple[Any, ...]) -> FakeProcess:
        if self.error is not None:
            raise self.error
        self.started.append(FakeProcess(args))
        return self.started[-1]

    @property
    def last(self) -> FakeProcess:
        return self.started[-1]

    def close(self) -> None:
        for process in self.started:
            assert process.exitcode is not None, "a process was not ended"
        self.loop.close()
