"""The environment of a conformance test: the target's room, and clients in it.

A *token* is a unique word. Only a received token proves that a client has joined: a
server may send the welcome before it has registered the client. So `join` uses another
client, the *witness*: it sends tokens until all members have received the same token.
The input of each member, up to that token, is then dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Sequence
from math import inf

from harness.clients import stream
from harness.clients.client import Client, Clock, Log, connect
from harness.descriptors import check_descriptors
from harness.errors import (
    CannotJudge,
    JoinError,
    NotApplicable,
    RefusedError,
    TargetGoneError,
    Undecided,
    Violation,
)
from harness.profile import Profile
from harness.target.interrupts import defer_signals
from harness.target.listeners import overflowed
from harness.target.target import Target, Times, at, is_local, part_used
from harness.wording import counted

LONGEST_WELCOME = 1 << 20
"""Number of bytes at the beginning of a client's input that are searched for the welcome."""

ATTENTIVE = 0.05
"""Seconds between two checks that the harness itself is on time. Also the time (s) to wait for the
welcome of a server that seems to send none."""

LOGIN = 0.01
"""Seconds that a server has for a login, in a dialect without a welcome."""

SILENCES = 3
"""Number of successive clients that receive nothing, after which a server seems to send no
welcome."""

BUSY = 0.5
"""Number of processors. A server that uses more than this without any client has not noticed that
the clients have left."""

CLOSES_WITHIN = 3
"""Number of windows (see `Clock`). If no data arrives and no connection ends during this time, the
server does not seem to close its side of the connections."""

_addresses = itertools.count()
_runs = itertools.count(int(time.time() * 1000))
TOKEN = re.compile(rb"(z[0-9a-f]{8})\d{5}")
"""A token of any run. Its group is the part that all tokens of one room have in common."""

_own_runs: set[bytes] = set()
"""Beginnings of the tokens of all rooms of this process."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_names = itertools.count(random.SystemRandom().randrange(len(_LETTERS) ** 5))
"""Numbers from which login names are made. They start at a random number, because a running server
may still have the names of an earlier run."""


class Room:
    """The target's room, for one test."""

    admission = "JOIN-1"
    """Clause that is broken if the target accepts no more connections."""

    def __init__(self, target: Target, profile: Profile, clock: Clock, log: Log) -> None:
        self.target = target
        self.profile = profile
        self.clock = clock
        self.log = log
        self.late = 0.0
        """Largest delay of the harness itself, in seconds."""
        self.random = random.Random(0)
        """Generator of the test's random choices. A run seeds it with its seed and the test's
        name."""
        self.since = ""
        """Clause that was judged before this test; empty in the first test."""
        self.used = False
        """True once the test has begun to connect a client to the target itself."""
        self._looked = inf
        """Time of the last check for delays, minus the seconds for which the harness was
        blocked."""
        self._clients: list[Client] = []
        self._members: list[Client] = []
        self._others: list[Target] = []
        self._witness: Client | None = None
        self._first: int | None = None
        """Index of the endpoint of the first client; None until it is drawn."""
        self._run = f"z{next(_runs) % 16**8:08x}"
        _own_runs.add(self._run.encode())
        self._tokens = itertools.count()
        self._numbers = itertools.count()

    # --- tokens and lines ----------------------------------------------------

    def token(self) -> bytes:
        """Return a new token: letters and digits, of fixed length."""
        return f"{self._run}{next(self._tokens):05}".encode()

    def tokens(self, count: int) -> list[bytes]:
        return [self.token() for _ in range(count)]

    def texts(self, heard: bytes) -> list[bytes]:
        """Return the texts of the received lines, without prefixes and notices."""
        return stream.texts(heard, self.profile)

    def plain(self, heard: bytes) -> bytes:
        """Return the received bytes without notices."""
        return stream.without_notices(heard, self.profile)

    def lines(self, heard: bytes) -> list[stream.Line]:
        return stream.lines(heard, self.profile)

    # --- clients -------------------------------------------------------------

    async def connect(
        self,
        source: str | None = None,
        receive_buffer: int = 0,
        target: Target | None = None,
        login_name: str | None = None,
    ) -> Client:
        """Connect a client to the target's next endpoint, without login, and without waiting for
        the welcome.

        source: the client's address; None: a new address if the endpoint is an IPv4 loopback
        address, else the system's choice. target: the server to connect to; None: the target of
        this room. login_name: name for the login; None: a new name.
        Raise Undecided if the client can't connect from `source`, and TargetGoneError if the target
        had stopped accepting connections before this test.
        """
        self.used |= target is None or target is self.target
        number = next(self._numbers)
        endpoint = self._endpoint(number, (target or self.target).endpoints, source)
        if source is None and is_local(endpoint[0]) and ":" not in endpoint[0]:
            source = self.address()
        try:
            client = await connect(
                _name(number),
                endpoint,
                source,
                self.clock,
                self.log,
                self.profile,
                receive_buffer,
                self.login_name() if login_name is None else login_name,
            )
        except RefusedError:
            if self.target.ours or self._clients or not self.since:
                raise
            raise TargetGoneError(
                f"the server at {at(*endpoint)} has accepted no connections since {self.since}"
            ) from None
        except OSError as error:
            check_descriptors(error)
            raise Undecided(f"can't connect from {source}: {error.strerror}") from None
        self._clients.append(client)
        return client

    def _endpoint(
        self, number: int, endpoints: Sequence[tuple[str, int]], source: str | None
    ) -> tuple[str, int]:
        """Return the endpoint for the client with this number, of the same family as `source`.

        Clients take the endpoints in turn, starting at a random one. Each round starts one endpoint
        later than the round before. So if two kinds of clients alternate in a test, both kinds
        connect to every endpoint.
        """
        if source is not None:
            fit = [endpoint for endpoint in endpoints if (":" in endpoint[0]) == (":" in source)]
            endpoints = fit or endpoints
        count = len(endpoints)
        if count > 1 and self._first is None:
            self._first = self.random.randrange(count)
        return endpoints[((self._first or 0) + number + number // count) % count]

    def stranger(self) -> bytes | None:
        """Return a line that a client of another run has sent during this test; None if there is
        none, or if the harness started the target."""
        record = self.log.record
        return record.stranger(self.profile, _is_own) if record else None

    @property
    def exchanged(self) -> bool:
        """True if a client has received a message of this test."""
        run = self._run.encode()
        return any(event.what == "receives" and run in event.data for event in self.log.events())

    async def enter(
        self,
        source: str | None = None,
        receive_buffer: int = 0,
        target: Target | None = None,
        login_name: str | None = None,
    ) -> Client:
        """Connect a client, log it in, and take its welcome if one arrives. The client may not be a
        member yet."""
        client = await self.connect(source, receive_buffer, target, login_name)
        await client.log_in()
        if self.profile.login and self.profile.welcome is None:
            await asyncio.sleep(LOGIN)  # nothing shows that the login has been processed
        await self._take_welcome(client)
        return client

    async def _take_welcome(self, client: Client) -> None:
        """Take a client's welcome if it arrives within `window` seconds.

        If the previous client did not receive the welcome of the profile, any text ends the wait.
        If the last SILENCES clients received nothing at all, the wait is only ATTENTIVE seconds.
        """
        target = self.target
        if target.unwelcoming:
            short = target.silences >= SILENCES
            await client.waits(lambda: bool(client.heard), ATTENTIVE if short else self.window)
            taken = await self.welcomed(client, 0)
        else:
            taken = await self.welcomed(client, self.window)
        target.unwelcoming = self.profile.welcome is not None and not taken
        target.silences = 0 if taken or client.heard else target.silences + 1

    async def welcomed(self, client: Client, within: float | None = None) -> bytes:
        """Take all input up to the end of the welcome; return b"" if the welcome does not arrive in
        time.

        A line end after the welcome is dropped. Only the test of WELCOME-4 requires a line end.
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
        """Connect `count` clients, each at its own address; return them once all are members.

        With a login, a client connects when the one before it has its welcome: some servers mix up
        clients that log in at the same time, which breaks only JOIN-1.
        """
        if self.profile.login:
            members = [await self.enter() for _ in range(count)]
        else:
            members = [await self.connect() for _ in range(count)]
            await asyncio.gather(*map(self._take_welcome, members))
        self._members += members
        await self.settle()
        return members

    def count_in(self, *clients: Client) -> None:
        """Count clients as members from now on, so that `settle` waits for them, too."""
        self._members += clients

    def count_out(self, *clients: Client) -> None:
        """Stop counting clients as members."""
        self._members = [member for member in self._members if member not in clients]

    async def settle(self) -> dict[Client, bytes]:
        """Wait until every member receives messages; return the input of each member until then.

        Raise JoinError if a member receives no message in time.
        """
        witness = await self._ensure_witness()
        token, deaf = await self._speak_until_heard(witness, self._members)
        if deaf:
            raise JoinError(
                f"{deaf[0]} has connected, but does not receive messages"
                f"{_apart(witness, self._members, deaf)}{self._overflow(deaf)}{self.fate()}",
                token,
                bytes(deaf[0].heard),
            )
        return {member: await member.hears_line(token) for member in self._members}

    async def _ensure_witness(self) -> Client:
        if self._witness is None or self._witness.ended:
            self._witness = await self.enter()
        return self._witness

    async def meet(self, *members: Client) -> None:
        """Have each member send lines until the next member receives one; the last member sends to
        the first. Raise JoinError if a member receives no line."""
        for speaker, listener in itertools.pairwise([*members, members[0]]):
            try:
                await self.greet(speaker, listener)
            except Violation as error:
                raise JoinError(error.what, error.expected, error.actual) from None

    @contextlib.asynccontextmanager
    async def undecided_if_deaf(self, *members: Client) -> AsyncIterator[None]:
        """Raise Undecided in place of a Violation if these members no longer receive each other's
        messages. Then something else, such as a leave, has broken the whole room."""
        try:
            yield
        except Violation:
            try:
                for _ in range(2):  # the first message may itself break a member's connection
                    await self.meet(*members)
            except JoinError as error:
                raise Undecided(f"the whole room is broken (see LEAVE-1): {error.what}") from None
            raise

    async def greet(self, speaker: Client, listener: Client) -> None:
        """Have `speaker` send lines until `listener` receives one. Raise Violation if it receives
        none."""
        token, deaf = await self._speak_until_heard(speaker, [listener])
        if deaf:
            raise Violation(
                f"{listener} receives no message of {speaker}"
                f"{_apart(speaker, [listener], deaf)}{self.fate()}",
                token,
                bytes(listener.heard),
            )
        await listener.hears_line(token)

    async def _speak_until_heard(
        self, speaker: Client, listeners: Sequence[Client]
    ) -> tuple[bytes, list[Client]]:
        """Have `speaker` send tokens until all listeners have received the same one.

        Return the last token, and the listeners that did not receive it in time.
        """
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
        """Send a token from one client to another; return the text before the token on its line."""
        token = self.token()
        await speaker.say(token + b"\n")
        heard = (await listener.hears_line(token)).removesuffix(token)
        return self.plain(heard).rpartition(b"\n")[2]

    async def barrier(self, speaker: Client, *listeners: Client) -> list[bytes]:
        """Have `speaker` send a token; return what each listener receives before the token.

        All earlier messages of the speaker arrive before the token (CAST-4), or are lost.
        """
        token = self.token()
        await speaker.say(token + b"\n")
        return [self.before(await listener.hears_line(token), token) for listener in listeners]

    async def mutual_barrier(self, members: Sequence[Client]) -> dict[Client, bytes]:
        """Have each member send a last token; return the input of each member, without the tokens.

        All earlier messages of the members have arrived by then, or are lost.
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
        """Wait for `last`, the token at the end of a long text; take all input of the listener.

        Return the input without line ends and prefixes, even those in the middle of the text.
        """
        await self.waits_through(listener, last, within)
        return stream.squeezed(listener.take(len(listener.heard)), self.profile)

    async def waits_through(
        self, listener: Client, last: bytes, within: float | None = None
    ) -> None:
        """Wait until a listener has received `last`, the token at the end of a long text.

        A line end and a prefix may be inside the token. To save time, only the end of the
        input is searched for such a token; the whole input is searched once, at the timeout.
        Raise Violation if the token does not arrive in time.
        """
        far = len(last) + 200  # length of the token, plus enough for a prefix and a line end
        searched = 0

        def came() -> bool:
            nonlocal searched
            start, searched = max(0, searched - len(last)), len(listener.heard)
            end = listener.heard[-far:]
            return listener.heard.find(last, start) >= 0 or self._contains(end, last)

        if not (await listener.waits(came, within) or self._contains(listener.heard, last)):
            raise Violation(
                f"{listener} did not receive the end of a long text{self.fate()}",
                last,
                bytes(listener.heard[-far:]),
            )

    def _contains(self, heard: bytearray, word: bytes) -> bool:
        return word in stream.squeezed(bytes(heard), self.profile)

    def before(self, heard: bytes, token: bytes) -> bytes:
        """Return the part of the input before a token and the prefix of its message."""
        text = heard[: heard.rindex(token)]
        prefix = re.search(rb"(?:%b)\Z" % self.profile.prefix.pattern, text)
        return text[: prefix.start()] if prefix else text

    def login_name(self) -> str:
        """Return a new name for a login: six letters, different in each run."""
        number, letters = next(_names), ""
        for _ in range(5):
            number, digit = divmod(number, len(_LETTERS))
            letters = _LETTERS[digit] + letters
        return f"u{letters}"

    # --- time ----------------------------------------------------------------

    @property
    def window(self) -> float:
        """Seconds to watch for something that must not arrive (see `Clock`)."""
        return self.clock.window

    async def quiet(self) -> None:
        """Wait for `window` seconds. Time in which the harness itself was delayed does not
        count."""
        left = self.window
        while left > 0:
            before = time.monotonic()
            await asyncio.sleep(min(left, ATTENTIVE))
            left -= min(time.monotonic() - before, 2 * ATTENTIVE)

    # --- addresses, other servers --------------------------------------------

    def address(self) -> str:
        """Return a local address that no client of this run has used.

        Raise Undecided if the machine's loopback has only one address.
        """
        number = next(_addresses)
        found = f"127.{1 + number // 62500 % 250}.{number // 250 % 250}.{number % 250 + 2}"
        try:
            with socket.socket() as probe:
                probe.bind((found, 0))
        except OSError as error:
            check_descriptors(error)
            raise Undecided(
                "this machine's loopback has only one address, so senders can't be distinguished"
            ) from None
        return found

    def another(self, options: str = "", host: str = "127.0.0.1") -> Target:
        """Start another server with the target's command; `leave` stops it after the test."""
        other = self.target.another(options, host)
        self._others.append(other)
        other.start()
        return other

    def own_server(self) -> Target:
        """Start a server for this test alone; return the target itself if the harness can't start
        servers of its kind."""
        return self.another() if self.target.ours else self.target

    def at(self, server: Target, host: str) -> Target:
        """Return the same server as a target at another of its addresses, `host`."""
        return Target(host, server.port, *((host, port) for _, port in server.others))

    def output(self) -> str:
        """Return the latest output of the server that was started last."""
        return [self.target, *self._others][-1].output()

    def fate(self) -> str:
        """Return how the target ended, as the end of an error message; empty while it runs."""
        how = self.target.death()
        return f"; the server {how}" if how else ""

    def _overflow(self, deaf: Sequence[Client]) -> str:
        """Return a note for an error message if the server's kernel does not know the connections
        of some of these clients; else an empty text."""
        ports = [client.port for client in deaf if client.reading]
        lost = overflowed(deaf[0].server[1], ports) if self.target.local else 0
        many = counted(lost, "connection")
        return f"; {many} did not fit into the server's queue of new connections" if lost else ""

    # --- the end -------------------------------------------------------------

    async def leave(self) -> None:
        """Close the connections of the test, and stop the servers that it started.

        Each client first sends a FIN, and waits a limited time until the server closes its side.
        """
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
        before, began = self._times(), time.monotonic()
        # A server may close its side late, after it has sent everything. For a server that never
        # closes its side, only the first test waits long.
        within = self.window if self.target.stays_open else CLOSES_WITHIN * self.window
        end = time.monotonic() + self.clock.patience
        open_before: list[tuple[Client, int]] = []
        deadline = end
        while still_open := self._still_open():
            if still_open != open_before:
                open_before, deadline = still_open, time.monotonic() + within
            if time.monotonic() >= min(deadline, end):
                break
            await asyncio.sleep(0.001)  # the event loop reads until the server has closed its side
        if still_open and not self.target.stays_open:
            self.target.stays_open = True
            before, began = self._times(), time.monotonic()
            await asyncio.sleep(self.window)
        if before:
            seconds = time.monotonic() - began
            self.target.busy = part_used(before, self._times(), seconds) > BUSY
        for client in self._clients:
            client.close()

    def _times(self) -> dict[int, Times]:
        """Return the times of the target's threads; empty if the target closes its connections.

        A server that leaves connections open may busy-wait on those that their clients closed.
        """
        with contextlib.suppress(Undecided):
            return self.target.times() if self.target.stays_open else {}
        return {}

    def _still_open(self) -> list[tuple[Client, int]]:
        """Return the target's clients whose connections are open, each with the number of bytes in
        `heard`. Clients of the test's other servers are left out: these servers are stopped."""
        others = {endpoint for other in self._others for endpoint in other.endpoints}
        return [
            (client, len(client.heard))
            for client in self._clients
            if client.reading and client.server not in others
        ]

    async def watch(self) -> None:
        """Record the largest delay of the harness itself, until cancelled."""
        while True:
            self._looked = time.monotonic() - self._blocked()
            await asyncio.sleep(ATTENTIVE)
            self._look()

    def _look(self) -> None:
        late = time.monotonic() - self._blocked() - self._looked - ATTENTIVE
        self.late = max(self.late, late)

    def _blocked(self) -> float:
        """Return the seconds spent on starting, stopping and inspecting servers; they do not count
        as a delay."""
        return sum(server.blocked for server in (self.target, *self._others))

    def check_punctual(self) -> None:
        """Raise CannotJudge if the harness was so late that the delay may have caused a failure."""
        self._look()
        if self.late > self.clock.patience / 4:
            raise CannotJudge(
                f"the harness itself was {self.late:.1f} s late: the machine is too busy"
            )


def applies(condition: object, reason: str) -> None:
    """Raise NotApplicable with this reason unless the condition holds."""
    if not condition:
        raise NotApplicable(reason)


def needs_ipv6() -> None:
    """Raise Undecided if this machine has no IPv6 loopback."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError as error:
        check_descriptors(error)
        raise Undecided(f"this machine has no ::1: {error.strerror}") from None


def expect(
    condition: object, what: str, expected: bytes | None = None, actual: bytes | None = None
) -> None:
    """Raise Violation unless the condition holds."""
    if not condition:
        raise Violation(what, expected, actual)


def expect_equal(what: str, expected: bytes, actual: bytes) -> None:
    """Raise Violation unless the bytes are equal."""
    expect(expected == actual, what, expected, actual)


def _apart(speaker: Client, listeners: Sequence[Client], deaf: Sequence[Client]) -> str:
    """Return a note for an error message if the deaf listeners are exactly the listeners at other
    endpoints than the speaker's; else an empty text."""
    if any((listener in deaf) == (listener.server == speaker.server) for listener in listeners):
        return ""
    return (
        f"; {speaker} is at {at(*speaker.server)}, {deaf[0]} at {at(*deaf[0].server)}: perhaps"
        " these are not one room"
    )


def _is_own(text: bytes) -> bool:
    """Return whether a text contains a token of a room of this process."""
    return not _own_runs.isdisjoint(TOKEN.findall(text))


def _name(number: int) -> str:
    """Return a name for a client: A to Z, then A1 to Z1, and so on."""
    return f"{chr(ord('A') + number % 26)}{number // 26 or ''}"
