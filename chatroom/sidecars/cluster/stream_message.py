"""A publication: a batch of a node's messages, as it is stored in the stream.

head   the format's version, the number of runs, the node, the position in the node's uplink
       after the batch, the number of messages in the uplink before that position
runs   for each run: the sender's id, the number of messages, the size of the text, the origin
texts  the texts of all runs, back to back
"""

import struct
from typing import NamedTuple

from chatroom.log.origin import ORIGIN_SIZE
from chatroom.log.ring import Batch

FORMAT = 1
"""Version of this format. All nodes of a room must have the same version."""

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

    def encode(self) -> bytes:
        parts = [_HEAD.pack(FORMAT, len(self.runs), self.node, self.position, self.number)]
        parts += [
            _RUN.pack(run.sender, run.messages, len(run.text), run.origin) for run in self.runs
        ]
        parts += [run.text for run in self.runs]
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> "Publication":
        """Return the publication in these bytes. Raises PublicationError."""
        try:
            version, count, node, position, number = _HEAD.unpack_from(data)
            if version != FORMAT:
                raise PublicationError(f"format {version}, not {FORMAT}")
            texts = _HEAD.size + count * _RUN.size
            runs = []
            for sender, messages, size, origin in _RUN.iter_unpack(data[_HEAD.size : texts]):
                runs.append(Run(sender, origin, messages, data[texts : texts + size]))
                texts += size
        except struct.error as error:
            raise PublicationError(str(error)) from None
        if texts != len(data) or len(runs) != count or not all(run.text for run in runs):
            raise PublicationError("its size does not fit its head")
        return cls(node, position, number, runs)

    def batch(self, node: int, sequence: int) -> Batch:
        """Return the entries for the log of the room on `node`. `sequence`: sequence number of the
        publication in the stream."""
        batch = Batch()
        for run in self.runs:
            sender = run.sender if self.node == node else foreign(self.node, run.sender)
            batch.add(sender, run.origin, sequence, run.text, run.messages)
        return batch


def foreign(node: int, sender: int) -> int:
    """Return the id of another node's sender in this node's log."""
    return FOREIGN | (node & 0xFFFFF) << 32 | (sender & 0xFFFFFFFF)
