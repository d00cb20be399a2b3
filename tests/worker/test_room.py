"""Tests of workers and their members with random steps, compared with what a witness receives."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, just, lists, one_of, sampled_from, tuples

from chatroom.protocol.leave_reason import LeaveReason
from tests.worker.drivers import EVERYTHING, SMALL, WELCOME, Client, Room

WORDS = [
    b"hello\n",
    b"hel",
    b"\n",
    b"a\r\nb\n",
    "€\n".encode(),
    b"\xe2\x82",
    b"x" * 200,
    b"y\n" * 1000,
]
WORKERS = [0, 1]
CLIENTS = range(5)
STEPS = lists(
    one_of(
        tuples(just("send"), sampled_from(CLIENTS), sampled_from(WORDS)),
        tuples(just("receive"), sampled_from(CLIENTS), integers(1, 3000)),
        tuples(just("run"), sampled_from(WORKERS), just(0)),
        tuples(just("wait"), just(0), floats(0.05, 0.3)),
        tuples(just("close"), sampled_from(CLIENTS), just(0)),
        tuples(just("finish"), sampled_from(CLIENTS), just(0)),
        tuples(just("adopt"), sampled_from(WORKERS), just(0)),
    ),
    max_size=80,
)


class RecordingClient:
    """A client, with all bytes that it sent and received."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sent = b""
        self.received = b""
        self.sends = True
        self.receives = True

    def send(self, data: bytes) -> None:
        if self.sends:
            self.sent += data[: self.client.send_what_fits(data)]

    def receive(self, most: int = EVERYTHING) -> None:
        if self.receives:
            self.received += self.client.receive(most)

    def finish(self) -> None:
        if self.sends:
            self.sends = False
            self.client.finish()

    def close(self) -> None:
        self.receive()
        if not self.received:
            return  # After a close, a Unix socket would not take the welcome; TCP would.
        self.sends = self.receives = False
        self.client.close()


class RandomSteps:
    """Up to five clients of two workers, and a witness that sends nothing and receives
    everything."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.clients = [RecordingClient(room.adopt(worker)) for worker in (0, 1, 0)]
        self.witness = RecordingClient(room.adopt(1, "2001:db8::1"))
        for worker in WORKERS:
            room.run(worker)

    def step(self, action: str, number: int, argument: Any) -> None:
        client = self.clients[number % len(self.clients)]
        match action:
            case "run":
                self.room.run(number)
            case "wait":
                self.room.clock.now += argument
            case "adopt":
                if len(self.clients) < len(CLIENTS):
                    self.clients.append(RecordingClient(self.room.adopt(number)))
            case "send":
                client.send(argument)
            case "receive":
                client.receive(argument)
            case "finish":
                client.finish()
            case "close":
                client.close()
        self.witness.receive()

    def end(self) -> None:
        """Run until all input is appended and received."""
        for _ in range(2):
            self.room.settle()
            for recorder in (self.witness, *self.clients):
                recorder.receive()
            self.room.clock.now += 1
        self.room.settle()
        self.witness.receive()

    def check(self) -> None:
        lagged = {
            id
            for at in WORKERS
            for id, reason in self.room.left(at)
            if reason == LeaveReason.LAGGED
        }
        assert self.witness.received.startswith(WELCOME)
        lines = self.witness.received.removeprefix(WELCOME).splitlines(keepends=True)
        prefixes = tuple(recorder.client.prefix for recorder in self.clients)
        assert all(line.startswith(prefixes) for line in lines), "PREFIX-4: true prefixes"
        for recorder in self.clients:
            self.check_sent(recorder, lines)
            self.check_received(recorder, lines, recorder.client.id in lagged)

    def check_sent(self, recorder: RecordingClient, lines: list[bytes]) -> None:
        prefix = recorder.client.prefix
        sent = b"".join(
            line.removeprefix(prefix).removesuffix(b"\n")
            for line in lines
            if line.startswith(prefix)
        )
        letters = recorder.sent
        if recorder.sends:  # Part of a character, or a CR, waits for the next bytes.
            for beginning in (b"\xe2\x82", b"\xe2", b"\r"):
                letters = letters.removesuffix(beginning)
        letters = letters.replace(b"\r\n", b"").replace(b"\n", b"")
        assert sent.decode() == letters.decode(errors="replace"), "all that was sent, in order"

    def check_received(self, recorder: RecordingClient, lines: list[bytes], lagged: bool) -> None:
        others = [line for line in lines if not line.startswith(recorder.client.prefix)]
        received = recorder.received.removeprefix(WELCOME)
        assert received in b"".join(others), "only whole messages of others, each once"
        if recorder.receives and not lagged and not recorder.client.has_ended():
            assert recorder.received.startswith(WELCOME)
            whole_lines = received.splitlines(keepends=True)
            assert whole_lines == others[len(others) - len(whole_lines) :], "all after the first"


@given(STEPS)
@settings(max_examples=60)
def test_random_steps_deliver_every_message_in_one_order(steps: list[Any]) -> None:
    """CAST-1 to CAST-5, LINE-6, PREFIX-4, WELCOME-1 to WELCOME-3: all hold after random steps."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        room = Room(monkeypatch, 2, **SMALL)
        try:
            random_steps = RandomSteps(room)
            for step in steps:
                random_steps.step(*step)
            random_steps.end()
            random_steps.check()
        finally:
            room.close()
