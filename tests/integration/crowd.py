"""A crowd that talks all at once, and counts every byte that each of them hears.

The first of it says nothing: its stream is the room's sequence. Each line in it has to be the next
one of who said it, and each of the others has to hear the same stream, less its own lines. All that
is checked as it comes and then forgotten, so a crowd may talk for hours.
"""

import contextlib
import random
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterable

from tests.integration.clients import Client
from tests.integration.rooms import WELCOME
from tests.integration.waiting import PATIENCE, STEP

AHEAD = 1500
"""Bytes that each may have said before the first of the crowd has heard them."""
BACKLOG = 24 * 1024
"""Bytes that anyone may have to hear before more is said: less than any --max-lag."""

TEXT = "naïve – 語る 🙂 plain words, and more of them. ".encode() * 8


class Member:
    """One of a crowd."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.number = 0
        """Of its next line."""
        self.unsent = bytearray()
        self.said: deque[bytes] = deque()
        """Its lines, as others hear them, that the first has not heard yet."""
        self.waiting = 0
        """Bytes of these."""
        self.wanted = bytearray()
        """What is to be heard next."""
        self.welcomed = True
        self.found = True
        """Whether it is known at which line of the room's sequence it began."""


class Crowd:
    def __init__(self, clients: Iterable[Client], seed: int = 1, *, ahead: int = AHEAD) -> None:
        """`clients`: who have been welcomed; the first says nothing. `ahead`: see AHEAD."""
        self._chance = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._members: dict[bytes, Member] = {}
        """By prefix, those who have left included as long as a line of theirs is awaited."""
        self._left: set[bytes] = set()
        self._heard_last = time.monotonic()
        self._ahead = ahead
        self.lines = 0
        """Of the room's sequence."""
        for client in clients:
            self._add(client)
        self._first = next(iter(self._members.values()))

    def _add(self, client: Client) -> Member:
        assert client.prefix not in self._members
        client.socket.setblocking(False)
        member = self._members[client.prefix] = Member(client)
        self._selector.register(client, selectors.EVENT_READ, member)
        return member

    # --- who is there --------------------------------------------------------

    def present(self) -> list[Client]:
        """All who have not left, the first included."""
        return [
            member.client for prefix, member in self._members.items() if prefix not in self._left
        ]

    def knows(self, prefix: bytes) -> bool:
        return prefix in self._members

    def enter(self, client: Client) -> None:
        """One who has just connected: it is welcomed, then hears all from some line on."""
        member = self._add(client)
        member.welcomed = member.found = False

    def leave(self, client: Client) -> None:
        """It goes, and what it has sent is still to be heard: half a line, too."""
        member = self._members[client.prefix]
        lacking = len(member.unsent)
        member.unsent.clear()
        while lacking:
            line = member.said.pop()
            member.waiting -= len(line)
            text = line.removeprefix(client.prefix)
            if len(text) > lacking:
                text = text[:-lacking].decode(errors="replace").encode() + b"\n"
                member.said.append(client.prefix + text)
                member.waiting += len(member.said[-1])
                break
            lacking -= len(text)
        self._selector.unregister(client)
        client.finish()
        # All that came is read, so that it is no reset that ends the connection.
        client.socket.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionError):
            while client.socket.recv(1 << 16):
                pass
        client.close()
        self._left.add(client.prefix)
        self._forget(member)

    def _forget(self, member: Member) -> None:
        if member.client.prefix in self._left and not member.said:
            self._left.remove(member.client.prefix)
            del self._members[member.client.prefix]

    # --- talking -------------------------------------------------------------

    def talk(self, until: Callable[[], object], what: str = "", patience: float = PATIENCE) -> None:
        """Talk until this is so, and then until all have heard all."""
        deadline = time.monotonic() + patience
        look_at = 0.0
        while True:
            now = time.monotonic()
            if now >= look_at:
                if until():
                    break
                assert now < deadline, f"this did not come about in {patience} s: {what}"
                look_at = now + STEP
            self.turn()
        self.settle()

    def talk_on(self, lines: int = 60) -> None:
        """Say some more lines."""
        goal = self.lines + lines
        self.talk(lambda: self.lines >= goal, f"{lines} more lines are heard")

    def settle(self) -> None:
        """All hear all that was said."""
        while not self.settled():
            # One more line ends the unfinished one of who has left, and lets a newcomer be found.
            self.turn(
                more=any(not member.found for member in self._members.values()) or bool(self._left)
            )

    def settled(self) -> bool:
        return not any(
            member.unsent
            or member.said
            or member.wanted
            or member.client.unread
            or not member.welcomed
            for member in self._members.values()
        )

    def say(self, client: Client, text: bytes, *, part: int | None = None) -> None:
        """One says whole lines; `part`: so many bytes of them now, and the rest when it talks."""
        member = self._members[client.prefix]
        assert not member.unsent
        self._put(member, text)
        self._send(member, len(text) if part is None else part)

    def end(self) -> None:
        """When the room has ended, nobody has heard another byte."""
        for prefix, member in self._members.items():
            if prefix not in self._left:
                member.client.socket.settimeout(PATIENCE)
                member.client.hear_end()
        self._selector.close()

    def turn(self, *, more: bool = True) -> None:
        """Each says something, if it may, and all hear what has come."""
        busy = False
        # A newcomer who waits to be let in lacks nothing yet, and more has to be said to find it.
        backlog = max(len(member.wanted) for member in self._members.values() if member.found)
        for prefix, member in self._members.items():
            if member is self._first or prefix in self._left:
                continue
            if more and not member.unsent and backlog < BACKLOG and member.waiting < self._ahead:
                self._put(member, self._lines(member))
            if member.unsent:
                busy = self._send(member, self._chance.randrange(1, 400)) or busy
        ready = self._selector.select(0 if busy else STEP)
        now = time.monotonic()
        if ready:
            self._heard_last = now
        assert now - self._heard_last < PATIENCE, f"nobody hears anything more; {self._owed()}"
        # The first before the others, for what they hear is measured by it.
        for key, _ in sorted(ready, key=lambda pair: pair[0].data is not self._first):
            client = key.data.client
            assert client.receive(), f"{client.address}: its connection was {client.ended}"
            self._hear(key.data)

    def _owed(self) -> str:
        return ", ".join(
            f"{member.client.address}: {len(member.wanted)} wanted, "
            f"{len(member.client.unread)} not, {len(member.unsent)} unsent, "
            f"{len(member.said)} lines unheard"
            for member in self._members.values()
            if member.wanted or member.client.unread or member.unsent or member.said
        )

    def _lines(self, member: Member) -> bytes:
        """What it says next: lines of all sizes, some of them empty."""
        chance, said = self._chance, b""
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            size = chance.choice((0, 1, 10, 50, 200))
            text = TEXT[:size].decode(errors="ignore").encode()
            said += b"%d:%s\n" % (member.number, text)
            member.number += 1
        return said

    def _put(self, member: Member, text: bytes) -> None:
        member.unsent += text
        for line in text.splitlines(keepends=True):
            member.said.append(member.client.prefix + line)
            member.waiting += len(member.said[-1])

    def _send(self, member: Member, size: int) -> bool:
        try:
            sent = member.client.socket.send(member.unsent[:size])
        except BlockingIOError:
            return False
        del member.unsent[:sent]
        return True

    # --- hearing -------------------------------------------------------------

    def _hear(self, member: Member) -> None:
        client = member.client
        if not member.welcomed:
            if len(client.unread) < len(WELCOME):
                assert WELCOME.startswith(client.unread), (client.address, client.unread)
                return
            client.hear(WELCOME)
            member.welcomed = True
        if member is self._first:
            self._hear_first(member)
        elif not member.found:
            self._find(member)
        else:
            self._compare(member)

    def _hear_first(self, member: Member) -> None:
        """Another part of the room's sequence, in whole lines."""
        block = member.client.take(member.client.unread.rfind(b"\n") + 1)
        lines = block.splitlines(keepends=True)
        speakers = [line[: line.find(b">") + 1] for line in lines]
        for prefix, line in zip(speakers, lines, strict=True):
            client = self._members.get(prefix)
            assert client is not None, f"nobody who has said {line!r} was there"
            assert client.said, f"{line!r} was not said"
            said = client.said.popleft()
            assert said == line, f"{said!r} was said next, and {line!r} was heard"
            client.waiting -= len(line)
            self.lines += 1
        for prefix in {*speakers}:
            self._forget(self._members[prefix])
        for prefix, client in self._members.items():
            if client is member or prefix in self._left:
                continue
            own = prefix in speakers
            client.wanted += (
                b"".join(
                    line for speaker, line in zip(speakers, lines, strict=True) if speaker != prefix
                )
                if own
                else block
            )
            if client.found:
                self._compare(client)
            elif client.welcomed:
                self._find(client)

    def _find(self, member: Member) -> None:
        """Where a newcomer began: at some line of those since it came."""
        line = member.client.unread[: member.client.unread.find(b"\n") + 1]
        if not line:
            return
        at = 0 if member.wanted.startswith(line) else member.wanted.find(b"\n" + line) + 1
        if at or member.wanted.startswith(line):
            del member.wanted[:at]
            member.found = True
            self._compare(member)

    def _compare(self, member: Member) -> None:
        heard, wanted = member.client.unread, member.wanted
        size = min(len(heard), len(wanted))
        if heard[:size] != wanted[:size]:
            at = next(at for at in range(size) if heard[at] != wanted[at])
            begin = max(0, at - 200)
            raise AssertionError(
                f"{member.client.address} heard {bytes(heard[begin : at + 200])!r} "
                f"instead of {bytes(wanted[begin : at + 200])!r}"
            )
        del heard[:size], wanted[:size]
