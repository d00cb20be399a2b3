"""What a client heard, as the lines that it is made of. Pure.

A stream is cut at LF, never by reads: TCP keeps no boundaries. The prefix of a
line is whatever the profile takes for one, true or not; a line without it is
all text. So a defect of the prefix shows in the clauses of the prefix, and
hides no others.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

from harness.profile import Profile


@dataclass(frozen=True)
class Line:
    """One line of a stream, with its LF; the last may lack it. `prefix` None: it has none."""

    prefix: bytes | None
    text: bytes


def lines(heard: bytes, profile: Profile) -> list[Line]:
    """The lines of a stream, less the notices that the server says by itself."""
    found = []
    for line in without_notices(heard, profile).split(b"\n"):
        prefix = profile.prefix.match(line)
        found.append(
            Line(prefix[0], line[prefix.end() :] + b"\n") if prefix else Line(None, line + b"\n")
        )
    last = found.pop()
    if last.prefix or last.text != b"\n":
        found.append(Line(last.prefix, last.text[:-1]))
    return found


def texts(heard: bytes, profile: Profile) -> list[bytes]:
    """The texts of the lines of a stream."""
    return [line.text for line in lines(heard, profile)]


def squeezed(heard: bytes, profile: Profile) -> bytes:
    """A stream less its line ends and all that could be a prefix, wherever a server has put them.

    Where a message is what one read brought, they come in the middle of a line.
    """
    text = profile.prefix.sub(b"", without_notices(heard, profile))
    return text.replace(b"\r", b"").replace(b"\n", b"")


def sequence(heard: bytes, words: Set[bytes]) -> list[bytes]:
    """Those of the words that are in what was heard: in its order, as often as they are there."""
    return re.findall(b"|".join(map(re.escape, words)), heard)


def without_notices(heard: bytes, profile: Profile) -> bytes:
    for notice in profile.notices:
        heard = re.sub(b"(?m)^(?:" + notice.pattern + b")", b"", heard)
    return heard
