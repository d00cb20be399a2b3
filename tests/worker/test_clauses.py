"""Clauses that a worker keeps as a whole, beside what test_loop.py proves of its parts."""

from collections.abc import Iterator

import pytest

from tests.worker.drivers import Room


@pytest.fixture(name="room")
def fixture_room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    room = Room(monkeypatch, 1)
    yield room
    room.close()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"\n", b"<192.0.2.1>\n"),
        (b"\r\n\n", b"<192.0.2.1>\n<192.0.2.1>\n"),
        (b"one\n\ntwo\r\n", b"<192.0.2.1>one\n<192.0.2.1>\n<192.0.2.1>two\n"),
        (b" kept \t\n", b"<192.0.2.1> kept \t\n"),
    ],
)
def test_line_4_an_empty_line_is_a_message(said: bytes, heard: bytes, room: Room) -> None:
    """LINE-1, LINE-3, LINE-4, CAST-3: lines of all kinds, several at once, each with its prefix."""
    alice, bob = room.join(), room.join()
    alice.say(said)
    room.run()
    assert bob.hear() == heard
    assert alice.hear() == b""
