"""A crowd of members that talk at the same time. Every byte that a member receives is checked.

The first member sends nothing: its stream is the room's sequence. Each line in it must be its
sender's next one, and each of the others must receive the same stream without its own lines. Lines
are checked when they arrive and then dropped, so a crowd may talk for hours.
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
"""Maximum number of bytes that a member has sent and the first member has not received."""
BACKLOG = 24 * 1024
"""Maximum backlog (bytes) of any member. Beyond it, no member sends a new line. It is smaller than
any --max-lag."""

TEXT = "naïve – 語る 🙂 plain words, and more of them. ".encode() * 8


class Member:
    """A member of a crowd."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.number = 0
        """Number of its next line."""
        self.unsent = bytearray()
        self.said: deque[bytes] = deque()
        """Its lines that the first member has not received yet, each as other members receive
        it."""
        self.waiting = 0
        """Size of `said` (bytes)."""
        self.wanted = bytearray()
        """Bytes that it must receive next."""
        self.incomplete = bytearray()
        """The begun line at the end of its stream, if notices are expected."""
        self.notices: list[bytes] = []
        """Notices that it has received."""
        self.welcomed = True
        self.found = True
        """True if its first line in the room's sequence is known."""


class Crowd:
    def __init__(
        self,
        clients: Iterable[Client],
        seed: int = 1,
        *,
        ahead: int = AHEAD,
        notices: tuple[bytes, ...] = (),
    ) -> None:
        """`clients`: welcomed members; the first sends nothing. `ahead`: see AHEAD.

        `notices`: lines that the room may send at any place, which differs between members.
        """
        self._notices = notices
        self._chance = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._members: dict[bytes, Member] = {}
        """Members by prefix. A member that has left is kept while some of its lines are still
        expected."""
        self._left: set[bytes] = set()
        self._heard_last = time.monotonic()
        self._ahead = ahead
        self.lines = 0
        """Number of lines in the room's sequence so far."""
        for client in clients:
            self._add(client)
        self._first = next(iter(self._members.values()))

    def _add(self, client: Client) -> Member:
        assert client.prefix not in self._members
        client.socket.setblocking(False)
        member = self._members[client.prefix] = Member(client)
        self._selector.register(client, selectors.EVENT_READ, member)
        return member

    # --- members -------------------------------------------------------------

    def present(self) -> list[Client]:
        """Members that have not left, the first included."""
        return [
            member.client for prefix, member in self._members.items() if prefix not in self._left
        ]

    def has(self, prefix: bytes) -> bool:
        return prefix in self._members

    def add(self, client: Client) -> None:
        """Add a new client: it must receive the welcome, and then everything from some line on."""
        member = self._add(client)
        member.welcomed = member.found = False

    def leave(self, client: Client) -> None:
        """Close a member's connection. Everything that it sent must still be delivered, including
        half a line."""
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
        # Read all input, so that the close does not reset the connection.
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
        """Talk until the condition holds, and then until all members have received everything."""
        deadline = time.monotonic() + patience
        look_at = 0.0
        while True:
            now = time.monotonic()
            if now >= look_at:
                if until():
                    break
                assert now < deadline, f"timeout after {patience} s: {what}"
                look_at = now + STEP
            self.turn()
        self.settle()

    def talk_on(self, lines: int = 60) -> None:
        """Talk until `lines` more lines are received."""
        goal = self.lines + lines
        self.talk(lambda: self.lines >= goal, f"{lines} more lines are heard")

    def settle(self) -> None:
        """Wait until all members have received all lines."""
        while not self.settled():
            # One more line ends the unfinished line of a past member, and locates newcomers.
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
        """Let a client send whole lines. With `part`, it sends only that many bytes now, and the
        rest later."""
        member = self._members[client.prefix]
        assert not member.unsent
        self._put(member, text)
        self._send(member, len(text) if part is None else part)

    def end(self) -> None:
        """Check that no member receives another byte until the room has ended."""
        for prefix, member in self._members.items():
            if prefix not in self._left:
                member.client.socket.settimeout(PATIENCE)
                member.client.hear_end()
        self._selector.close()

    def turn(self, *, more: bool = True) -> None:
        """Let each member send something, if it may, and check what all members receive."""
        busy = False
        # Newcomers that are not located yet do not count: it takes more lines to locate them.
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
        assert now - self._heard_last < PATIENCE, f"no data arrives; {self._missing()}"
        # The first member before the others, because they are compared with it.
        for key, _ in sorted(ready, key=lambda pair: pair[0].data is not self._first):
            client = key.data.client
            before = len(client.unread)
            assert client.receive(), f"{client.address}: its connection was {client.ended}"
            if self._notices:
                self._take_notices(key.data, before)
            self._check_received(key.data)

    def _take_notices(self, member: Member, before: int) -> None:
        """Move notices, and a begun line, from the data that a member has just received: those
        after the first `before` bytes."""
        unread = member.client.unread
        member.incomplete += unread[before:]
        del unread[before:]
        end = member.incomplete.rfind(b"\n") + 1
        for line in bytes(member.incomplete[:end]).splitlines(keepends=True):
            if line in self._notices:
                member.notices.append(line)
            else:
                unread += line
        del member.incomplete[:end]

    def notices(self) -> list[list[bytes]]:
        """Return the notices that each member has received."""
        return [member.notices for member in self._members.values()]

    def _missing(self) -> str:
        return ", ".join(
            f"{member.client.address}: {len(member.wanted)} wanted, "
            f"{len(member.client.unread)} not, {len(member.unsent)} unsent, "
            f"{len(member.said)} lines unheard"
            for member in self._members.values()
            if member.wanted or member.client.unread or member.unsent or member.said
        )

    def _lines(self, member: Member) -> bytes:
        """Return a member's next lines: of all sizes, some of them empty."""
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

    def _check_received(self, member: Member) -> None:
        client = member.client
        if not member.welcomed:
            if len(client.unread) < len(WELCOME):
                assert WELCOME.startswith(client.unread), (client.address, client.unread)
                return
            client.hear(WELCOME)
            member.welcomed = True
        if member is self._first:
            self._check_first(member)
        elif not member.found:
            self._find(member)
        else:
            self._compare(member)

    def _check_first(self, member: Member) -> None:
        """Check another part of the room's sequence, in whole lines."""
        block = member.client.take(member.client.unread.rfind(b"\n") + 1)
        lines = block.splitlines(keepends=True)
        speakers = [line[: line.find(b">") + 1] for line in lines]
        for prefix, line in zip(speakers, lines, strict=True):
            client = self._members.get(prefix)
            assert client is not None, f"{line!r} is from an unknown sender"
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
        """Find the line at which a newcomer began, among those since it connected."""
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
