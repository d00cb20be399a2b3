"""The lines that are sent, the bytes that must be received, and the check. Pure.

Every line has 64 bytes, LF included, and contains the numbers of its speaker and its round
(modulo ten). So a line that arrives twice, late, or at the wrong client is not mistaken for
another.
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


class ArrivalError(Exception):
    """Something did not arrive as expected. The message says what, and at which client."""


def line(speaker: int, generation: int) -> bytes:
    """Return the line of `speaker` in round `generation`."""
    start = b"%d %05d " % (generation % GENERATIONS, speaker)
    return start + _FILLER[: SIZE - len(start) - len(END)] + END


def speaker_of(text: bytes) -> int:
    return int(text[2:7])


def due(listener: int, speakers: Sequence[int], dialect: Dialect, heads: Heads) -> int:
    """Return the number of bytes that `listener` must receive if all `speakers` send a line."""
    around = SIZE + len(dialect.tail)
    return sum(len(heads[speaker]) + around for speaker in audible(listener, speakers, dialect))


def audible(listener: int, speakers: Sequence[int], dialect: Dialect) -> list[int]:
    """Return the speakers whose lines `listener` must receive: all but itself, or all if echoed."""
    return [speaker for speaker in speakers if dialect.echo or speaker != listener]


def ending(dialect: Dialect) -> bytes:
    """Return the bytes that end each delivered line and occur nowhere else."""
    return END + dialect.tail


def check(
    heard: bytes, listener: int, speakers: Sequence[int], generation: int, dialect: Dialect
) -> Heads:
    """Check all that one client received in a round; return the head of each speaker's line.

    Raise `ArrivalError` unless it is exactly one line of each audible speaker, with nothing
    before, between or after.
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
    """Merge the heads that all clients received. Raise `ArrivalError` if two differ."""
    merged: Heads = {}
    for listener, heads in enumerate(of_all):
        for speaker, head in heads.items():
            if merged.setdefault(speaker, head) != head:
                raise ArrivalError(
                    f"client {listener} received {shown(head)} before the line of client "
                    f"{speaker}, another client {shown(merged[speaker])}"
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
    """Return bytes for a one-line message."""
    return repr(data if len(data) <= 24 else data[:20] + b"...")[1:]
