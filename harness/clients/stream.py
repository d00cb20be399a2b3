"""Split a client's received bytes into lines. Pure.

A stream is split at LF, not at the ends of reads, which TCP does not preserve. The
prefix of a line is the text that the profile's pattern matches, even if the prefix is
wrong; a line that does not match has no prefix. So a wrong prefix breaks only the
clauses on prefixes.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

from harness.profile import Profile


@dataclass(frozen=True)
class Line:
    """One line of a stream. `text` includes the LF, which may be missing in the last line.
    `prefix`: None if the line has none."""

    prefix: bytes | None
    text: bytes


def lines(heard: bytes, profile: Profile) -> list[Line]:
    """Return the lines of a stream, without the server's notices."""
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
    """Return the texts of the lines of a stream."""
    return [line.text for line in lines(heard, profile)]


def squeezed(heard: bytes, profile: Profile) -> bytes:
    """Remove notices, line ends and everything that matches the prefix pattern from a stream.

    A server that treats each read as a message may insert prefixes in the middle of a line.
    """
    text = without_notices(heard, profile)
    if profile.prefix.pattern:  # an empty pattern would match at each byte of a flood
        text = profile.prefix.sub(b"", text)
    return text.replace(b"\r", b"").replace(b"\n", b"")


def sequence(heard: bytes, words: Set[bytes]) -> list[bytes]:
    """Return the occurrences of the words in the stream, in the order of the stream."""
    return re.findall(b"|".join(map(re.escape, words)), heard)


def without_notices(heard: bytes, profile: Profile) -> bytes:
    for notice in profile.notices:
        heard = re.sub(b"(?m)^(?:" + notice.pattern + b")", b"", heard)
    return heard
