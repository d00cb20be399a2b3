"""Telnet commands in a member's input (RFC 854, RFC 855): removed from the text, and answered.

A telnet client sends commands that its user never typed: negotiation when it starts, IP (interrupt
process) and DO TIMING-MARK at a Ctrl-C. After a Ctrl-C, the client shows nothing until the server
answers the TIMING-MARK. All commands begin with IAC, the byte 0xFF, which UTF-8 text never
contains.

    IAC and a byte from EOF to GA                 a command
    IAC and WILL, WONT, DO or DONT, and a byte    a request about an option
    IAC SB … IAC SE                               a parameter of an option
    IAC IAC                                       the byte 0xFF as text
    IAC and any other byte                        not a command: 0xFF is text, as in Latin-1

No option is supported. So a WILL is answered with DONT, and a DO with WONT, except for
DO TIMING-MARK. These answers need no state. They can't cause a loop, because WONT and DONT are
never answered.
"""

import re
from typing import NamedTuple

IAC = b"\xff"
LITERAL = b"\xfe"
"""Replacement for a 0xFF that is text: another byte that UTF-8 never contains, so it becomes
U+FFFD."""

WILL, WONT, DO, DONT = b"\xfb", b"\xfc", b"\xfd", b"\xfe"
TIMING_MARK = b"\x06"

MAX_PARAMETER = 250
"""Maximum size (bytes) of a parameter, so that an incomplete parameter does not wait forever. A
longer parameter is text. A client sends no parameter unless the server asks for it."""

MAX_ANSWERS = 32
"""Maximum number of answers to one read. Only a flood needs more: clients have few options."""

_PARAMETER = rb"\xfa(?:[^\xff]|\xff\xff){0,%d}+" % MAX_PARAMETER
_AFTER_IAC = re.compile(
    rb"\xff(?:"
    rb"(?P<request>[\xfb-\xfe].)"
    rb"|(?P<command>[\xec-\xf9])"
    # SE ends a parameter. Another command in a parameter means that the SE is missing.
    rb"|(?P<parameter>" + _PARAMETER + rb"(?:\xff\xf0|(?=\xff[^\xf0\xff])))"
    rb"|(?P<incomplete>(?:[\xfb-\xfe]|" + _PARAMETER + rb"\xff?)?\Z)"
    rb"|(?P<doubled>\xff)"
    rb")?",
    re.DOTALL,
)


class Parsed(NamedTuple):
    """Input without telnet commands."""

    text: bytes
    """Text, without IAC."""
    gaps: list[tuple[int, int]]
    """Places in the text at which bytes were removed, each with the number of bytes."""
    incomplete: bytes
    """Beginning of a command at the end of the input; empty if there is none."""
    answers: bytes
    """Answers to send to the client."""
    commands: int
    """Number of complete commands and of bytes 0xFF that are text."""


def parse(data: bytes) -> Parsed:
    """Separate commands from text. `data` must not begin inside a command."""
    pieces: list[bytes] = []
    gaps: list[tuple[int, int]] = []
    answers: list[bytes] = []
    commands = 0
    size = at = 0  # size of the text; end of the last match in `data`
    incomplete = b""
    for match in _AFTER_IAC.finditer(data):
        kind = match.lastgroup
        piece = data[at : match.start()]
        if kind is None or kind == "doubled":
            piece += LITERAL
        elif kind == "incomplete":
            incomplete = match[0]
        elif kind == "request":
            answers += _answer(match[0][1:2], match[0][2:])
        commands += kind != "incomplete"
        pieces.append(piece)
        size += len(piece)
        at = match.end()
        removed = len(match[0]) - (kind is None) - (kind == "doubled") - len(incomplete)
        if removed:
            gaps.append((size, removed))
    pieces.append(data[at:])
    text, all_answers = b"".join(pieces), b"".join(answers[:MAX_ANSWERS])
    return Parsed(text, gaps, incomplete, all_answers, commands)


def _answer(verb: bytes, option: bytes) -> list[bytes]:
    if verb == DO:
        return [IAC + (WILL if option == TIMING_MARK else WONT) + option]
    return [IAC + DONT + option] if verb == WILL else []
