"""The lines that clients send, the bytes that clients must receive, and the check. Pure.

Every line has 64 bytes, LF included. It contains the number of its speaker, the client that sends
it, and the number of its round, modulo ten. So the check finds a line that arrives twice, late, or
at the wrong client.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from harness.bench.dialects import Dialect
from harness.wording import counted

SIZE = 64
GENERATIONS = 10
END = b"#\n"
_FILLER = b"the quick brown fox jumps over the lazy dog and runs off, " * 2

Heads = dict[int, bytes]
"""The bytes before each delivered line, by the number of its speaker."""


class ArrivalError(Exception):
    """A client did not receive the expected data. The message names the client and the data."""


def line(speaker: int, generation: int) -> bytes:
    """Return the line of `speaker` in round `generation`."""
    start = b"%d %05d " % (generation % GENERATIONS, speaker)
    return start + _FILLER[: SIZE - len(start) - len(END)] + END


def speaker_of(text: bytes) -> int:
    return int(text[2:7])


def due(listener: int, speakers: Sequence[int], dialect: Dialect, heads: Heads) -> int:
    """Return the number of bytes that `listener` must receive when each speaker sends a line."""
    around = SIZE + len(dialect.tail)
    return sum(len(heads[speaker]) + around for speaker in audible(listener, speakers, dialect))


def audible(listener: int, speakers: Sequence[int], dialect: Dialect) -> list[int]:
    """Return the speakers whose lines client `listener` must receive.

    These are all speakers except the client itself; with an echo, all speakers.
    """
    return [speaker for speaker in speakers if dialect.echo or speaker != listener]


def ending(dialect: Dialect) -> bytes:
    """Return the bytes that end each delivered line and occur nowhere else."""
    return END + dialect.tail


def check(
    heard: bytes, listener: int, speakers: Sequence[int], generation: int, dialect: Dialect
) -> Heads:
    """Check the data that one client received in a round; return the head of each speaker's line.

    Raise `ArrivalError` unless the data is exactly one line of each speaker that the client must
    hear, each with the head and the tail of the dialect, and nothing else.
    """
    frame = re.compile(b"(" + dialect.head + rb")(\d \d{5} [^#]*#\n)" + re.escape(dialect.tail))
    found = frame.findall(heard)
    expected = sorted(line(s, generation) for s in audible(listener, speakers, dialect))
    texts = [text for _, text in found]
    if sorted(texts) != expected:
        raise ArrivalError(f"client {listener} {_difference(Counter(texts), Counter(expected))}")
    known = sum(len(head) + len(text) + len(dialect.tail) for head, text in found)
    if known != len(heard):
        strange = frame.sub(b"", heard)
        raise ArrivalError(f"client {listener} received {shown(strange)} between the lines")
    return {speaker_of(text): head for head, text in found}


def agree(of_all: Sequence[Heads]) -> Heads:
    """Merge the heads that all clients received.

    Raise `ArrivalError` if two clients received different heads before one speaker's lines.
    """
    merged: Heads = {}
    for listener, heads in enumerate(of_all):
        for speaker, head in heads.items():
            if merged.setdefault(speaker, head) != head:
                raise ArrivalError(
                    f"client {listener} received {shown(head)} before the line of client "
                    f"{speaker}, but another client received {shown(merged[speaker])}"
                )
    return merged


def _difference(got: Counter[bytes], expected: Counter[bytes]) -> str:
    missing, surplus = expected - got, got - expected
    parts = []
    if missing:
        parts.append(f"lacks {counted(missing.total(), 'line')}, such as {shown(min(missing))}")
    if surplus:
        parts.append(
            f"has {counted(surplus.total(), 'line')} too many, such as {shown(min(surplus))}"
        )
    return " and ".join(parts)


def shown(data: bytes) -> str:
    """Return bytes as text for a message, shortened to 20 bytes if there are more than 24."""
    return repr(data if len(data) <= 24 else data[:20] + b"...")[1:]
