"""A crowd of members that send lines at the same time. The crowd checks every byte that its members
receive.

The first member sends nothing: it receives all lines, and their order is the room's sequence. Each
line must be the next line of its sender, and every other member must receive the same sequence
without its own lines. A line is dropped after the check, so a crowd may run for hours.
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
"""Maximum number of bytes that a member has sent but the first member has not received."""
BACKLOG = 24 * 1024
"""Maximum backlog (bytes) of a member. While a member has a larger backlog, no member sends a new
line. The value is smaller than every --max-lag of the tests."""

TEXT = "naïve – 語る 🙂 plain words, and more of them. ".encode() * 8


class Member:
    """A member of a crowd."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.number = 0
        """Number of the member's next line."""
        self.unsent = bytearray()
        self.said: deque[bytes] = deque()
        """Lines of this member that the first member has not received yet, with their prefix."""
        self.waiting = 0
        """Total size of `said` (bytes)."""
        self.wanted = bytearray()
        """Bytes that the member must receive next."""
        self.incomplete = bytearray()
        """Unfinished line at the end of the member's stream, if the crowd expects notices."""
        self.notices: list[bytes] = []
        """Notices that the member has received."""
        self.welcomed = True
        self.found = True
        """True if the crowd knows which line of the sequence the member received first."""


class Crowd:
    def __init__(
        self,
        clients: Iterable[Client],
        seed: int = 1,
        *,
        ahead: int = AHEAD,
        notices: tuple[bytes, ...] = (),
    ) -> None:
        """`clients` are welcomed members; the first sends nothing. `ahead` replaces AHEAD.

        `notices` are lines that the room may send at any place. The place may differ between
        members.
        """
        self._notices = notices
        self._chance = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._members: dict[bytes, Member] = {}
        """Members by prefix. A member that has left stays until the first member has received all
        its lines."""
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
        """Members that have not left, including the first."""
        return [
            member.client for prefix, member in self._members.items() if prefix not in self._left
        ]

    def has(self, prefix: bytes) -> bool:
        return prefix in self._members

    def add(self, client: Client) -> None:
        """Add a new client. The client must receive the welcome, and then all lines from some line
        on."""
        member = self._add(client)
        member.welcomed = member.found = False

    def leave(self, client: Client) -> None:
        """Close a member's connection. The room must still deliver everything that the member sent,
        including an unfinished line."""
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

    # --- sending -------------------------------------------------------------

    def talk(self, until: Callable[[], object], what: str = "", patience: float = PATIENCE) -> None:
        """Let members send until the condition holds, and then wait until they have received
        everything."""
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
        """Let members send until the first member has received `lines` more lines."""
        goal = self.lines + lines
        self.talk(lambda: self.lines >= goal, f"{lines} more lines are received")

    def settle(self) -> None:
        """Wait until all members have received all lines."""
        while not self.settled():
            # Another line ends the unfinished line of a member that has left. This line also shows
            # where in the sequence a newcomer begins.
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

    def send(self, client: Client, text: bytes, *, part: int | None = None) -> None:
        """Let a client send whole lines. With `part`, only that many bytes are sent now, and the
        rest later."""
        member = self._members[client.prefix]
        assert not member.unsent
        self._put(member, text)
        self._send(member, len(text) if part is None else part)

    def end(self) -> None:
        """Check that no member receives another byte before its connection ends."""
        for prefix, member in self._members.items():
            if prefix not in self._left:
                member.client.socket.settimeout(PATIENCE)
                rest = bytes(member.incomplete) + member.client.receive_rest()
                if self._notices:
                    rest = b"".join(
                        line for line in rest.splitlines(keepends=True) if line not in self._notices
                    )
                assert not rest, f"{member.client.address} received {rest[:500]!r} before the end"
        self._selector.close()

    def turn(self, *, more: bool = True) -> None:
        """Let each member send something, unless it must wait, and check all received data."""
        busy = False
        # Ignore newcomers whose first line is not found yet, because more lines are needed to find
        # it.
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
        # Check the first member before the others, which are compared with it.
        for key, _ in sorted(ready, key=lambda pair: pair[0].data is not self._first):
            client = key.data.client
            before = len(client.unread)
            assert client.receive(), f"{client.address}: its connection was {client.ended}"
            if self._notices:
                self._take_notices(key.data, before)
            self._check_received(key.data)

    def _take_notices(self, member: Member, before: int) -> None:
        """Remove notices and an unfinished line from the data that a member has just received. This
        data begins after the first `before` bytes of `unread`."""
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
            f"{member.client.address}: {len(member.wanted)} bytes not received, "
            f"{len(member.client.unread)} received but not expected, {len(member.unsent)} not sent,"
            f" {len(member.said)} lines not received by the first member"
            for member in self._members.values()
            if member.wanted or member.client.unread or member.unsent or member.said
        )

    def _lines(self, member: Member) -> bytes:
        """Return the next lines of a member. The lines have different sizes, and some are empty."""
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

    # --- receiving -------------------------------------------------------------

    def _check_received(self, member: Member) -> None:
        client = member.client
        if not member.welcomed:
            if len(client.unread) < len(WELCOME):
                assert WELCOME.startswith(client.unread), (client.address, client.unread)
                return
            client.expect(WELCOME)
            member.welcomed = True
        if member is self._first:
            self._check_first(member)
        elif not member.found:
            self._find(member)
        else:
            self._compare(member)

    def _check_first(self, member: Member) -> None:
        """Check the next lines of the room's sequence. Only whole lines are checked."""
        block = member.client.take(member.client.unread.rfind(b"\n") + 1)
        lines = block.splitlines(keepends=True)
        speakers = [line[: line.find(b">") + 1] for line in lines]
        for prefix, line in zip(speakers, lines, strict=True):
            client = self._members.get(prefix)
            assert client is not None, f"{line!r} is from an unknown sender"
            assert client.said, f"nobody sent {line!r}"
            said = client.said.popleft()
            assert said == line, f"expected {said!r}, but received {line!r}"
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
        """Find the first line of a newcomer among all lines since it connected."""
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
