"""What a test of conformance has: the room of the target, and people in it.

What makes a join certain is a token. The welcome proves nothing: a server may
send it before it has registered the client. So `join` has a witness say a token
until all have heard it; only then does the test begin, and each client's stream
begins behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import socket
import time
from collections.abc import Sequence
from math import inf

from harness.clients import stream
from harness.clients.client import Client, Clock, Log, connect
from harness.errors import (
    CannotJudge,
    JoinError,
    NotApplicable,
    RefusedError,
    TargetGoneError,
    Undecided,
    Violation,
    check_descriptors,
)
from harness.profile import Profile
from harness.target.interrupts import defer_signals
from harness.target.target import Target

LONGEST_WELCOME = 1 << 20
"""Bytes in which a welcome is looked for."""

ATTENTIVE = 0.05
"""Seconds by which the harness may be late and still counts as having watched."""

_addresses = itertools.count()
_runs = itertools.count(int(time.time() * 1000) % 36**6)


class Room:
    """The target's room, for one test. `server`: where it is reached, if not at the target."""

    def __init__(self, target: Target, profile: Profile, clock: Clock, log: Log) -> None:
        self.target = target
        self.profile = profile
        self.clock = clock
        self.log = log
        self.late = 0.0
        """Seconds by which the harness itself was late, at most."""
        self.random = random.Random(0)
        """What a test draws: it comes of the run's seed and the test's name, and of no more."""
        self.since = ""
        """The clause that was judged before, if one was."""
        self._looked = inf
        """When the harness was last seen to be in time, less what it was blocked until then."""
        self._clients: list[Client] = []
        self._members: list[Client] = []
        self._others: list[Target] = []
        self._witness: Client | None = None
        self._run = _base36(next(_runs))
        self._tokens = itertools.count()
        self._numbers = itertools.count()

    # --- words ---------------------------------------------------------------

    def token(self) -> bytes:
        """A word that was never said: letters and digits, always as many."""
        return f"{self._run}{next(self._tokens):05}".encode()

    def tokens(self, count: int) -> list[bytes]:
        return [self.token() for _ in range(count)]

    def texts(self, heard: bytes) -> list[bytes]:
        """The texts of what was heard, line by line, without prefixes and notices."""
        return stream.texts(heard, self.profile)

    def plain(self, heard: bytes) -> bytes:
        """What was heard, without the notices."""
        return stream.without_notices(heard, self.profile)

    def lines(self, heard: bytes) -> list[stream.Line]:
        return stream.lines(heard, self.profile)

    # --- people --------------------------------------------------------------

    async def connect(
        self, source: str | None = None, receive_buffer: int = 0, target: Target | None = None
    ) -> Client:
        """Somebody who has connected, and has not heard anything yet.

        source: an address; None: one that nobody has had in this test, where
        the target is local. Raises Undecided where it is not to be had; TargetGoneError where
        nobody listens at the target's address since before the test.
        """
        server = target or self.target
        number = next(self._numbers)
        if source is None and server.local and ":" not in server.host:
            source = self.address()
        try:
            client = await connect(
                _name(number), server.address, source, self.clock, self.log, receive_buffer
            )
        except RefusedError:
            if self.target.ours or self._clients or not self.since:
                raise
            raise TargetGoneError(
                f"the server at {self.target} accepts no connections any more, since {self.since}"
            ) from None
        except OSError as error:
            check_descriptors(error)
            raise Undecided(f"can't connect from {source}: {error.strerror}") from None
        self._clients.append(client)
        return client

    async def enter(
        self, source: str | None = None, receive_buffer: int = 0, target: Target | None = None
    ) -> Client:
        """Somebody who has heard the welcome, if one comes: not yet surely a member."""
        client = await self.connect(source, receive_buffer, target)
        await self.welcomed(client, self.window)
        return client

    async def welcomed(self, client: Client, within: float | None = None) -> bytes:
        """Take what comes up to the end of the welcome; nothing, where none comes in time.

        The line end behind it is dropped: whether there is one is WELCOME-4's business.
        """
        welcome = self.profile.welcome
        if welcome is None:
            return b""

        def end() -> int:
            found = welcome.search(bytes(client.heard[:LONGEST_WELCOME]))
            return found.end() if found else 0

        if not await client.waits(lambda: end() > 0, within):
            return b""
        taken = client.take(end())
        client.skip_line_end()
        return taken

    async def join(self, count: int) -> list[Client]:
        """`count` members, each from an address of its own."""
        members = [await self.enter() for _ in range(count)]
        self._members += members
        await self.settle()
        return members

    def count_in(self, *clients: Client) -> None:
        """They are members from now on: the next `settle` is for them too."""
        self._members += clients

    def count_out(self, *clients: Client) -> None:
        """They are members no more."""
        self._members = [member for member in self._members if member not in clients]

    async def settle(self) -> dict[Client, bytes]:
        """Wait until every member hears what is said, and return what each heard up to then.

        Raises JoinError where one of them never does.
        """
        witness = await self._ensure_witness()
        token, deaf = await self._speak_until_heard(witness, self._members)
        if deaf:
            raise JoinError(
                f"{deaf[0]} has joined, but does not hear what others say{self.fate()}",
                token,
                bytes(deaf[0].heard),
            )
        return {member: await member.hears_line(token) for member in self._members}

    async def _ensure_witness(self) -> Client:
        if self._witness is None or self._witness.ended:
            self._witness = await self.enter()
        return self._witness

    async def meet(self, *members: Client) -> None:
        """Have each speak until the next one hears it. Raises JoinError where that is in vain."""
        for speaker, listener in itertools.pairwise([*members, members[0]]):
            try:
                await self.greet(speaker, listener)
            except Violation as error:
                raise JoinError(error.what, error.expected, error.actual) from None

    async def greet(self, speaker: Client, listener: Client) -> None:
        """Have one speak until the other hears it. Raises Violation where it never does."""
        token, deaf = await self._speak_until_heard(speaker, [listener])
        if deaf:
            raise Violation(
                f"{listener} does not hear {speaker}{self.fate()}", token, bytes(listener.heard)
            )
        await listener.hears_line(token)

    async def _speak_until_heard(
        self, speaker: Client, listeners: Sequence[Client]
    ) -> tuple[bytes, list[Client]]:
        """Have one say words until all hear one: the last of them, and who does not hear it."""
        deadline = time.monotonic() + self.clock.patience
        while True:
            token = self.token()
            await speaker.say(token + b"\n")
            heard = await asyncio.gather(
                *[listener.comes(token, self.window) for listener in listeners]
            )
            deaf = [listener for listener, hears in zip(listeners, heard, strict=True) if not hears]
            if (
                not deaf
                or time.monotonic() >= deadline
                or any(listener.ended for listener in listeners)
            ):
                return token, deaf

    async def tell(self, speaker: Client, listener: Client) -> bytes:
        """Have one say a word that the other hears; what stands before it, on its line."""
        token = self.token()
        await speaker.say(token + b"\n")
        heard = (await listener.hears_line(token)).removesuffix(token)
        return self.plain(heard).rpartition(b"\n")[2]

    async def barrier(self, speaker: Client, *listeners: Client) -> list[bytes]:
        """What each listener heard before a new word of the speaker's, which is not in it.

        The speaker's earlier words are before it (CAST-4): what is not there will not come.
        """
        token = self.token()
        await speaker.say(token + b"\n")
        return [self.before(await listener.hears_line(token), token) for listener in listeners]

    async def last_words(self, members: Sequence[Client]) -> dict[Client, bytes]:
        """What each has heard when each has heard a last word of each other.

        What they said before is in it: nothing of it is under way.
        """
        heard = dict.fromkeys(members, b"")
        for speaker in members:
            others = [member for member in members if member is not speaker]
            for listener, before in zip(others, await self.barrier(speaker, *others), strict=True):
                heard[listener] += before
        return {member: heard[member] + bytes(member.heard) for member in members}

    async def hears_through(
        self, listener: Client, last: bytes, within: float | None = None
    ) -> bytes:
        """Take what a listener hears up to a word, less line ends and prefixes, wherever they are.

        For much that is said at once. `last` is the last that is said.
        """
        await self.waits_through(listener, last, within)
        return stream.squeezed(listener.take(len(listener.heard)), self.profile)

    async def waits_through(
        self, listener: Client, last: bytes, within: float | None = None
    ) -> None:
        """Wait until a listener has heard the last word of much that is said at once.

        A server may have cut the word in two: a prefix and a line end may be inside it. That is
        looked for at the end of what was heard, as squeezing all of it takes long; in all of it
        only when the time is up.
        """
        far = len(last) + 200  # the word, a prefix and a line end
        searched = 0

        def came() -> bool:
            nonlocal searched
            start, searched = max(0, searched - len(last)), len(listener.heard)
            return listener.heard.find(last, start) >= 0 or self._holds(listener.heard[-far:], last)

        if not (await listener.waits(came, within) or self._holds(listener.heard, last)):
            raise Violation(
                f"{listener} did not hear the end of much that was said{self.fate()}",
                last,
                bytes(listener.heard[-far:]),
            )

    def _holds(self, heard: bytearray, word: bytes) -> bool:
        return word in stream.squeezed(bytes(heard), self.profile)

    def before(self, heard: bytes, token: bytes) -> bytes:
        """What was heard before a token, and the prefix that it bears."""
        text = heard[: heard.rindex(token)]
        prefix = re.search(rb"(?:%b)\Z" % self.profile.prefix.pattern, text)
        return text[: prefix.start()] if prefix else text

    # --- time ----------------------------------------------------------------

    @property
    def window(self) -> float:
        """Seconds in which what must not come would have come."""
        return self.clock.window

    async def quiet(self) -> None:
        """Let a window go by in which the harness was attentive all the time."""
        left = self.window
        while left > 0:
            before = time.monotonic()
            await asyncio.sleep(min(left, ATTENTIVE))
            left -= min(time.monotonic() - before, 2 * ATTENTIVE)

    # --- addresses, other servers --------------------------------------------

    def address(self) -> str:
        """An address of this machine from which nobody has come yet in this run.

        Raises Undecided where it has but one.
        """
        number = next(_addresses)
        found = f"127.{1 + number // 62500 % 250}.{number // 250 % 250}.{number % 250 + 2}"
        try:
            with socket.socket() as probe:
                probe.bind((found, 0))
        except OSError as error:
            check_descriptors(error)
            raise Undecided(
                "this machine's loopback has one address only: senders can't be told apart"
            ) from None
        return found

    def another(self, options: str = "", host: str = "127.0.0.1") -> Target:
        """A server of its own, started as the target is; it is stopped after the test."""
        other = self.target.another(options, host)
        self._others.append(other)
        other.start()
        return other

    def own_server(self) -> Target:
        """A server for this test alone, where one can be started; else the target."""
        return self.another() if self.target.ours else self.target

    def at(self, server: Target, host: str) -> Target:
        """The same server, reached at another of its addresses."""
        return Target(host, server.port)

    def output(self) -> str:
        """The last that the server has printed; of several, the one that was started last."""
        return [self.target, *self._others][-1].output()

    def fate(self) -> str:
        """How the target ended, if it did."""
        how = self.target.death()
        return f"; the server {how}" if how else ""

    # --- the end -------------------------------------------------------------

    async def leave(self) -> None:
        """End all that the test has opened: without a reset, where the server lets us."""
        try:
            await self._leave()
        finally:
            with defer_signals(), contextlib.ExitStack() as stops:
                for other in self._others:
                    stops.callback(other.stop)

    async def _leave(self) -> None:
        self.log.ended = True
        for client in self._clients:
            client.finish()
        # A server that closes its side may be late; one that does not is waited for but once.
        within = self.window if self.target.stays_open else self.clock.patience
        deadline = time.monotonic() + within
        while any(client.reading for client in self._clients) and time.monotonic() < deadline:
            await asyncio.sleep(0.001)  # the event loop reads, until the server has closed too
        self.target.stays_open |= any(client.reading for client in self._clients)
        for client in self._clients:
            client.close()

    async def watch(self) -> None:
        """Note by how much the harness itself is late, until cancelled."""
        while True:
            self._looked = time.monotonic() - self._blocked()
            await asyncio.sleep(ATTENTIVE)
            self._look()

    def _look(self) -> None:
        late = time.monotonic() - self._blocked() - self._looked - ATTENTIVE
        self.late = max(self.late, late)

    def _blocked(self) -> float:
        """Seconds for which servers were started, stopped or weighed: that is no lateness."""
        return sum(server.blocked for server in (self.target, *self._others))

    def check_punctual(self) -> None:
        """Raises CannotJudge where the harness was so late that a failure may be its own."""
        self._look()
        if self.late > self.clock.patience / 4:
            raise CannotJudge(
                f"the harness itself was {self.late:.1f} s late: the machine is too busy"
            )


def applies(condition: object, reason: str) -> None:
    """Raises NotApplicable, for that reason, unless the condition holds."""
    if not condition:
        raise NotApplicable(reason)


def needs_ipv6() -> None:
    """Raises Undecided where this machine has none."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError as error:
        check_descriptors(error)
        raise Undecided(f"this machine has no ::1: {error.strerror}") from None


def expect(
    condition: object, what: str, expected: bytes | None = None, actual: bytes | None = None
) -> None:
    """Raises Violation, unless the condition holds."""
    if not condition:
        raise Violation(what, expected, actual)


def expect_equal(what: str, expected: bytes, actual: bytes) -> None:
    """Raises Violation, unless the bytes are those that are due."""
    expect(expected == actual, what, expected, actual)


def _name(number: int) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return letters[number] if number < 26 else f"{letters[number % 26]}{number // 26}"


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    for _ in range(6):
        number, digit = divmod(number, 36)
        text = digits[digit] + text
    return f"z{text}"
