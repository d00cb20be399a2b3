"""Find out how to join an unknown server, by trying the logins that servers usually have.

A login works if two clients that have used it receive each other's lines. A line that the server
uses as a name does not count: some servers take a client's first line as its name, without asking.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.clients.client import Client
from harness.clients.room import Room
from harness.errors import Violation
from harness.probe.framing import MOST_OUTPUT, refuse_other_framings
from harness.profile import CRLF, LF
from harness.target.listeners import unaccepted

MOST_STEPS = 4
"""Maximum number of lines that a client sends to log in."""

MOST_DEATHS = 3
"""Number of times that the server may end during a login. After that, no other login is tried."""

LINE_ENDS = {LF: b"\n", CRLF: b"\r\n"}

COMMANDS = (
    *("/nick {name}", "/name {name}", "/login {name}", "/join {name}", "/user {name}"),
    *("NICK {name}", "NAME {name}", "LOGIN {name}", "JOIN {name}", "USER {name}"),
)
"""Login lines of some servers. They are tried last, except those that the server's output shows."""

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
"""Pairs of a pattern and an answer. A question gets the first answer whose pattern matches its last
line."""


@dataclass(frozen=True)
class Way:
    """A login to try. `answer`: the first line that a client sends; None: no login."""

    answer: str | None
    line_end: str = LF


@dataclass
class Visit:
    """A client, and what it received and answered.

    steps: pairs of what the client received and its answer. output: what the client received after
    its last answer.
    """

    client: Client
    steps: list[tuple[bytes, str]] = field(default_factory=list)
    output: bytes = b""

    def answered(self) -> list[tuple[bytes, str]]:
        """Return the steps, with `output` as a last one, up to the last text that is not blank."""
        found = [*self.steps, (self.output, "")]
        while found and not found[-1][0].strip():
            found.pop()
        return found


@dataclass
class Seen:
    """Output that clients have received so far.

    output: the received bytes; a space if the first client received none. delay: longest time in
    seconds from a connection to its first output; later clients wait at least twice as long.
    """

    output: bytearray = field(default_factory=bytearray)
    delay: float = 0.0


@dataclass
class Attempt:
    """The outcome of a login that does not work.

    endings: how the server ended connections. steps: the steps of the visit with the most steps, as
    `Visit.answered` returns them.
    """

    endings: list[str] = field(default_factory=list)
    steps: list[tuple[bytes, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Entrance:
    """A login that works.

    steps: for each step, the texts that the clients received, and their answer. output: everything
    that clients received. line_end: the line end that the server expects.
    """

    steps: list[tuple[list[bytes], str]]
    output: bytes
    line_end: str


class ProbeError(Exception):
    """The dialect can't be found out; the message says why."""


async def find_entrance(room: Room) -> Entrance:
    """Return how to join an unknown server. `room`: its room, with the profile WRITTEN.

    Each login is tried on a fresh server, if the harness can start one: the clients of an earlier
    login may have harmed the server, even by leaving. Raise ProbeError if no login works, if the
    server accepts no connection, or if it sends too much while no client sends. Raise CannotJudge
    if the server's messages are not lines.
    """
    seen = Seen()
    tried: list[str] = []
    endings: list[str] = []
    furthest: list[tuple[bytes, str]] = []
    deaths = 0
    for number, way in enumerate(_ways(seen.output)):
        if number:
            room.target.fresh()
        if way is None:
            await refuse_other_framings(room)
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
    silent = ", and the server sent nothing" if not seen.output.strip() else ""
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
    """Yield the logins to try, likely ones first. None: now check whether the server's
    messages are lines.

    seen: everything that clients have received so far, which may name a login command.
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
    """Return the login lines that a server's help text shows, with `{name}` in place of a name."""
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


async def _try(room: Room, way: Way, seen: Seen, attempt: Attempt) -> Entrance | None:
    """Try a login with two clients; return None if it does not work. Add what the clients receive
    to `seen`, and note the outcome in `attempt`."""
    visits: list[Visit] = []
    # The server may read late. Only the first attempt waits for this, because most others fail.
    within = 0 if seen.output else room.clock.patience / 2
    try:
        for _ in range(2):
            visits.append(await _visit(room, way, seen))  # noqa: PERF401  (to close them)
        first, second = (visit.client for visit in visits)
        heard = []
        for pair in ((first, second), (second, first)):
            text = await _talks(room, *pair, LINE_ENDS[way.line_end], within)
            if text is None:
                return None
            heard.append(text)
        steps = [
            ([visit.steps[number][0] for visit in visits], visits[0].steps[number][1])
            for number in range(min(len(visit.steps) for visit in visits))
        ]
        return Entrance(steps, bytes(seen.output) + b"".join(heard), way.line_end)
    except Violation:  # the server closed a connection, or stopped
        return None
    finally:
        for visit in visits:
            attempt.endings += filter(None, [visit.client.ended])
            attempt.steps = max(attempt.steps, visit.answered(), key=len)
            visit.client.close()


async def _visit(room: Room, way: Way, seen: Seen) -> Visit:
    visit = Visit(await room.connect())
    client = visit.client
    within = max(room.window, 2 * seen.delay)
    if not seen.output:  # The server may still be starting when the first client connects.
        within = room.clock.patience / 2
    began = time.monotonic()
    if await client.waits(lambda: bool(client.heard), within):
        seen.delay = max(seen.delay, time.monotonic() - began)
    elif not seen.output:
        await _expect_accepted(room, client)
    output = await _output(room, client, 0)
    seen.output += output or b" "
    answer = way.answer
    while answer is not None and len(visit.steps) < MOST_STEPS:
        line = answer.replace("{name}", client.login_name).encode()
        await client.say(line + LINE_ENDS[way.line_end])
        visit.steps.append((output, answer))
        output = await _output(room, client, room.window)
        seen.output += output
        answer = next_answer(output)
    visit.output = output
    return visit


async def _expect_accepted(room: Room, client: Client) -> None:
    """Raise ProbeError if the server does not accept its only connection in time.

    A client can't distinguish such a connection from one to a server that waits for a login. But
    this machine's kernel reports it, so that the probe need not try all logins.
    """
    within = room.clock.patience
    deadline = time.monotonic() + within / 2  # the client has already waited for its first output
    while room.target.local and unaccepted(client.server[1]):
        if time.monotonic() >= deadline:
            raise ProbeError(
                f"the server listens, but has not accepted a connection for {within:g} s"
                " (--timeout-scale gives it more time)"
            )
        await asyncio.sleep(room.window / 10)


async def _output(room: Room, client: Client, within: float) -> bytes:
    """Take what a client receives, until no more arrives within `room.window` seconds.

    within: seconds to wait for the first output.
    """
    await client.waits(lambda: bool(client.heard), within)
    while True:
        size = len(client.heard)
        if size > MOST_OUTPUT or not await client.waits(
            lambda: len(client.heard) > size,  # noqa: B023
            room.window,
        ):
            return take(client)


def take(client: Client) -> bytes:
    """Take everything that a client has received while no client sent. Raise ProbeError if this is
    more than MOST_OUTPUT bytes."""
    if len(client.heard) > MOST_OUTPUT:
        raise ProbeError(
            f"{client} received more than {MOST_OUTPUT >> 10} KiB while no client sent"
        )
    return client.take(len(client.heard))


async def _talks(
    room: Room, speaker: Client, listener: Client, end: bytes, within: float
) -> bytes | None:
    """Have `speaker` send lines until `listener` has received two of them; return what it receives
    up to the end of the second.

    Return None if no line arrives within `within` seconds, or if the prefix of the last line
    contains an earlier line, which the server uses as a name.
    """
    said: list[bytes] = []
    found = b""
    for _ in range(2):
        deadline = time.monotonic() + within
        while True:
            said.append(token := room.token())
            await speaker.say(token + end)
            if await listener.comes(token, 2 * room.window):
                break
            if time.monotonic() >= deadline:
                return None
        heard = await listener.hears(token)
        with contextlib.suppress(Violation):
            await listener.waits(lambda: b"\n" in listener.heard, room.window / 2)
        found += heard + bytes(listener.heard[: listener.heard.find(b"\n") + 1])
    line = heard.rpartition(b"\n")[2]
    return None if any(word in line for word in said[:-1]) else found
