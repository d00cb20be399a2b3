"""Lines and text of unusual size, and text that is sent in an unusual way.

tests/protocol, tests/worker and harness/conformance prove the other aspects of these clauses.
"""

import random

from tests.integration.clients import Client, exchange
from tests.integration.rooms import NEVER_SILENT, UNLIMITED, Room, addresses, room

LONGEST = 8 * 1024
"""Default maximum of a line (bytes)."""


def two(here: Room) -> tuple[Client, Client]:
    """Return a speaker and a listener, on different workers if there are two workers."""
    speaker, listener = here.join_all(["127.0.0.2", "127.0.0.3"])
    return speaker, listener


def check_all_was_received(speaker: Client, listener: Client) -> None:
    """Check that the listener has received everything, and the speaker nothing."""
    speaker.send("that was all\n")
    listener.expect(speaker.prefix + b"that was all\n")
    listener.send("so it was\n")
    speaker.expect(listener.prefix + b"so it was\n")


# --- lines ---------------------------------------------------------------------------------------


def test_a_character_that_is_typed_slowly_is_not_broken() -> None:
    """LINE-2, LINE-5, TEXT-1: after a silence in the middle of a character, the text before the
    character is delivered."""
    with room("--workers", 1) as here:
        speaker, listener = two(here)
        hand = "👋".encode()
        speaker.send(b"hello " + hand[:2])
        listener.expect("<127.0.0.2>hello ")
        speaker.send(hand[2:] + b"\n")
        listener.expect("\n<127.0.0.2>👋\n")
        check_all_was_received(speaker, listener)


def test_a_line_beyond_the_limit_arrives_in_pieces_without_loss() -> None:
    """LINE-7, PREFIX-4, TEXT-1: each piece is a message, and no piece ends inside a character."""
    with room("--workers", 2, "--max-line", 101, *NEVER_SILENT) as here:
        speaker, listener = two(here)
        text = "Một hai ba bốn năm, 👋 " * 2000  # 30 bytes, so cuts fall inside characters
        speaker.send(text + "\n")
        speaker.send("end\n")
        *lines, _ = listener.receive_until(">end\n").decode().split("\n")[:-1]
        assert all(line.startswith("<127.0.0.2>") for line in lines)
        pieces = [line.removeprefix("<127.0.0.2>") for line in lines]
        assert "".join(pieces) == text
        assert max(len(piece.encode()) for piece in pieces) <= 101
        assert min(len(piece.encode()) for piece in pieces[:-1]) > 101 - 4


def test_a_flood_without_line_end_does_not_stall_the_room() -> None:
    """LINE-7, CAST-1: other members send meanwhile, and no byte is lost. Such a flood made ssh-chat
    hang (#118)."""
    with room("--workers", 2, *NEVER_SILENT, *UNLIMITED) as here:
        flooder, listener = two(here)
        speaker = here.join("127.0.0.4")
        text = bytes(random.Random(1).choices(b"abcdefghijklmnopqrstuvwxyz ", k=1 << 16)) * 32
        flood = [text[start : start + 50_000] for start in range(0, len(text), 50_000)]
        talk = [b"%d\n" % number for number in range(1000)]
        talked = b"".join(speaker.prefix + line for line in talk)
        size = len(text) + len(text) // LONGEST * len("<127.0.0.2>\n") + len(talked)
        exchange({flooder: [*flood, b"\n"], speaker: talk}, {listener: size}, ahead=1 << 20)
        flooder.expect(talked)
        heard = listener.take(size).splitlines(keepends=True)
        pieces = [line for line in heard if line.startswith(flooder.prefix)]
        assert b"".join(line[len(flooder.prefix) : -1] for line in pieces) == text
        assert b"".join(line for line in heard if line not in pieces) == talked


# --- text ----------------------------------------------------------------------------------------


def test_random_bytes_do_not_disturb_the_room() -> None:
    """TEXT-2, PREFIX-4, LEAVE-1: four members send half a megabyte of random bytes each, and then
    other text."""
    with room("--workers", 2) as here:
        vandals = here.join_all(addresses(4))
        client, other = here.join("127.0.8.8"), here.join("127.0.8.9")
        for number, vandal in enumerate(vandals):
            noise = random.Random(number).randbytes(1 << 19)
            assert vandal.send_what_fits(noise)
            vandal.reset()
        client.send("what was that?\n")
        heard = other.receive_until("\n<127.0.8.8>what was that?\n")
        for line in heard.decode().removesuffix("\n").split("\n"):
            assert line.startswith(("<127.0.0.", "<127.0.8.8>"))
        other.send("noise\n")
        assert client.receive_until("<127.0.8.9>noise\n").endswith(b"\n<127.0.8.9>noise\n")


def test_urgent_bytes_and_proxy_headers_are_text() -> None:
    """CAST-3: an out-of-band byte keeps its place in the text. PREFIX-2: without --proxy-protocol,
    a PROXY header is text."""
    with room("--workers", 1, *NEVER_SILENT) as here:
        speaker, listener = two(here)
        speaker.send("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n")
        listener.expect("<127.0.0.2>PROXY TCP4 192.0.2.7 192.0.2.8 1 2\n")
        speaker.send("one ")
        speaker.send_urgently(b"!")
        speaker.send(" two\n")
        listener.expect("<127.0.0.2>one ! two\n")
        speaker.send_urgently(b"\n")
        listener.expect("<127.0.0.2>\n")
        check_all_was_received(speaker, listener)
