"""Fake child processes, which a test plays, and the event loop that watches them."""

import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from chatroom.system import spawn
from chatroom.system.channel import Channel, Record
from tests.system.loops import ManualLoop


class PlayedProcess:
    """A fake process, which the test plays."""

    def __init__(self, args: tuple[Any, ...], error: OSError | None = None) -> None:
        self.pid = 1
        self.arguments = args[:-1]
        end: socket.socket = args[-1]
        self.channel = Channel(end.dup())
        self.exitcode: int | None = None
        self.sentinel, self._alive = os.pipe()
        self._error = error
        self.descriptors: list[int] = []
        """Descriptors received with the records."""

    def start(self) -> None:
        if self._error is not None:
            self.die(0)
            raise self._error

    def told(self) -> list[Record]:
        """Return the records received since the last call."""
        records = []
        for record, descriptors in self.channel.receive():
            records.append(record)
            self.descriptors += descriptors
        return records

    def die(self, exitcode: int) -> None:
        if self.exitcode is None:
            self.exitcode = exitcode
            self.channel.close()
            for fd in (self._alive, *self.descriptors):
                os.close(fd)

    def kill(self) -> None:
        self.die(-9)

    def close(self) -> None:
        """Nothing to do: the test closes the sentinel."""

    def join(self) -> None:
        assert self.exitcode is not None, "the main process would wait for it"


class Children:
    """The started processes, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = ManualLoop()
        self.started: list[PlayedProcess] = []
        self.error: OSError | None = None
        """Error for the next starts to raise."""
        context = SimpleNamespace(Process=self._start)
        monkeypatch.setattr(spawn, "get_context", lambda kind: context)

    def _start(self, target: object, args: tuple[Any, ...]) -> PlayedProcess:
        self.started.append(PlayedProcess(args, self.error))
        return self.started[-1]

    @property
    def last(self) -> PlayedProcess:
        return self.started[-1]

    def close(self) -> None:
        for process in self.started:
            assert process.exitcode is not None, "a process was left behind"
            os.close(process.sentinel)
        self.loop.close()
