"""Plays a script against a chat server, and says what went wrong. The standard library alone.

A script is a list of steps, in order: ["join", who, address], ["say", who, [piece, …]],
["leave", who, how] with `close`, `reset` or `half-close`. Who is there at the end says a
last word, and hears those of all others; then what each has heard is judged.
"""

import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

PATIENCE = 2.0  # seconds for what has to come
PAUSE = 0.005  # seconds between two steps, and between two pieces


class Person:
    def __init__(self, who: int, address: str, where: tuple[str, int]) -> None:
        self.who, self.prefix, self.heard = who, f"<{address}>".encode(), b""
        self.said: list[bytes] = []
        self.due: list[bytes] = []
        self.ended = False
        self.socket = socket.create_connection(where, PATIENCE, (address, 0))
        self.socket.setblocking(False)

    def hear(self, seconds: float = 0.0) -> None:
        """Take what has come, after that long at most."""
        if self.ended or not select.select([self.socket], [], [], seconds)[0]:
            return
        try:
            data = self.socket.recv(1 << 20)
        except OSError:
            data = b""
        self.heard += data
        self.ended = not data


def play(host: str, port: int, script: list[list[Any]], welcome: bytes) -> list[str]:
    """What went wrong: sentences that begin with its kind. `welcome`: a pattern of bytes."""
    people: dict[int, Person] = {}
    everyone: list[Person] = []
    wrong: list[str] = []
    for step in script:
        kind, who = step[0], step[1]
        if kind == "join":
            person = people[who] = Person(who, step[2], (host, port))
            everyone.append(person)
            _wait(lambda: re.match(welcome + rb"\r?\n?", person.heard), [person])  # noqa: B023
            found = re.match(welcome + rb"\r?\n?", person.heard)
            if found is None:
                wrong.append(f"unwelcomed: {who} heard {person.heard[:80]!r} first")
            else:
                person.heard = person.heard[found.end() :]
        elif kind == "say":
            _say(people, people[who], step[2])
        else:
            _leave(people.pop(who), step[2])
        for person in everyone:
            person.hear(PAUSE if person is everyone[0] else 0.0)
    last = [_say(people, one, [b"%d.last:" % one.who]) for one in list(people.values())]
    _wait(
        lambda: all(
            line in one.heard
            for one in people.values()
            for line in last
            if not line.startswith(one.prefix + b"%d." % one.who)
        ),
        people.values(),
    )
    for person in people.values():
        wrong += _judge(person, everyone)
        person.socket.close()
    return wrong + _orders(list(people.values()))


def _say(people: dict[int, Person], speaker: Person, pieces: list[bytes]) -> bytes:
    """Say a line in pieces; it is due to everyone else. Returns it as they are to hear it."""
    line = speaker.prefix + b"".join(pieces)
    for at, piece in enumerate(pieces):
        if at:
            time.sleep(PAUSE)
        try:
            speaker.socket.sendall(piece + (b"\n" if at == len(pieces) - 1 else b""))
        except OSError:
            return line
    speaker.said.append(line)
    for person in people.values():
        if person is not speaker:
            person.due.append(line)
    return line


def _leave(person: Person, how: str) -> None:
    person.hear()
    if how == "reset":
        person.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half-close":
        person.socket.shutdown(socket.SHUT_WR)
        _wait(lambda: person.ended, [person])
    person.socket.close()


def _wait(came: Callable[[], object], people: Iterable[Person]) -> None:
    people = list(people)
    deadline = time.monotonic() + PATIENCE
    while not came() and time.monotonic() < deadline and not all(one.ended for one in people):
        select.select([one.socket for one in people if not one.ended], [], [], 0.05)
        for person in people:
            person.hear()


def _judge(person: Person, everyone: list[Person]) -> list[str]:
    wrong = [f"disconnected: {person.who}"] if person.ended else []
    heard = person.heard.split(b"\n")[:-1]
    tokens = {line.partition(b":")[0].partition(b">")[2]: line for line in person.due}
    own = {line.partition(b":")[0].partition(b">")[2] for line in person.said}
    for line in dict.fromkeys(heard):
        found = re.search(rb"(\d+\.(?:\d+|last)):", line)
        token = found[1] if found else b""
        if token in own:
            wrong.append(f"echoed: {person.who} heard its own {line[:80]!r}")
        elif token in tokens and line != tokens[token]:
            same = line.endswith(tokens[token].partition(b">")[2])
            kind = "misprefixed" if same else "torn"
            wrong.append(f"{kind}: {person.who} heard {line[:80]!r}, not {tokens[token][:80]!r}")
        elif token not in tokens and not any(line in one.said for one in everyone):
            wrong.append(f"torn: {person.who} heard {line[:80]!r}, which nobody said")
        if heard.count(line) > 1:
            wrong.append(f"duplicated: {person.who} heard {line[:80]!r} {heard.count(line)} times")
    there = {found[1] for line in heard if (found := re.search(rb"(\d+\.(?:\d+|last)):", line))}
    for token, line in tokens.items():
        if token not in there:
            wrong.append(f"lost: {person.who} never heard {line[:80]!r}")
    return wrong


def _orders(people: list[Person]) -> list[str]:
    """Two who have heard two lines in two orders."""
    for one in people:
        place = {line: at for at, line in enumerate(one.heard.split(b"\n")[:-1])}
        for other in people:
            known = [line for line in other.heard.split(b"\n")[:-1] if line in place]
            for first, then in pairwise(known):
                if place[first] > place[then]:
                    return [
                        f"misordered: {other.who} heard {first[:60]!r} before {then[:60]!r}, "
                        f"and {one.who} behind it"
                    ]
        said = [line for line in one.due if line in place]
        senders = {line.partition(b">")[2].partition(b".")[0] for line in said}
        for sender in senders:
            own = [line for line in said if line.partition(b">")[2].startswith(sender + b".")]
            if [place[line] for line in own] != sorted(place[line] for line in own):
                return [f"misordered: {one.who} heard lines of {sender.decode()} in another order"]
    return []
