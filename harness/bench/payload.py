"""What is said, what has to be heard, and the check that it was. Pure.

Every line is 64 bytes, LF included, and names its speaker and the round in
which it is said (modulo ten), so that a line which comes twice, late, or to the
wrong client can't pass for another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from harness.bench.dialects import Dialect

SIZE = 64
GENERATIONS = 10
END = b"#\n"
_FILLER = b"the quick brown fox jumps over the lazy dog and runs off, " * 2

Heads = dict[int, bytes]


class ArrivalError(Exception):
    """Something did not arrive as it had to. The message says what, to whom."""


def line(speaker: int, generation: int) -> bytes:
    """The line that `speaker` says in round `generation`."""
    start = b"%d %05d " % (generation % GENERATIONS, speaker)
    return start + _FILLER[: SIZE - len(start) - len(END)] + END


def speaker_of(text: bytes) -> int:
    return int(text[2:7])


def due(listener: int, speakers: Sequence[int], dialect: Dialect, heads: Heads) -> int:
    """How many bytes `listener` has to receive when each of `speakers` says a line."""
    around = SIZE + len(dialect.tail)
    return sum(len(heads[speaker]) + around for speaker in audible(listener, speakers, dialect))


def audible(listener: int, speakers: Sequence[int], dialect: Dialect) -> list[int]:
    """Those of `speakers` whom `listener` has to hear: all but itself, or all."""
    return [speaker for speaker in speakers if dialect.echo or speaker != listener]


def ending(dialect: Dialect) -> bytes:
    """What ends each delivered line, and occurs nowhere else: count it to count lines."""
    return END + dialect.tail


def check(
    heard: bytes, listener: int, speakers: Sequence[int], generation: int, dialect: Dialect
) -> Heads:
    """Read all that one client heard in one round; return what headed each speaker's line.

    Raises `ArrivalError` unless it is exactly one line of each audible speaker,
    and nothing before, between or after.
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
    """The heads as all listeners saw them; `ArrivalError` where two saw different ones."""
    merged: Heads = {}
    for listener, heads in enumerate(of_all):
        for speaker, head in heads.items():
            if merged.setdefault(speaker, head) != head:
                raise ArrivalError(
                    f"client {listener} hears client {speaker} as {shown(head)}, "
                    f"another as {shown(merged[speaker])}"
                )
    return merged


def _difference(got: Counter[bytes], expected: Counter[bytes]) -> str:
    missing, surplus = expected - got, got - expected
    parts = []
    if missing:
        parts.append(f"lacks {missing.total()} lines, such as {shown(min(missing))}")
    if surplus:
        parts.append(f"has {surplus.total()} lines too many, such as {shown(min(surplus))}")
    return " and ".join(parts)


def shown(data: bytes) -> str:
    """Bytes for a message that has to stay on one line."""
    return repr(data if len(data) <= 24 else data[:20] + b"...")[1:]
