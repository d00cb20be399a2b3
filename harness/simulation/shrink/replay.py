"""Play a script against a chat server, and report violations. Standard library only.

A script is a list of steps, in order: ["join", who, address], ["say", who, [piece, …]],
["leave", who, how]. `who` is the number of a client; `how` is "close", "reset" or "half-close". A
text begins with a unique token, `msgWHO.NUMBER:`. After each step, the player waits briefly for the
effect of the step: the welcome, a client that receives the line, or the end of the connection. With
`hurry`, it does not wait. At the end, each client that is still connected sends a final message,
and waits for the final messages of all other clients. Then the lines that each client received are
judged.
"""

import contextlib
import errno
import re
import selectors
import socket
import struct
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

# The player ends after a silence of this number of seconds:
PATIENCE = 2.0  # while a final message is missing
CALM = 0.3  # when all final messages have arrived, or when only one client is left
GRACE = 0.05  # when all messages have arrived
STEP = 0.05  # maximum number of seconds to wait until a client receives a line
HURRY = 0.01  # maximum number of seconds to wait for the welcome with `hurry`
PAUSE = 0.02  # seconds between two pieces of a line
MAY_FLUSH = 0.1  # pause (s) after which a server may deliver the first piece as a message (LINE-5)
# All orders are compared with those of a few clients, the ones that received the most lines.
OBSERVERS = 4  # number of these clients

TOKEN = re.compile(rb"msg\d+\.\d+:")
RESET = struct.pack("ii", 1, 0)

# Control characters and their replacements (TEXT-3).
VISIBLE = {code: 0x2400 + code for code in range(0x20) if code != 0x09} | {0x7F: 0x2421}
VISIBLE |= dict.fromkeys((*range(0x80, 0xA0), 0x61C, 0x200E, 0x200F, 0x2028, 0x2029), 0xFFFD)
VISIBLE |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)


def plain(text: bytes) -> str:
    """Decode a text, and replace each run of U+FFFD by a single U+FFFD.

    Servers differ in the number of U+FFFD that they deliver for bytes that are not UTF-8.
    """
    return re.sub("\ufffd+", "\ufffd", text.decode("utf-8", "replace"))


class Message:
    def __init__(self, sender: "Person", text: bytes) -> None:
        self.sender = sender
        self.token = TOKEN.match(text)[0]  # type: ignore[index]
        text = text.removesuffix(b"\r")
        self.said = plain(text)
        shown = text.decode("utf-8", "replace").translate(VISIBLE).encode()
        self.texts = {self.said, plain(shown)}  # texts that may arrive (TEXT-2, TEXT-3)
        self.slow = False  # true if a server may deliver the pieces as messages: a pause was long

    def __str__(self) -> str:
        return f"{self.token[:-1].decode()} ({self.said[:40]!r} of {self.sender})"


class Person:
    def __init__(self, who: int, connection: socket.socket, *, greeted: bool) -> None:
        self.who, self.socket, self.greeted = who, connection, greeted
        self.address = connection.getsockname()[0]
        self.strange = b""  # text that was received instead of the welcome
        self.certain = False  # true if the welcome was received: this is a member (WELCOME-3)
        self.line_end_due = False  # true if the LF of the welcome may still arrive
        self.unread = b""  # incomplete line, or incomplete welcome
        self.lines: list[bytes] = []
        self.said: list[Message] = []
        self.due: list[Message] = []
        self.awaited: set[bytes] = set()  # tokens of lines in `due` that have not arrived
        self.left = ""
        self.ended = False

    def __str__(self) -> str:
        return f"{self.who} at {self.address}"

    def take(self, data: bytes, welcome: bytes) -> None:
        self.unread += data
        if not self.greeted:
            found = re.match(b"(?:%s)\r?\n?" % welcome, self.unread)
            if found:
                self.certain, self.line_end_due = True, not found[0].endswith(b"\n")
                self.unread = self.unread[found.end() :]
            elif b"\n" in self.unread:
                self.strange = self.unread
            else:
                return
            self.greeted = True
        if self.line_end_due and self.unread:
            self.line_end_due, self.unread = False, self.unread.removeprefix(b"\n")
        *lines, self.unread = self.unread.split(b"\n")
        self.lines += lines
        self.awaited.difference_update(*map(TOKEN.findall, lines))


class Room:
    def __init__(self, where: tuple[str, int], welcome: bytes, *, hurry: bool) -> None:
        self.where, self.welcome, self.hurry = where, welcome, hurry
        self.greets = True  # false if the last client received no welcome in time
        self.everyone: list[Person] = []
        self.here: dict[int, Person] = {}
        self.messages: dict[bytes, Message] = {}  # by token
        self.wrong: list[str] = []
        self.received = 0  # number of reads by all clients
        self.selector = selectors.DefaultSelector()

    def close(self) -> None:
        for person in self.everyone:
            person.socket.close()
        self.selector.close()

    # --- the steps -----------------------------------------------------------

    def join(self, who: int, address: str) -> None:
        host = self.where[0]
        is_local = host == "localhost" or host.startswith("127.")  # each client has its own address
        try:
            connection = socket.create_connection(
                self.where, PATIENCE, (address, 0) if is_local else None
            )
        except OSError as error:
            # If the first client is refused, or this machine lacks a resource, end the play.
            if not self.everyone or error.errno in (errno.EADDRNOTAVAIL, errno.EMFILE):
                raise
            self.wrong.append(f"refused: {who} at {address}: {error}")
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        person = self.here[who] = Person(who, connection, greeted=not self.welcome)
        self.everyone.append(person)
        self.selector.register(connection, selectors.EVENT_READ, person)
        patience = HURRY if self.hurry else PATIENCE if self.greets else STEP
        self.greets = self.wait(lambda: person.greeted or person.ended, patience) or self.hurry

    def say(self, who: int, pieces: Sequence[bytes]) -> Message | None:
        """Send a line. All other clients that have received the welcome must receive this line."""
        speaker = self.here.get(who)
        if speaker is None or speaker.ended:
            return None
        message = Message(speaker, b"".join(pieces))
        hearers = [other for other in self.here.values() if other is not speaker and other.greeted]
        before = 0.0
        for piece in (*pieces[:-1], pieces[-1] + b"\n"):
            if before:
                self.wait(lambda: False, PAUSE)
            now = time.monotonic()
            message.slow |= bool(before) and now - before >= MAY_FLUSH
            before = now
            if not self.send(speaker, piece):
                return None
        speaker.said.append(message)
        self.messages[message.token] = message
        for person in hearers:
            person.due.append(message)
            person.awaited.add(message.token)
        came = [hearer for hearer in hearers if not hearer.ended]
        if came and not self.hurry:
            self.wait(lambda: any(message.token not in hearer.awaited for hearer in came), STEP)
        return message

    def send(self, speaker: Person, data: bytes) -> bool:
        """Send data; return whether all of it was sent."""
        deadline = time.monotonic() + PATIENCE
        while data and not speaker.ended and time.monotonic() < deadline:
            try:
                data = data[speaker.socket.send(data) :]
            except BlockingIOError:
                self.wait(lambda: False, HURRY)
            except OSError:
                break
        return not data

    def leave(self, who: int, how: str) -> None:
        person = self.here.pop(who, None)
        if person is not None:
            self.wait(lambda: False, 0.0)  # if there is unread input, a close sends a RST
        if person is None or person.ended:
            return
        person.left = how
        is_noticed = True
        if how == "half-close" or (how == "close" and not self.hurry):
            with contextlib.suppress(OSError):  # the server may have just ended the connection
                person.socket.shutdown(socket.SHUT_WR)
            patience = PATIENCE if how == "half-close" else STEP
            is_noticed = self.wait(lambda: person.ended, patience)
        if how == "half-close" and not is_noticed:
            says = f"{person} closed its side, but the server did not close its own side"
            self.wrong.append(f"uncleaned: {says}")
        if not person.ended:
            self.selector.unregister(person.socket)
        if how == "reset":
            person.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        person.socket.close()
        if how == "reset" and not self.hurry:
            self.wait(lambda: False, PAUSE)  # a server sends no reply to a RST

    def end(self) -> None:
        """Send the final messages, and wait until all clients have received them.

        The messages that a client sent earlier must arrive before its final message (CAST-4).
        """
        last = set()
        for person in [*self.here.values()]:
            numbers = [int(said.token[:-1].split(b".")[1]) for said in person.said]
            number = 1 + max(numbers, default=0)
            message = self.say(person.who, [b"msg%d.%d:that was all" % (person.who, number)])
            last |= {message.token} if message else set()
        while True:
            hearers = [hearer for hearer in self.here.values() if not hearer.ended]
            if any(not last.isdisjoint(hearer.awaited) for hearer in hearers):
                patience = PATIENCE
            elif len(hearers) < 2 or any(hearer.awaited for hearer in hearers):
                patience = CALM
            else:
                patience = GRACE
            before = self.received
            if not self.wait(lambda: self.received > before, patience):  # noqa: B023
                return

    def wait(self, came: Callable[[], bool], seconds: float) -> bool:
        """Read input until `came()` is true, for at most `seconds`; return the last `came()`.

        Input that has already arrived is always read.
        """
        deadline = time.monotonic() + seconds
        left = 0.0
        while True:
            for key, _ in self.selector.select(left):
                self.take(key.data)
            left = deadline - time.monotonic()
            if came() or left <= 0:
                return came()

    def take(self, person: Person) -> None:
        try:
            data = person.socket.recv(1 << 18)
        except OSError:
            data = b""
        self.received += 1
        if data:
            person.take(data, self.welcome)
        else:
            person.ended = True
            self.selector.unregister(person.socket)


def play(
    host: str,
    port: int,
    script: list[list[Any]],
    welcome: bytes = b"",
    prefix: bytes = b"",
    notices: Sequence[bytes] = (),
    *,
    hurry: bool = False,
) -> list[str]:
    """Play a script; return a description of each violation, which begins with a kind and a colon.

    welcome, prefix, notices: patterns of the welcome, of the text before a message, and of
    lines that the server itself sends. If `prefix` is empty, prefixes must be <ADDRESS>.
    hurry: true to play the steps without waiting. Raise OSError if the first client is refused, or
    if this machine lacks a resource.
    """
    room = Room((host, port), welcome, hurry=hurry)
    try:
        for kind, who, what in script:
            room.wait(lambda: False, 0.0)
            getattr(room, kind)(who, what)
        room.end()
    finally:
        room.close()
    return [*room.wrong, *Judge(room, prefix, notices).judge()]


class Judge:
    def __init__(self, room: Room, prefix: bytes, notices: Sequence[bytes]) -> None:
        self.room, self.prefix, self.notices = room, prefix, notices
        self.wrong: list[str] = []
        self.heard: dict[Person, list[Message]] = {}

    def judge(self) -> list[str]:
        for person in self.room.everyone:
            self.connection(person)
            self.read_all(person)
        reached = {message for heard in self.heard.values() for message in heard}
        place = {said: at for sender in self.room.everyone for at, said in enumerate(sender.said)}
        for person in self.room.everyone:
            self.losses(person, reached)
            self.order(person, place)
        self.orders()
        return self.wrong

    def connection(self, person: Person) -> None:
        if person.strange:
            self.wrong.append(f"unwelcomed: {person} received {person.strange[:80]!r} first")
        elif not person.greeted and not person.left and not person.ended:
            self.wrong.append(f"unwelcomed: {person} was accepted, but received no welcome")
        if person.ended and not person.left:
            self.wrong.append(f"disconnected: {person} was disconnected")

    def read_all(self, person: Person) -> None:
        times: dict[Message, int] = {}
        for line in person.lines:
            if not self.is_notice(person, line) and (message := self.read(person, line)):
                times[message] = times.get(message, 0) + 1
        for message, count in times.items():
            if message.sender is person:
                self.wrong.append(f"echoed: {person} received its own {message}")
            elif count > 1:
                self.wrong.append(f"duplicated: {person} received {message} {count} times")
        self.heard[person] = [message for message in times if message.sender is not person]

    def is_notice(self, person: Person, line: bytes) -> bool:
        if person.strange and re.fullmatch(b"(?:%s)\r?" % self.room.welcome, line):
            return True  # this is the welcome, which arrived after other text
        return any(re.fullmatch(notice, line + b"\n") for notice in self.notices)

    def read(self, person: Person, line: bytes) -> Message | None:
        """Return the message in a line, or None if there is none. Report a wrong text or prefix."""
        message, at = self.message_of(line)
        if message is None:
            if not any(map(self.may_be_in_pieces, self.room.messages.values())):
                self.wrong.append(f"torn: {person} received {line[:80]!r}, which no client sent")
        elif plain(line[at:]) not in message.texts and not self.may_be_in_pieces(message):
            self.wrong.append(f"torn: {person} received {message} as {line[at:][:80]!r}")
        elif not self.is_prefix(line[:at], message.sender):
            self.wrong.append(
                f"misprefixed: {person} received {message} with the prefix {line[:at]!r}"
            )
        return message

    def message_of(self, line: bytes) -> tuple[Message | None, int]:
        """Return the message that a line contains, and the offset of its text in the line."""
        for found in TOKEN.finditer(line):
            if message := self.room.messages.get(found[0]):
                return message, found.start()
        return None, 0

    def is_prefix(self, prefix: bytes, sender: Person) -> bool:
        if self.prefix:
            return re.fullmatch(self.prefix, prefix) is not None
        return prefix == b"<%s>" % sender.address.encode()

    def was_cut(self, person: Person) -> bool:
        """Return whether the server may have lost the last lines of a client."""
        return person.left == "reset" or (person.ended and not person.left)

    def may_be_in_pieces(self, message: Message) -> bool:
        return message.slow or self.was_cut(message.sender)

    def losses(self, person: Person, reached: set[Message]) -> None:
        """Report lines that a client should have received, but has not received."""
        heard = {*self.heard[person]}
        is_there = not person.left and not person.ended
        due = person.due
        if not person.certain:
            first = next((at for at, message in enumerate(due) if message in heard), len(due))
            due = due[first:]
        for message in due:
            if message in heard:
                continue
            said = message.sender.said
            later = {*said[said.index(message) :]}
            was_said = not self.was_cut(message.sender) or not later.isdisjoint(reached)
            if was_said and (is_there or not later.isdisjoint(heard)):
                self.wrong.append(f"lost: {person} never received {message}")

    def order(self, person: Person, place: dict[Message, int]) -> None:
        """Check that a client received each sender's lines in order (CAST-4)."""
        last: dict[Person, Message] = {}
        for message in self.heard[person]:
            before = last.get(message.sender, message)
            if place[before] > place[message]:
                self.wrong.append(f"misordered: {person} received {before} before {message}")
                return
            last[message.sender] = message

    def orders(self) -> None:
        """Report two clients that received two lines in different orders (CAST-5)."""
        most = sorted(self.heard, key=lambda observer: -len(self.heard[observer]))[:OBSERVERS]
        for observer in most:
            place = {message: at for at, message in enumerate(self.heard[observer])}
            for other in self.heard:
                known = [message for message in self.heard[other] if message in place]
                for first, then in pairwise(known):
                    if place[first] > place[then]:
                        self.wrong.append(
                            f"misordered: {other} received {first} before {then}, "
                            f"but {observer} received {first} after {then}"
                        )
                        return
