"""Find out how one joins an unknown server: try the ways in which servers let a client in.

A way works if two clients that went it receive each other's lines. A line that became a name does
not count: some servers take the first line for the name, without a question.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness.clients.client import Client
from harness.clients.room import Room
from harness.errors import Violation
from harness.profile import CRLF, LF

MOST_STEPS = 4
"""Maximum number of questions that are answered."""

MOST_DEATHS = 3
"""Number of ways that may end the server; then no other is tried."""

MOST_OUTPUT = 1 << 16
"""Maximum number of bytes that a client may receive while no client sends."""

LINE_ENDS = {LF: b"\n", CRLF: b"\r\n"}

COMMANDS = (
    *("/nick {name}", "/name {name}", "/login {name}", "/join {name}", "/user {name}"),
    *("NICK {name}", "NAME {name}", "LOGIN {name}", "JOIN {name}", "USER {name}"),
)
"""Lines that log one in on some servers, tried if the server does not say which."""

LENGTH_FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "4 bytes, big-endian": lambda text: struct.pack("!I", len(text)) + text,
    "4 bytes, little-endian": lambda text: struct.pack("<I", len(text)) + text,
    "2 bytes, big-endian": lambda text: struct.pack("!H", len(text)) + text,
    "1 byte": lambda text: struct.pack("B", len(text)) + text,
    "10 decimal digits": lambda text: b"%-10d" % len(text) + text,
    "64 decimal digits": lambda text: b"%-64d" % len(text) + text,
}
"""Ways to frame a message by its length. The last two, padded with spaces, are from tutorials."""

_HINT = re.compile(
    rb"(?<!\w)((?:/[a-zA-Z]+|[A-Z]{3,})[ :]+|[a-z]+:)[<\[({'\"]?(?i:your[ _-]?)?"
    rb"(?i:(?:user|nick|screen)?[ _-]?(?:name|nick|login|handle|id|user))\b"
    rb"(?:[>\])}'\"]?([ :]+)[<\[({'\"]?(?i:pass))?"
)
"""A command with a name as its argument, and perhaps a password, as a help text shows it."""

_ANSWERS = (
    (re.compile(rb"(?i)pass ?(?:word|wd|phrase|code)|pwd"), "secret"),
    (re.compile(rb"(?i)\(y(?:es)?/n(?:o)?\)|\[y/n\]"), "y"),
    (re.compile(rb"(?i)room|channel|topic"), "lobby"),
    (re.compile(rb"(?i)name|nick|login|user|handle|who are you"), "{name}"),
    (re.compile(rb"(?i)choose|choice|option|select|number"), "1"),
)
"""Answers to questions, by what the last line of the question contains."""


@dataclass(frozen=True)
class Way:
    """A way to try. `answer`: the first line that a client sends; None: no login."""

    answer: str | None
    line_end: str = LF


@dataclass
class Visit:
    """A client, and what it received and answered.

    steps: output, and answer to it. output: what it received after the last answer.
    """

    client: Client
    steps: list[tuple[bytes, str]] = field(default_factory=list)
    output: bytes = b""

    def answered(self) -> list[tuple[bytes, str]]:
        """Return the steps up to the last output that is not empty."""
        found = [*self.steps, (self.output, "")]
        while found and not found[-1][0].strip():
            found.pop()
        return found


@dataclass
class Attempt:
    """The outcome of a way that does not work.

    endings: how connections ended. steps: those of the visit with most, up to its last output.
    """

    endings: list[str] = field(default_factory=list)
    steps: list[tuple[bytes, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Entrance:
    """How one joins.

    steps: for each step, the outputs that clients received, and the answer. output: all that they
    received. line_end: what the server expects at the end of a line.
    """

    steps: list[tuple[list[bytes], str]]
    output: bytes
    line_end: str


class ProbeError(Exception):
    """The dialect can't be found out; the message says why."""


async def find_entrance(room: Room) -> Entrance:
    """Return how one joins the room of an unknown server, whose profile is that of PROTOCOL.md.

    Each way is tried on a fresh server, if the harness can start one: the clients of an earlier
    way, and how they left, may have harmed it. Raise ProbeError if no way works, or if the
    server sends too much by itself.
    """
    seen = bytearray()
    tried: list[str] = []
    endings: list[str] = []
    furthest: list[tuple[bytes, str]] = []
    deaths = 0
    for number, way in enumerate(_ways(seen)):
        if number:
            room.target.fresh()
        if way is None:
            if kind := await _length_framing(room):
                raise ProbeError(
                    f"the server frames messages by their length ({kind}): the harness can't judge"
                    " it, since its clients send lines"
                )
            continue
        attempt = Attempt()
        if found := await _try(room, way, seen, attempt):
            return found
        endings += attempt.endings
        furthest = max(furthest, attempt.steps, key=len)
        tried.append("no login" if way.answer is None else _shown(way.answer))
        deaths += bool(room.target.death())
        if deaths == MOST_DEATHS:
            break
    closed = ", and the server closed connections" if endings else ""
    silent = ", and the server sent nothing" if not seen.strip() else ""
    asked = ""
    if len(furthest) > 1:
        answers = ", ".join(_shown(answer) for _, answer in furthest[:-1])
        asked = f"; after {answers}, the server sent {_shown_line(furthest[-1][0])!r}"
    raise ProbeError(
        f"no client received another's line{closed or silent}; tried, with LF and with CR LF:"
        f" {', '.join(dict.fromkeys(tried))}{asked}"
    )


def _shown(answer: str) -> str:
    return answer.replace("{name}", "NAME")


def _shown_line(output: bytes) -> str:
    return _last_line(output).decode(errors="replace")


def _last_line(output: bytes) -> bytes:
    """Return the last line that is not blank."""
    return output.rstrip().rpartition(b"\n")[2]


def _ways(seen: bytearray) -> Iterator[Way | None]:
    """Yield the ways to try, the likely ones first; None: try whether lengths frame messages.

    seen: all output so far, which may name a command.
    """
    yield Way(None)
    yield Way(None, CRLF)
    ends = (CRLF, LF) if b"\r\n" in seen else (LF, CRLF)
    hinted = hints(bytes(seen))
    yield from (Way(answer, end) for end in ends for answer in ("{name}", *hinted))
    yield None
    rest = [answer for answer in COMMANDS if answer not in hinted]
    yield from (Way(answer, end) for end in ends for answer in rest)


def hints(output: bytes) -> list[str]:
    """Return the login lines that a server's help text shows."""
    found = []
    for match in _HINT.finditer(output):
        command, between = match[1].decode(), (match[2] or b"").decode()
        found.append(f"{command}{{name}}{between + 'secret' if between else ''}")
    return list(dict.fromkeys(found))


def next_answer(output: bytes) -> str | None:
    """Return the answer to a question; None if the output does not end with one."""
    last = _last_line(output)
    is_prompt = not output.endswith(b"\n") and last.rstrip().endswith((b":", b"?", b">"))
    for word, answer in _ANSWERS:
        if word.search(last) and (is_prompt or answer == "secret"):
            return answer
    return None


async def _try(room: Room, way: Way, seen: bytearray, attempt: Attempt) -> Entrance | None:
    """Return how one joins in this way; None if it does not work. Note what happens."""
    visits: list[Visit] = []
    try:
        for _ in range(2):
            visits.append(await _visit(room, way, seen))  # noqa: PERF401  (to close them)
        first, second = (visit.client for visit in visits)
        ways = ((first, second), (second, first))
        heard = [await _talks(room, *pair, LINE_ENDS[way.line_end]) for pair in ways]
        if not all(heard):
            return None
        steps = [
            ([visit.steps[number][0] for visit in visits], visits[0].steps[number][1])
            for number in range(min(len(visit.steps) for visit in visits))
        ]
        return Entrance(steps, bytes(seen) + b"".join(filter(None, heard)), way.line_end)
    except Violation:  # the server closed a connection, or stopped
        return None
    finally:
        for visit in visits:
            attempt.endings += filter(None, [visit.client.ended])
            attempt.steps = max(attempt.steps, visit.answered(), key=len)
            visit.client.close()


async def _visit(room: Room, way: Way, seen: bytearray) -> Visit:
    visit = Visit(await room.connect())
    client = visit.client
    # The first client may find a server that is still starting.
    output = await _output(room, client, room.window if seen else room.clock.patience / 2)
    seen += output or b" "
    answer = way.answer
    while answer is not None and len(visit.steps) < MOST_STEPS:
        line = answer.replace("{name}", client.login_name).encode()
        await client.say(line + LINE_ENDS[way.line_end])
        visit.steps.append((output, answer))
        output = await _output(room, client, room.window)
        seen += output
        answer = next_answer(output)
    visit.output = output
    return visit


async def _output(room: Room, client: Client, within: float) -> bytes:
    """Take what a client receives until nothing more comes."""
    await client.waits(lambda: bool(client.heard), within)
    while True:
        size = len(client.heard)
        if size > MOST_OUTPUT or not await client.waits(
            lambda: len(client.heard) > size,  # noqa: B023
            room.window,
        ):
            return take(client)


def take(client: Client) -> bytes:
    """Take all that a client has received while no client sent. Raise ProbeError if it is too
    much."""
    if len(client.heard) > MOST_OUTPUT:
        raise ProbeError(
            f"{client} received more than {MOST_OUTPUT >> 10} KiB while no client sent"
        )
    return client.take(len(client.heard))


async def _length_framing(room: Room) -> str:
    """Return how the server frames messages by length; empty if it does not seem to do so."""
    for kind, frame in LENGTH_FRAMES.items():
        clients: list[Client] = []
        with contextlib.suppress(Violation):
            clients = [await room.connect() for _ in range(2)]
            for client in clients:  # some take the first message for a name
                await client.say(frame(client.login_name.encode()))
            await room.quiet()
            token = room.token()
            await clients[0].say(frame(token))
            if await clients[1].comes(token, 2 * room.window):
                return kind
        for client in clients:
            client.close()
    return ""


async def _talks(room: Room, speaker: Client, listener: Client, end: bytes) -> bytes | None:
    """Return what a listener receives of two lines; None if it does not receive both as lines."""
    first, second = room.tokens(2)
    found = b""
    for token in (first, second):
        await speaker.say(token + end)
        if not await listener.comes(token, 2 * room.window):
            return None
        heard = await listener.hears(token)
        with contextlib.suppress(Violation):
            await listener.waits(lambda: b"\n" in listener.heard, room.window / 2)
        found += heard + bytes(listener.heard[: listener.heard.find(b"\n") + 1])
    line = heard.rpartition(b"\n")[2]
    return None if first in line else found
