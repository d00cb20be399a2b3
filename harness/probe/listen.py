"""Have a few clients join, talk and leave, and note what they receive."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from harness.clients.client import Client, Clock, Log
from harness.clients.dialect import without_colours
from harness.clients.room import TOKEN, Room
from harness.errors import JoinError, Violation
from harness.probe.findings import Delivery, Findings, as_toml
from harness.probe.login import Entrance, find_entrance, take
from harness.profile import CRLF, WRITTEN, Profile, parse
from harness.target.target import Target

T = TypeVar("T")

PEOPLE = 4
"""Number of clients that talk to each other."""

COMMANDS = "/!"
"""Characters that begin a command on some servers."""


async def listen(target: Target, clock: Clock) -> Findings:
    """Have clients explore a server, and return the findings.

    Raise ProbeError if clients can't talk to each other, or if the server sends too much while no
    client sends. Raise Violation if a client does not receive another's line.
    """
    findings = Findings()
    entrance = await _with_room(target, WRITTEN, clock, find_entrance)
    _note_entrance(findings, entrance)
    target.fresh()  # the clients of `find_entrance` must not occur in a welcome or a notice

    async def talk(room: Room) -> None:
        await _talk(room, findings)

    await _with_room(target, _profile(findings), clock, talk)
    target.fresh()  # the leaving clients of `talk` may have harmed the server

    async def details(room: Room) -> None:
        await _framing(room, findings)
        await _commands(room, findings)

    with contextlib.suppress(JoinError):  # some servers have a race if two clients join at once
        await _with_room(target, _profile(findings), clock, details)
    return findings


async def _with_room(
    target: Target, profile: Profile, clock: Clock, do: Callable[[Room], Awaitable[T]]
) -> T:
    room = Room(target, profile, clock, Log())
    try:
        return await do(room)
    finally:
        await room.leave()


def _profile(findings: Findings) -> Profile:
    """Return the profile of the findings so far, without welcome and notices."""
    made = parse(as_toml("it", findings), "it")
    return replace(made, welcome=None, notices=())


def _note_entrance(findings: Findings, entrance: Entrance) -> None:
    findings.input_line_end = entrance.line_end
    findings.colours = without_colours(entrance.output) != entrance.output
    # Only the line ends of members' messages count: a welcome may have other line ends.
    if re.search(TOKEN.pattern + rb"[^\n]*\r\n", entrance.output):
        findings.output_line_end = CRLF

    def canonical(text: bytes) -> bytes:
        text = without_colours(text)
        return text.replace(b"\r\n", b"\n") if findings.output_line_end == CRLF else text

    findings.login = [
        ([canonical(text) for text in texts], answer) for texts, answer in entrance.steps
    ]


async def _talk(room: Room, findings: Findings) -> None:
    people: list[Client] = []
    said: list[bytes] = []
    for _ in range(PEOPLE):
        newcomer = await room.connect()
        await newcomer.log_in()
        people.append(newcomer)
        findings.names.append(newcomer.login_name.encode())
        # Wait for the welcome, unless the first client received none.
        greets = not findings.welcomes or findings.welcomes[0]
        await newcomer.waits(lambda: bool(newcomer.heard), None if greets else 0)  # noqa: B023
        await room.quiet()
        findings.welcomes.append(take(newcomer))
        _note(findings, people[:-1])
    await room.meet(*people)  # a server that reads late loses the first messages
    await room.quiet()
    for person in people:
        take(person)
    for speaker in people * 2:  # each client talks twice, because a prefix may contain a time
        token = room.token()
        said.append(token)
        await speaker.say(token + b"\n")
        for listener in people:
            if listener is not speaker:
                delivery = await _delivery(room, findings, speaker, listener, token, said)
                findings.deliveries.append(delivery)
        if await speaker.comes(token, room.window):
            findings.own.append(await _delivery(room, findings, speaker, speaker, token, said))
        for listener in people:  # text without a line end may follow a line: a bell, a prompt
            rest = take(listener)
            findings.notices += _lines(rest)
            findings.suffixes.append(rest.rpartition(b"\n")[2])
    await room.quiet()
    for person in people:
        take(person)
    people.pop().close()
    await room.quiet()
    _note(findings, people)


async def _delivery(
    room: Room,
    findings: Findings,
    speaker: Client,
    listener: Client,
    token: bytes,
    said: list[bytes],
) -> Delivery:
    """Take a line with a token. Note the lines before it as notices, and the text between the token
    and the line end as a suffix."""
    heard = (await listener.hears(token)).removesuffix(token)
    await listener.waits(lambda: b"\n" in listener.heard, room.window / 2)
    if b"\n" in listener.heard:
        rest = listener.take(listener.heard.index(b"\n") + 1)
        findings.suffixes.append(rest.removesuffix(b"\n"))
    earlier, _, before = heard.rpartition(b"\n")
    # A client's line is not a notice, even if the server duplicates it or sends it back.
    findings.notices += [
        line
        for line in _lines(earlier + b"\n" if earlier else b"")
        if not any(word in line for word in said)
    ]
    sends_name = any("{name}" in answer for _, answer in findings.login)
    name = speaker.login_name.encode() if sends_name else b""
    return Delivery(before, name, speaker.address.encode(), speaker.port)


async def _framing(room: Room, findings: Findings) -> None:
    """Note which of LINE-2, LINE-3, LINE-5 and LINE-6 the server seems to keep.

    There are three checks: of LINE-2, of LINE-3, and of LINE-5 and LINE-6 together. If the server
    loses a line of a check, the clauses of this check are not noted. In the first two checks,
    another member sends a line while a line is unfinished: a server that relays each read without a
    prefix delivers this line in the middle of the unfinished line.
    """
    speaker, other, listener = await room.join(3)

    async def interrupt() -> bytes:
        word = room.token()
        await other.say(word + b"\n")
        await listener.comes(word, 0.02)
        return word

    with contextlib.suppress(Violation):
        first, second = room.tokens(2)
        await speaker.say_in_pieces([first, b"+"], 0.02)
        await interrupt()
        await speaker.say_in_pieces([second, b"\n"], 0.02)
        await listener.hears(first)
        if await listener.hears_line(second) == b"+" + second:
            findings.claims.append("LINE-2")
    with contextlib.suppress(Violation):
        first, second, third = room.tokens(3)
        await speaker.say(first + b"\n" + second + b"\n" + third[:1])
        await listener.comes(second)  # otherwise, the other line could come between these two
        word = await interrupt()
        await speaker.say(third[1:] + b"\n")
        await listener.hears(first)
        between = (await listener.hears(second)).removesuffix(second)
        [heard] = await room.barrier(speaker, listener)
        if word not in heard:
            heard += b"\n" + await listener.hears(word)
        before = heard.partition(word)[0].rpartition(b"\n")[2]
        prefix = room.profile.prefix
        if between.startswith(b"\n") and prefix.fullmatch(between[1:]) and prefix.fullmatch(before):
            findings.claims.append("LINE-3")
    with contextlib.suppress(Violation):
        first, second = room.tokens(2)
        await speaker.say(first)
        if await listener.comes(first, room.clock.patience / 2):
            await listener.hears(first)
            await room.quiet()
            if not listener.heard:  # a server that adds a line end violates LINE-5
                findings.claims.append("LINE-5")
                await speaker.say(second + b"\n")
                if (await listener.hears_line(second)).startswith(b"\n"):
                    findings.claims.append("LINE-6")


async def _commands(room: Room, findings: Findings) -> None:
    """Note each character of COMMANDS if a line that begins with it does not arrive."""
    for character in COMMANDS:
        speaker, listener = await room.join(2)
        token = room.token()
        await speaker.say(character.encode() + token + b"\n")
        if not await listener.comes(character.encode() + token, 2 * room.window):
            findings.commands += character


def _note(findings: Findings, people: Iterable[Client]) -> None:
    """Note as notices the lines that clients received while no client sent."""
    for person in people:
        findings.notices += _lines(take(person))


def _lines(heard: bytes) -> list[bytes]:
    return [line + b"\n" for line in heard.split(b"\n")[:-1]]
