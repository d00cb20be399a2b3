"""Workers and their members against a model, with random steps."""

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
        tuples(just("say"), sampled_from(CLIENTS), sampled_from(WORDS)),
        tuples(just("hear"), sampled_from(CLIENTS), integers(1, 3000)),
        tuples(just("run"), sampled_from(WORKERS), just(0)),
        tuples(just("wait"), just(0), floats(0.05, 0.3)),
        tuples(just("close"), sampled_from(CLIENTS), just(0)),
        tuples(just("finish"), sampled_from(CLIENTS), just(0)),
        tuples(just("adopt"), sampled_from(WORKERS), just(0)),
    ),
    max_size=80,
)


class RecordingClient:
    """A client, with all that it sent and received."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.said = b""
        self.heard = b""
        self.speaks = True
        self.listens = True

    def say(self, data: bytes) -> None:
        if self.speaks:
            self.said += data[: self.client.say_what_fits(data)]

    def hear(self, most: int = EVERYTHING) -> None:
        if self.listens:
            self.heard += self.client.hear(most)

    def finish(self) -> None:
        if self.speaks:
            self.speaks = False
            self.client.finish()

    def close(self) -> None:
        self.hear()
        if not self.heard:
            return  # its worker could not greet it; over TCP it could
        self.speaks = self.listens = False
        self.client.close()


class Play:
    """Five clients of two workers, and a witness that sends nothing and receives everything."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.everyone = [RecordingClient(room.adopt(worker)) for worker in (0, 1, 0)]
        self.witness = RecordingClient(room.adopt(1, "2001:db8::1"))
        for worker in WORKERS:
            room.run(worker)

    def step(self, action: str, which: int, argument: Any) -> None:
        someone = self.everyone[which % len(self.everyone)]
        match action:
            case "run":
                self.room.run(which)
            case "wait":
                self.room.clock.now += argument
            case "adopt":
                if len(self.everyone) < len(CLIENTS):
                    self.everyone.append(RecordingClient(self.room.adopt(which)))
            case "say":
                someone.say(argument)
            case "hear":
                someone.hear(argument)
            case "finish":
                someone.finish()
            case "close":
                someone.close()
        self.witness.hear()

    def end(self) -> None:
        """Run until everything is appended and received."""
        for _ in range(2):
            self.room.settle()
            for told in (self.witness, *self.everyone):
                told.hear()
            self.room.clock.now += 1
        self.room.settle()
        self.witness.hear()

    def check(self) -> None:
        lagged = {
            id
            for at in WORKERS
            for id, reason in self.room.left(at)
            if reason == LeaveReason.LAGGED
        }
        assert self.witness.heard.startswith(WELCOME)
        lines = self.witness.heard.removeprefix(WELCOME).splitlines(keepends=True)
        prefixes = tuple(told.client.prefix for told in self.everyone)
        assert all(line.startswith(prefixes) for line in lines), "PREFIX-4"
        for told in self.everyone:
            self.check_said(told, lines)
            self.check_heard(told, lines, told.client.id in lagged)

    def check_said(self, told: RecordingClient, lines: list[bytes]) -> None:
        prefix = told.client.prefix
        said = b"".join(
            line.removeprefix(prefix).removesuffix(b"\n")
            for line in lines
            if line.startswith(prefix)
        )
        letters = told.said
        if told.speaks:  # half a character, or a CR, waits for the rest
            for beginning in (b"\xe2\x82", b"\xe2", b"\r"):
                letters = letters.removesuffix(beginning)
        letters = letters.replace(b"\r\n", b"").replace(b"\n", b"")
        assert said.decode() == letters.decode(errors="replace"), "all of it, and in order"

    def check_heard(self, told: RecordingClient, lines: list[bytes], lagged: bool) -> None:
        others = [line for line in lines if not line.startswith(told.client.prefix)]
        heard = told.heard.removeprefix(WELCOME)
        assert heard in b"".join(others), "nothing torn, doubled, or of its own"
        if told.listens and not lagged and not told.client.has_ended():
            assert told.heard.startswith(WELCOME)
            whole_lines = heard.splitlines(keepends=True)
            assert whole_lines == others[len(others) - len(whole_lines) :], "up to the last one"


@given(STEPS)
@settings(max_examples=60)
def test_random_steps_deliver_every_message_in_one_order(steps: list[Any]) -> None:
    """CAST-1 to CAST-5, LINE-6, PREFIX-4, WELCOME-1 to WELCOME-3, with random steps."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        room = Room(monkeypatch, 2, **SMALL)
        try:
            play = Play(room)
            for step in steps:
                play.step(*step)
            play.end()
            play.check()
        finally:
            room.close()
