"""Helpers for tests of the log and of its readers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from chatroom.log.origin import Origin
from chatroom.log.ring import Batch, Geometry, Log
from chatroom.system.memory import anonymous_file

#: Sizes of a log so small that a few messages wrap both of its rings.
TINY = Geometry(text=64, entries=16, kept=16, kept_entries=4)


@contextmanager
def new_log(geometry: Geometry = TINY, workers: int = 1) -> Iterator[Log]:
    fd = anonymous_file("a test's log", geometry.file_size)
    try:
        log = Log(fd, geometry)
        log.format()
        for worker in range(workers):
            log.prepare_seat(worker)
        yield log
    finally:
        os.close(fd)


class Run(NamedTuple):
    """An entry to append, or an entry of the log with its text."""

    sender: int
    text: bytes
    reach: int = 0
    messages: int = 1


def batch_of(*runs: Run) -> Batch:
    """Return a batch of runs. The prefix of a run is its text up to the first ">"."""
    batch = Batch()
    for run in runs:
        origin = Origin(f"at{run.sender}", run.text.find(b">") + 1)
        batch.add(run.sender, origin.pack(), run.reach, run.text, run.messages)
    return batch


def append(log: Log, *runs: Run) -> int | None:
    """Append runs as one batch; return the offset of its start, or None if the log has no space for
    it."""
    with log:
        return log.append(batch_of(*runs))


def append_message(log: Log, text: bytes, sender: int = 1) -> int:
    """Append one message, for which the log must have space; return its offset."""
    start = append(log, Run(sender, text))
    assert start is not None
    return start


def head(log: Log) -> int:
    with log:
        return log.head


def text(log: Log, start: int, end: int) -> bytes:
    return b"".join(log.views(start, end))


def runs(log: Log, first: int = 1, last: int | None = None) -> list[Run]:
    """Return the entries from position `first` up to `last`, or up to the head, as runs."""
    found = []
    with log:
        begin, before = log.offset(first), log.messages(first)
        for end, sender, reach, messages, _ in log.entries(
            first, log.head if last is None else last
        ):
            found.append(Run(sender, text(log, begin, end), reach, messages - before))
            begin, before = end, messages
    return found
