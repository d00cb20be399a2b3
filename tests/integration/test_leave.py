"""Leaving: LEAVE-1 to LEAVE-5. Whoever goes, and however, the others do not notice."""

import socket
from collections.abc import Callable

import pytest

from tests.integration.clients import Client
from tests.integration.rooms import Room, addresses, room
from tests.integration.waiting import until

MIB = 1 << 20


WAYS: dict[str, Callable[[Client], None]] = {
    "close": Client.close,
    "reset": Client.reset,
    "half": Client.finish,
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_whoever_leaves_is_removed_and_the_others_go_on(way: str, workers: int) -> None:
    """LEAVE-1, LEAVE-3: and no process spins, where the tutorial's thread does; LEAVE-5: it may
    come back."""
    with room("--workers", workers) as here:
        one, other = here.join_all(["127.0.0.2", "127.0.0.3"])
        before = here.descriptors()
        for number in range(4):
            guests = here.join_all(addresses(8)[2:])
            guests[0].say("I shall not stay\n")
            for guest in guests:
                WAYS[way](guest)
            for _ in guests:
                here.prints(" disconnected\n")
            one.hear("<127.0.0.4>I shall not stay\n")
            other.hear("<127.0.0.4>I shall not stay\n")
            one.say(f"gone {number}\n")
            other.hear(f"<127.0.0.2>gone {number}\n")
            until(lambda: here.descriptors() == before, "their descriptors are given back")
        until(here.idles, "the room does nothing")
        other.say("quiet here\n")
        one.hear("<127.0.0.3>quiet here\n")


LAST_WORDS = [
    # What is said before one leaves, and what it makes, on a line of its own.
    (b"one\ntwo", "<127.0.0.2>one\n<127.0.0.2>two"),
    (b"caf\xc3", "<127.0.0.2>caf\ufffd"),
    (b"end\r", "<127.0.0.2>end\u240d"),
    (b"", ""),
    (b"x" * 20_000, "\n".join("<127.0.0.2>" + "x" * size for size in (8192, 8192, 3616))),
]


@pytest.mark.parametrize("way", WAYS)
def test_what_it_sent_before_is_delivered(way: str) -> None:
    """LEAVE-2: its unfinished line too, a character cut off and a lone CR included."""
    with room("--workers", 2, "--flush-after", 60) as here:
        witness, other = here.join_all(["127.0.0.9", "127.0.0.8"])
        for said, heard in LAST_WORDS:
            leaver = here.join("127.0.0.2")
            leaver.say(said)
            WAYS[way](leaver)
            here.prints("127.0.0.2 disconnected\n")
            other.say("nothing more\n")
            witness.hear(heard + ("\n" if heard else "") + "<127.0.0.8>nothing more\n")


def test_the_server_closes_its_own_side_at_once() -> None:
    """LEAVE-4: a client that has closed only its own hears the end, and nothing after its leave."""
    with room("--workers", 2, "--flush-after", 60) as here:
        one, other = here.join_all(addresses(2))
        one.say("bye")
        one.finish()
        one.hear_end()
        assert one.ended == "closed"
        other.hear("<127.0.0.2>bye")


def test_it_may_come_back() -> None:
    """LEAVE-5: at once, and from the very port that it left from."""
    with room("--workers", 2) as here:
        witness = here.join("127.0.0.9")
        port = 0
        for number in range(8):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(("127.0.0.2", port))
            client.settimeout(20)
            client.connect((here.host, here.port))
            port = client.getsockname()[1]
            client.sendall(b"%d\n" % number)
            witness.hear(f"<127.0.0.2>{number}\n")
            here.prints(f"<127.0.0.2>{number}\n")
            # A close in good order would keep the port to itself for a minute.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            here.prints("127.0.0.2 disconnected\n")


@pytest.mark.parametrize("workers", [1, 3])
def test_500_come_and_go(workers: int) -> None:
    """LEAVE-3: closed, reset, half-closed, silent or in the middle of a line; all is given back."""
    with room("--workers", workers) as here:
        empty = here.descriptors()
        witness = here.join("127.0.0.1")
        before = here.descriptors()
        come_and_go(here, 50)
        until(lambda: here.descriptors() == before, "no more descriptors than before")
        memory = here.memory()
        come_and_go(here, 500)
        until(lambda: here.descriptors() == before, "no more descriptors than before")
        assert here.memory() - memory < 4 * MIB
        until(here.idles, "the room does nothing")

        witness.close()
        until(lambda: here.descriptors() == empty, "no more than when it was empty")
        until(here.idles, "the room that all have left does nothing")
        one, other = here.join_all(addresses(2))
        one.say("we are back\n")
        other.hear("<127.0.0.2>we are back\n")


def come_and_go(here: Room, count: int) -> None:
    ways = list(WAYS.values())
    for start in range(0, count, 50):
        guests = [here.knock(source) for source in addresses(start + 50)[start:]]
        for number, guest in enumerate(guests):
            if number % 4:
                guest.hear("Welcome to socket practice\n")
            if number % 3:
                guest.say("a line\nand" if number % 2 else "a line\n")
            ways[number % 5 % 3](guest)
        for guest in guests:
            guest.close()


def test_a_room_that_all_have_left_is_idle() -> None:
    """LEAVE-3: whatever went on in it before."""
    with room("--workers", 3) as here:
        before = here.descriptors()
        members = here.join_all(addresses(60))
        for member in members:
            member.say("hello\n" * 100)
            member.say("no end")
        for number, member in enumerate(members):
            if number % 2:
                member.reset()
            else:
                member.close()
        until(lambda: here.descriptors() == before, "all are gone")
        until(here.idles, "the room does nothing")
