"""Leaves of all kinds, after text of all kinds. The room frees all resources."""

import socket
from collections.abc import Callable

from tests.integration.clients import Client
from tests.integration.rooms import Room, addresses, room
from tests.integration.waiting import until

MIB = 1 << 20


WAYS: list[Callable[[Client], None]] = [Client.close, Client.reset, Client.finish]


LAST_WORDS = [
    # Text that a member sends before it leaves, and the messages that others receive.
    (b"one\ntwo", "<127.0.0.2>one\n<127.0.0.2>two"),
    (b"caf\xc3", "<127.0.0.2>caf\ufffd"),
    (b"end\r", "<127.0.0.2>end\u240d"),
    (b"", ""),
    (b"x" * 20_000, "\n".join("<127.0.0.2>" + "x" * size for size in (8192, 8192, 3616))),
]


def test_text_sent_before_a_leave_is_delivered() -> None:
    """LEAVE-2: all text is delivered, including an unfinished line that ends with an incomplete
    character or a CR."""
    with room("--workers", 2, "--flush-after", 60) as here:
        witness, other = here.join_all(["127.0.0.9", "127.0.0.8"])
        for leave in WAYS:
            for said, heard in LAST_WORDS:
                leaver = here.join("127.0.0.2")
                if not said:
                    here.read_until("127.0.0.2 connected\n")
                leaver.send(said)
                leave(leaver)
                here.read_until("127.0.0.2 disconnected\n")
                other.send("nothing more\n")
                witness.expect(heard + ("\n" if heard else "") + "<127.0.0.8>nothing more\n")


def test_a_member_may_come_back_from_the_same_port() -> None:
    """LEAVE-5: a member joins again at once, from the same port."""
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
            witness.expect(f"<127.0.0.2>{number}\n")
            here.read_until(f"<127.0.0.2>{number}\n")
            # After an orderly close, the port could not be used for a minute (TIME_WAIT).
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            here.read_until("127.0.0.2 disconnected\n")


def test_the_resources_of_500_members_are_released() -> None:
    """LEAVE-3: the members close, reset or half-close their connections, after no text or after an
    unfinished line."""
    with room("--workers", 3) as here:
        empty = here.descriptors()
        witness = here.join("127.0.0.1")
        before = here.descriptors()
        come_and_go(here, 50)
        until(lambda: here.descriptors() == before, "no more descriptors than before")
        memory = here.memory()
        come_and_go(here, 500)
        until(lambda: here.descriptors() == before, "no more descriptors than before")
        assert here.memory() - memory < 4 * MIB
        until(here.is_idle, "the room is idle")

        witness.close()
        until(lambda: here.descriptors() == empty, "no more descriptors than before")
        until(here.is_idle, "the room is idle")
        client, other = here.join_all(addresses(2))
        client.send("we are back\n")
        other.expect("<127.0.0.2>we are back\n")


def come_and_go(here: Room, count: int) -> None:
    for start in range(0, count, 50):
        guests = [here.connect(source) for source in addresses(start + 50)[start:]]
        for number, guest in enumerate(guests):
            if number % 4:
                guest.expect("Welcome to socket practice\n")
            if number % 3:
                guest.send("a line\nand" if number % 2 else "a line\n")
            WAYS[number % 5 % 3](guest)
        for guest in guests:
            guest.close()
