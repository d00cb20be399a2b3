"""Find out the dialect of a server, and write it as a profile.

    python -m harness probe --command "python3 server.py {host} {port}" > server.toml

A few clients join, send lines and leave. The text that a new client receives before
any client has sent is the welcome; the text before a client's line is the prefix;
whole lines that no client has sent are notices. Addresses, ports and numbers in them
become patterns. The profile claims those of LINE-2, LINE-3 and LINE-6 that seem to
hold; `conform --profile FILE` then judges all clauses.

Exit status: 0 if a profile was written; 2 for wrong arguments; 3 if the target did
not start, did not deliver the lines, or sent too much by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.arguments import add_shared, add_target, started, write
from harness.cli.optional_deps import needs_extra
from harness.clients.client import Client, Clock, Log
from harness.errors import CannotJudge, Undecided, Violation
from harness.profile import Profile

if TYPE_CHECKING:  # `bench` must run without the packages of the extra
    from harness.clients.room import Room
    from harness.target.target import Target

PEOPLE = 4

MOST = 1 << 16
"""Maximum number of bytes of a welcome, and of output while no client sends."""

_VARYING = re.compile(rb"(?P<v4>\d+\.\d+\.\d+\.\d+)|(?P<number>\d+)")


@dataclass
class Findings:
    """Raw bytes that were received, and clauses that seem to hold."""

    welcomes: list[bytes] = field(default_factory=list)
    prefixes: list[bytes] = field(default_factory=list)
    notices: list[bytes] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)


# --- pure: from received bytes to a profile ------------------------------------------------------


def pattern(texts: Sequence[bytes]) -> str:
    """Return a pattern that matches all the texts and similar ones; '' if there is no text.

    Texts may differ in more than their numbers. They are then compared line by line: a line
    that differs is kept up to the first difference; a line that some texts lack is optional.
    """
    found = [[_generalised(line) for line in text.split(b"\n")] for text in texts if text]
    if not found:
        return ""
    every = min(map(len, found))
    columns = [
        _common({line for line in column if line is not None})
        for column in itertools.zip_longest(*found)
    ]
    return r"\n".join(columns[:every]) + "".join(rf"(?:\n{line})?" for line in columns[every:])


def _generalised(text: bytes) -> str:
    """Return the pattern of a text in which addresses and numbers may vary."""
    made, end = "", 0
    for varying in _VARYING.finditer(text):
        made += _escaped(text[end : varying.start()])
        made += r"\d+\.\d+\.\d+\.\d+" if varying["v4"] else r"\d+"
        end = varying.end()
    return made + _escaped(text[end:])


def _escaped(text: bytes) -> str:
    """Return a pattern that matches exactly this text, in characters that TOML allows."""
    return "".join(map(_escaped_character, text.decode("utf-8", "surrogateescape")))


def _escaped_character(char: str) -> str:
    if char == "\n":
        return r"\n"
    if char.isprintable():
        return char if char == " " else re.escape(char)
    return "".join(rf"\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def _common(lines: set[str]) -> str:
    """Return one pattern for lines with a common beginning."""
    begin = min(lines, key=len)
    if len(lines) == 1:
        return begin
    while not all(line.startswith(begin) for line in lines):
        begin = begin[:-1]
    while True:  # do not cut in the middle of an escape
        try:
            re.compile(begin)
            break
        except re.error:
            begin = begin[:-1]
    return begin + ".*"


def as_toml(name: str, findings: Findings) -> str:
    """Return the profile as a file that `harness.profile` reads."""
    notices = _gathered({_generalised(line) for line in findings.notices})
    shown = "".join(char if char.isprintable() else "?" for char in name)
    lines = [
        f"# The dialect of {shown}, as `python -m harness probe` found it.",
        f"welcome = {_quoted(pattern(findings.welcomes))}",
        f"prefix = {_quoted(pattern(findings.prefixes))}",
        f"notices = [{', '.join(map(_quoted, notices))}]",
        f"claims = [{', '.join(_quoted(claim) for claim in findings.claims)}]",
    ]
    return "\n".join(lines) + "\n"


def _gathered(lines: set[str]) -> list[str]:
    """Return the patterns of lines; lines that are equal up to their first number share one."""
    groups: dict[str, set[str]] = {}
    for line in lines:
        groups.setdefault(line.partition(r"\d")[0], set()).add(line.removesuffix(r"\n"))
    return sorted(_common(group) + r"\n" for group in groups.values())


def _quoted(text: str) -> str:
    if "'" not in text:
        return f"'{text}'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- receiving -----------------------------------------------------------------------------------


async def listen(target: Target, clock: Clock) -> Findings:
    """Have clients join, send and leave. Raise Violation if one does not receive another's line."""
    from harness.clients.room import Room

    room = Room(target, Profile(name="unknown"), clock, Log())
    findings = Findings()
    people: list[Client] = []
    said: list[bytes] = []
    try:
        for _ in range(PEOPLE):
            people.append(await room.connect())
            # Wait for the welcome, unless the first client received none.
            greets = not findings.welcomes or findings.welcomes[0]
            await people[-1].waits(lambda: bool(people[-1].heard), None if greets else 0)
            await room.quiet()
            findings.welcomes.append(_take(people[-1]))
            _note(findings, people[:-1])
        for speaker in people:
            others = [person for person in people if person is not speaker]
            token = room.token()
            said.append(token)
            await speaker.say(token + b"\n")
            for listener in others:
                heard = (await listener.hears_line(token)).removesuffix(token)
                before, _, prefix = heard.rpartition(b"\n")
                # A client's line that the server duplicates or echoes is not a notice.
                findings.notices += [
                    line
                    for line in _lines(before + b"\n" if before else b"")
                    if not any(word in line for word in said)
                ]
                findings.prefixes.append(prefix)
        await _framing(room, people[0], people[1], findings)
        await room.quiet()  # an echo may be late
        for person in people:
            _take(person)
        people.pop().close()
        await room.quiet()
        _note(findings, people)
    finally:
        await room.leave()
    return findings


async def _framing(room: Room, speaker: Client, listener: Client, findings: Findings) -> None:
    """Record which of the SHOULD clauses LINE-2, LINE-3 and LINE-6 seem to hold."""
    prefix = re.compile(pattern(findings.prefixes).encode())
    first, second = room.tokens(2)
    await speaker.say(first + b"\n" + second + b"\n")
    await listener.hears(first)
    between = (await listener.hears_line(second)).removesuffix(second)
    if prefix.pattern and prefix.fullmatch(between.removeprefix(b"\n")):
        findings.claims.append("LINE-3")
    first, second = room.tokens(2)
    await speaker.say_in_pieces([first, b"+", second, b"\n"], 0.02)
    await listener.hears(first)
    if await listener.hears_line(second) == b"+" + second:
        findings.claims.insert(0, "LINE-2")
    first, second = room.tokens(2)
    await speaker.say(first)
    if await listener.comes(first):
        await listener.hears(first)
        await speaker.say(second + b"\n")
        if (await listener.hears_line(second)).startswith(b"\n"):
            findings.claims.append("LINE-6")


def _take(client: Client) -> bytes:
    if len(client.heard) > MOST:
        raise Violation(f"{client} received more than {MOST >> 10} KiB while no client sent")
    return client.take(len(client.heard))


def _note(findings: Findings, people: Iterable[Client]) -> None:
    """Record the lines that clients received while no client sent, as notices."""
    for person in people:
        findings.notices += _lines(_take(person))


def _lines(heard: bytes) -> list[bytes]:
    return [line + b"\n" for line in heard.split(b"\n")[:-1]]


# --- the command ---------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    add_shared(parser, "--timeout-scale")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="write the profile to FILE, not to standard output"
    )


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    needs_extra(parser)
    with started(parser, options, options.timeout_scale) as target:
        try:
            findings = asyncio.run(listen(target, Clock(options.timeout_scale)))
        except (Undecided, CannotJudge, Violation) as error:
            how = target.death()
            parser.exit(3, f"{parser.prog}: {error}{f'; the server {how}' if how else ''}\n")
    name = options.out.stem if options.out else "the server"
    text = as_toml(name, findings)
    if options.out:
        write(parser, options.out, text)
    else:
        print(text, end="")
    return 0
