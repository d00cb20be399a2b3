"""WELCOME and CAST with many members that send, and with several workers.

tests/worker and harness/conformance prove the other aspects of these clauses.

Streams are compared byte by byte, so nothing else has arrived between their messages. After the
last message, its sender sends another one. Nothing arrived *after* the compared messages if this
message arrives next.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.integration.clients import Client, exchange
from tests.integration.rooms import NEVER_SILENT, UNLIMITED, addresses, room

# --- welcome -------------------------------------------------------------------------------------


def test_a_newcomer_after_unfinished_text_receives_whole_lines() -> None:
    """WELCOME-1, WELCOME-3, LINE-6: a newcomer does not receive the end of an earlier line."""
    with room("--workers", 3, "--flush-after", 0.05) as here:
        speakers = here.join_all(addresses(3))
        witness = here.join("127.0.8.8")
        for number in range(6):
            speaker = speakers[number % 3]
            speaker.send(f"{number} unfinished")
            witness.receive_until(f"{number} unfinished")
            newcomers = here.join_all(["127.0.9.7", "127.0.9.8", "127.0.9.9"])
            speakers[number // 2].send("next\n")
            for newcomer in newcomers:
                newcomer.expect(speakers[number // 2].prefix + b"next\n")
                newcomer.close()
            witness.expect(b"\n" + speakers[number // 2].prefix + b"next\n")


def test_a_newcomer_during_a_flood_receives_whole_lines() -> None:
    """WELCOME-1, CAST-5: while others send, a newcomer receives everything from some line on."""
    with room("--workers", 3, "--quiet", *UNLIMITED, *NEVER_SILENT) as here:
        speakers = here.join_all(addresses(3))
        witness = here.join("127.0.8.8")
        for speaker in speakers:
            lines = b"".join(b"%d\n" % number for number in range(30_000))
            assert speaker.send_what_fits(lines) == len(lines)
        newcomers = here.join_all(["127.0.9.9"] * 60)
        for speaker in speakers:
            speaker.send("end\n")
        order = b""
        for _ in speakers:
            order += witness.receive_until(b"end\n")
        for newcomer in newcomers:
            heard = b""
            for _ in speakers:
                heard += newcomer.receive_until(b"end\n")
            assert order.endswith(b"\n" + heard)


# --- broadcast -----------------------------------------------------------------------------------


def whole(text: bytes) -> Iterator[bytes]:
    yield text


def by_line(text: bytes) -> Iterator[bytes]:
    yield from text.splitlines(keepends=True)


def byte_by_byte(text: bytes) -> Iterator[bytes]:
    for number in range(len(text)):
        yield text[number : number + 1]


def in_pieces(text: bytes) -> Iterator[bytes]:
    sizes = random.Random(len(text))
    while text:
        size = sizes.randint(1, 23)
        yield text[:size]
        text = text[size:]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("workers", "cut", "lines"),
    [(1, whole, 8), (2, by_line, 8), (3, byte_by_byte, 2), (3, in_pieces, 8)],
)
def test_200_members_send_at_once(
    workers: int, cut: Callable[[bytes], Iterator[bytes]], lines: int
) -> None:
    """CAST-1 to CAST-5, LINE-2: each member receives all lines but its own, once, and in one
    order."""
    with room("--workers", workers, *NEVER_SILENT) as here:
        clients = here.join_all(addresses(200))
        witness = here.join("127.0.9.9")
        said = {
            client: [f"{number}: this is {client.address} 👋\n".encode() for number in range(lines)]
            for client in clients
        }
        check_one_order(witness, said, {client: cut(b"".join(said[client])) for client in said})


def check_one_order(
    witness: Client, said: dict[Client, list[bytes]], pieces: dict[Client, Iterator[bytes]]
) -> None:
    """Let the senders send. Compare what they receive with what the witness receives, in order."""
    delivered = {client: [client.prefix + line for line in lines] for client, lines in said.items()}
    everything = sum(len(line) for lines in delivered.values() for line in lines)
    sizes = {client: everything - sum(map(len, lines)) for client, lines in delivered.items()}
    exchange(pieces, {**sizes, witness: everything})

    order = witness.take(everything).splitlines(keepends=True)
    assert Counter(order) == Counter(line for lines in delivered.values() for line in lines)
    for client, lines in delivered.items():
        assert [line for line in order if line.startswith(client.prefix)] == lines
        others = [line for line in order if not line.startswith(client.prefix)]
        assert client.take(sizes[client]).splitlines(keepends=True) == others

    witness.send("no more of you\n")
    for client in said:
        client.expect(witness.prefix + b"no more of you\n")
    for client in said:
        client.send("nor of you\n")
    for _ in said:
        assert witness.receive_until("\n").endswith(b">nor of you\n")
