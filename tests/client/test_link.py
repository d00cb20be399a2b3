"""Tests of Link, which reconnects, with fake connections and without a clock."""

import asyncio
import errno
import os
from collections.abc import Iterable

import pytest

from chatroom.client.connection import Connection
from chatroom.client.view import link as module
from chatroom.client.view.link import Link, pauses


class FakeConnection(Connection):
    """A connection on which the room sends `said`, and then ends."""

    def __init__(self, said: bytes, room: "Room") -> None:
        self.closed = False
        self._said = [said] if said else []
        self._room = room

    async def receive(self) -> bytes:
        await asyncio.sleep(0)
        if self._said:
            return self._said.pop()
        if self._room.over:
            raise self._room.over
        return b""

    async def send(self, data: bytes) -> None:
        if isinstance(self._room.takes, OSError):
            raise self._room.takes
        if not self._room.takes:
            await asyncio.Event().wait()

    def close(self) -> None:
        self.closed = True


class Room:
    """A fake room. `tries` are the outcomes of connecting: an error, or the bytes that the room
    sends.

    After the last outcome, connecting raises KeyboardInterrupt. If `over` is set, each connection
    ends with this error. `takes` is True if sends succeed, False if they block, or the error that
    they raise.
    """

    def __init__(self, tries: Iterable[OSError | bytes]) -> None:
        self._tries = iter(tries)
        self.over: OSError | None = None
        self.takes: bool | OSError = True
        self.connections: list[FakeConnection] = []

    def connection(self, said: bytes) -> Connection:
        self.connections.append(FakeConnection(said, self))
        return self.connections[-1]

    async def connect(self) -> Connection:
        outcome = next(self._tries, None)
        if outcome is None:
            raise KeyboardInterrupt
        if isinstance(outcome, OSError):
            raise outcome
        return self.connection(outcome)


class Story:
    """A link and its events, in order: received text, notices, and pauses in seconds.

    With `says`, the link sends a line for each received text. With `hurries`, each pause ends at
    once.
    """

    def __init__(
        self,
        said: bytes,
        *tries: OSError | bytes,
        reconnect: bool = True,
        says: bool = False,
        hurries: bool = False,
    ) -> None:
        self.room = Room(tries)
        self.events: list[str | float] = []
        self._says = says
        self._hurries = hurries
        self.link = Link(
            self.room.connection(said), self.room.connect, reconnect=reconnect, sleep=self._sleep
        )

    def on_text(self, text: str) -> None:
        self.events.append(text)
        if self._says:
            self.link.send("hello\n")

    def on_notice(self, text: str) -> None:
        self.events.append(text)

    def on_lost(self) -> None:
        self.events.append("lost")

    async def _sleep(self, seconds: float) -> None:
        self.events.append(seconds)
        if self._hurries:
            asyncio.get_running_loop().call_soon(self.link.reconnect_now)
            await asyncio.Event().wait()

    def run(self) -> str:
        with asyncio.Runner() as runner:
            try:
                return runner.run(self.link.run(self))
            except KeyboardInterrupt:
                return "interrupted"

    @property
    def pauses(self) -> list[float]:
        return [event for event in self.events if isinstance(event, float)]


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JITTER", (1.0, 1.0))


REFUSED = ConnectionRefusedError(111, "Connection refused")
NO_HOST = OSError(113, "No route to host")


def test_a_link_reconnects_after_growing_pauses() -> None:
    story = Story(b"Welcome\n", *[REFUSED] * 3, *[NO_HOST] * 4, b"Welcome back\n")
    assert story.run() == "interrupted"
    first = [1.0, "no connection: Connection refused; trying again", 2.0, 4.0, 8.0]
    assert story.events[:12] == [
        "Welcome\n",
        "lost",
        "connection lost: closed by the server",
        *first,
        "no connection: No route to host; trying again",
        16.0,
        30.0,
        30.0,
    ]
    assert story.events[12:15] == [30.0, "connected again", "Welcome back\n"]


def test_pauses_grow_if_the_room_closes_each_connection_at_once() -> None:
    story = Story(*[b"The room is full\n"] * 4)
    story.run()
    # A connection that is lost at once does not reset the pauses.
    assert story.pauses == [1.0, 2.0, 4.0, 8.0]


def test_a_long_connection_resets_the_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 100_000, 100))
    monkeypatch.setattr(module, "monotonic", lambda: float(next(times)))
    story = Story(*[b"Welcome\n"] * 4)
    story.run()
    assert story.pauses == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("said", "pauses"),
    [
        (b"Welcome\n<::1>hello\n", [1.0, 1.0, 1.0, 1.0]),
        (b"Welcome\n<", [1.0, 1.0, 1.0, 1.0]),
        (b"Welcome", [1.0, 2.0, 4.0, 8.0]),
        (b"", [1.0, 2.0, 4.0, 8.0]),
    ],
)
def test_a_message_after_the_greeting_resets_the_pauses(said: bytes, pauses: list[float]) -> None:
    story = Story(*[said] * 4)
    story.run()
    assert story.pauses == pauses


def test_a_sent_message_resets_the_pauses() -> None:
    story = Story(*[b"Welcome\n"] * 4, says=True)
    story.run()
    assert story.pauses == [1.0, 1.0, 1.0, 1.0]


def test_reconnect_now_ends_a_pause_at_once() -> None:
    story = Story(b"Welcome\n", REFUSED, b"Welcome back\n", hurries=True)
    story.link.reconnect_now()  # has no effect before the first pause
    assert story.run() == "interrupted"
    assert story.events[2:6] == [
        "connection lost: closed by the server",
        1.0,
        "no connection: Connection refused; trying again",
        2.0,
    ]
    assert "Welcome back\n" in story.events


def test_run_without_reconnect_returns_the_reason() -> None:
    story = Story(b"Welcome\n", reconnect=False)
    assert story.run() == "closed by the server"
    story = Story(b"Welcome\n", reconnect=False)
    story.room.over = ConnectionResetError(104, "Connection reset by peer")
    assert story.run() == "Connection reset by peer"


@pytest.mark.parametrize("how", ["kicked", "banned"])
def test_a_member_that_was_removed_does_not_reconnect(how: str) -> None:
    line = f"<room>You were {how}\n"
    story = Story(f"Welcome\n<::1>hello\n{line}".encode(), b"Welcome\n", says=True)
    story.room.takes = False  # The reason does not mention the messages that were not sent.
    story.room.over = ConnectionResetError(104, "Connection reset by peer")
    assert story.run() == f"you were {how}"
    assert story.pauses == []


@pytest.mark.parametrize(
    "said",
    [
        "Welcome\n<::1><room>You were kicked\n",
        "Welcome\n<room>You were kicked\n<::1>hello\n",
        "Welcome\n<room>You were kicked by nobody\n",
        "Welcome\n<room>You were kicked",
        "Welcome\n<room>You did not read fast enough\n",
        "Welcome\n<::1>" + "x" * (module.LAST_LINE - 22) + "<room>You were kicked\n",
    ],
)
def test_a_link_reconnects_after_any_other_last_line(said: str) -> None:
    story = Story(said.encode(), b"Welcome\n")
    assert story.run() == "interrupted"
    assert story.pauses[0] == 1.0


def test_clients_do_not_all_reconnect_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    first = [next(pauses()) for _ in range(100)]
    assert len(set(first)) > 90
    assert 0.5 <= min(first) < 0.7
    assert 1.3 < max(first) <= 1.5


def test_a_character_cut_by_the_end_arrives_as_a_replacement() -> None:
    story = Story(b"a\xe4\xbd", reconnect=False)
    story.run()
    assert story.events == ["a", "\ufffd", "lost"]


def test_the_reason_mentions_messages_that_may_not_have_arrived() -> None:
    story = Story(b"Welcome\n", reconnect=False, says=True)
    story.room.takes = False
    assert story.run() == "closed by the server; your last messages may not have arrived"
    assert story.room.connections[0].closed


def test_the_reason_names_the_error_of_a_failed_send() -> None:
    story = Story(b"Welcome\n", reconnect=False, says=True)
    story.room.takes = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    assert story.run() == "Broken pipe; your last messages may not have arrived"


def test_send_refuses_text_when_full_or_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FULL", 5)

    async def send() -> list[bool]:
        before = [story.link.send("four\n") for _ in range(3)]
        await story.link.run(story)
        return [*before, story.link.send("after")]

    story = Story(b"", reconnect=False)
    assert asyncio.run(send()) == [True, True, False, False]


def test_send_refuses_text_while_the_connection_is_given_up() -> None:
    """Text that `send` accepted at this time would be lost without a notice."""
    taken: list[bool] = []

    class Cancelled(FakeConnection):
        async def send(self, data: bytes) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                taken.append(story.link.send("late\n"))

    story = Story(b"", reconnect=False)
    connection = Cancelled(b"Welcome\n", story.room)
    story.link = Link(connection, story.room.connect, reconnect=False)

    async def run() -> str:
        story.link.send("early\n")
        return await story.link.run(story)

    assert asyncio.run(run()) == "closed by the server; your last messages may not have arrived"
    assert taken == [False]
