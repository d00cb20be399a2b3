"""A transcript's writer that runs in the test's own process, with a fake clock."""

import os
from pathlib import Path
from typing import Any

import pytest

from chatroom.log.ring import Geometry, Log
from chatroom.sidecars.transcript import process as module
from chatroom.sidecars.transcript.file import TranscriptFile
from chatroom.sidecars.transcript.process import PAUSE, TranscriptWriter
from chatroom.system import poller
from chatroom.system.channel import Channel, Record
from chatroom.system.doorbell import Doorbell
from tests.log.entries import append_message
from tests.sidecars.transcript.lines import read

ROOMY = Geometry(text=1 << 16, entries=1 << 10, kept=1 << 15, kept_entries=1 << 9)


class Stage:
    """A transcript's writer. The test acts as the main process."""

    def __init__(self, path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.path = path
        self.log = log
        self.bell = Doorbell.new()
        self.sentinel, self.alive = os.pipe()
        self.channel, theirs = Channel.pair()
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "time", lambda: 0.0)
        self.theirs = theirs
        self.waits: float | None = None
        self.files: list[int] = []
        self.writer = self.begin()

        def wait(sources: list[int], timeout: float | None) -> list[int]:
            self.waits = timeout
            ready = real(sources, 0)
            return [source for source in ready if isinstance(source, int)]

        real = poller.wait
        monkeypatch.setattr(module, "wait", wait)

    def begin(self, file: TranscriptFile | None = None, limit: int = 0) -> TranscriptWriter:
        """Start a writer, with the file of the previous writer or without a file."""
        self.writer = TranscriptWriter(
            self.path, "here", "run", self.theirs, self.log, self.bell, file, self.sentinel, limit
        )
        return self.writer

    def turn(self) -> list[Record]:
        """Run the writer until it would wait; return its reports."""
        told: list[Record] = []
        for _ in range(10_000):
            self.writer._wait()
            self.writer._turn()
            heard = self.reports()
            told += heard
            if not heard and self.is_idle:
                return told
        raise AssertionError("the writer never waits")

    @property
    def is_idle(self) -> bool:
        """True if nothing was due before the last turn, and nothing is due now."""
        return self.waits != 0.0 and self.writer._timeout() != 0.0

    def reports(self) -> list[Record]:
        """Return the reports that the writer has sent, and keep the files sent with them."""
        told: list[Record] = []
        for record, descriptors in self.channel.receive():
            self.files += descriptors
            told.append(record)
        return told

    def later(self, seconds: float) -> list[Record]:
        self.now += seconds
        return self.turn()

    def append(self, text: str, sender: int = 1) -> list[Record]:
        append_message(self.log, f"<{sender}>{text}\n".encode(), sender)
        self.bell.ring()
        return self.later(PAUSE)

    @property
    def texts(self) -> list[Any]:
        return [line["text"] for line in read(self.path) if "text" in line]

    def close(self) -> None:
        if self.writer._file is not None:
            self.writer._file.close()
        for fd in (self.sentinel, self.alive, *self.files):
            os.close(fd)
        self.bell.close()
        self.channel.close()
        self.theirs.close()
