"""A publication: a batch of a node's messages, as it is stored in the stream.

head   the format's version, the number of runs, the node, the position in the node's uplink
       after the batch, the number of messages in the uplink before that position
runs   for each run: the sender's id, the number of messages, the size of the text, the origin
texts  the texts of all runs, back to back
"""

import struct
from typing import NamedTuple

from chatroom.config.sizes import KIB
from chatroom.log.origin import ORIGIN_SIZE, Origin
from chatroom.log.ring import Batch

FORMAT = 1
"""Version of this format. All nodes of a room must have the same version."""

MAX_SIZE = 600 * KIB
"""Maximum size of a publication (bytes). relay.py and settings.py keep a node's own publications
below it."""
MAX_RUNS = 1024
"""Maximum number of runs in a publication. The runs must fit into the free part of each node's
log."""

FOREIGN = 1 << 52
"""Bit that is set in the id of a sender on another node. No member of this node has such an id. All
ids stay below 2**53, because some readers of JSON round larger integers."""

_HEAD = struct.Struct("<HHQQQ")
_RUN = struct.Struct(f"<QII{ORIGIN_SIZE}s")


class PublicationError(Exception):
    """The bytes are not a publication of this version."""


class Run(NamedTuple):
    """Consecutive messages of one sender."""

    sender: int
    """Id of the sender on its node."""
    origin: bytes
    """Packed origin of the messages: see log/origin.py."""
    messages: int
    text: bytes
    """Messages as members receive them. Only the last message of a publication may lack its LF."""


class Publication(NamedTuple):
    """A batch of a node's messages."""

    node: int
    """Random number of the node, 64 bits."""
    position: int
    """Position in the node's uplink after the batch."""
    number: int
    """Number of messages in the node's uplink up to that position."""
    runs: list[Run]

    @property
    def senders(self) -> set[int]:
        """Ids of the senders on their node."""
        return {run.sender for run in self.runs}

    def encode(self) -> bytes:
        parts = [_HEAD.pack(FORMAT, len(self.runs), self.node, self.position, self.number)]
        parts += [
            _RUN.pack(run.sender, run.messages, len(run.text), run.origin) for run in self.runs
        ]
        parts += [run.text for run in self.runs]
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> "Publication":
        """Return the publication in these bytes. Raises PublicationError if no node would publish
        them.

        Such bytes would wait for space in the log forever, or stop a process that reads the log.
        """
        if len(data) > MAX_SIZE:
            raise PublicationError(f"{len(data)} bytes, more than {MAX_SIZE}")
        try:
            version, count, node, position, number = _HEAD.unpack_from(data)
            if version != FORMAT:
                raise PublicationError(f"format {version}, not {FORMAT}")
            if count > MAX_RUNS:
                raise PublicationError(f"{count} runs, more than {MAX_RUNS}")
            texts = _HEAD.size + count * _RUN.size
            runs = []
            for sender, messages, size, origin in _RUN.iter_unpack(data[_HEAD.size : texts]):
                runs.append(Run(sender, origin, messages, data[texts : texts + size]))
                texts += size
        except struct.error as error:
            raise PublicationError(str(error)) from None
        if texts != len(data) or len(runs) != count or not all(run.text for run in runs):
            raise PublicationError("its size does not fit its head")
        _check_runs(runs)
        return cls(node, position, number, runs)

    def batch(self, node: int, sequence: int) -> Batch:
        """Return the entries for the log of the room on `node`. `sequence`: sequence number of the
        publication in the stream."""
        batch = Batch()
        for run in self.runs:
            sender = run.sender if self.node == node else foreign(self.node, run.sender)
            batch.add(sender, run.origin, sequence, run.text, run.messages)
        return batch


def _check_runs(runs: list[Run]) -> None:
    """Raises PublicationError."""
    for run in runs:
        if not 1 <= run.messages <= run.text.count(b"\n") + 1:
            raise PublicationError(f"{run.messages} messages in a text that has fewer lines")
    try:
        for origin in {run.origin for run in runs}:
            Origin.unpack(origin)
    except ValueError:
        raise PublicationError("the origin of a message can't be read") from None


def foreign(node: int, sender: int) -> int:
    """Return the id of another node's sender in this node's log."""
    return FOREIGN | (node & 0xFFFFF) << 32 | (sender & 0xFFFFFFFF)
