"""Welcome and broadcast: WELCOME-1 to WELCOME-4, CAST-1 to CAST-7, PREFIX-1 and PREFIX-2.

Who heard what is compared byte by byte, so that nothing else can have arrived. That nothing came
*after* it is shown by a last message of the same sender, who speaks up when all the rest is heard.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.integration.clients import Client, exchange
from tests.integration.rooms import NEVER_SILENT, addresses, room

# --- welcome -------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_the_welcome_comes_first_and_once_and_to_the_newcomer_alone(workers: int) -> None:
    """WELCOME-1, WELCOME-2, WELCOME-4: a line of its own, byte for byte."""
    with room("--workers", workers) as here:
        first = here.knock("127.0.0.2")
        first.hear("Welcome to socket practice\n")
        for source in addresses(10)[1:]:
            newcomer = here.knock(source)
            newcomer.hear("Welcome to socket practice\n")
            newcomer.say("hello\n")
            first.hear(f"<{source}>hello\n")
            first.say(f"hello {source}\n")
            newcomer.hear(f"<127.0.0.2>hello {source}\n")
            newcomer.close()


def test_another_welcome() -> None:
    """WELCOME-4: an option sets it; it may hold any text, and ends its line all the same."""
    with room("--workers", 1, "--welcome", "Xin chào! 你好 👋") as here:
        here.knock("127.0.0.2").hear("Xin chào! 你好 👋\n")


@pytest.mark.parametrize("workers", [1, 3])
def test_who_has_read_the_welcome_is_a_member(workers: int) -> None:
    """WELCOME-3: what is said from then on reaches it, whoever says it, on whatever worker."""
    with room("--workers", workers) as here:
        members = [here.join("127.0.0.2")]
        for number, source in enumerate(addresses(40)[1:]):
            newcomer = here.join(source)
            speaker = members[number * 7 % len(members)]
            text = f"{number} is here\n".encode()
            speaker.say(text)
            newcomer.hear(speaker.prefix + text)
            for member in members:
                if member is not speaker:
                    member.hear(speaker.prefix + text)
            members.append(newcomer)


def test_who_joins_behind_text_without_line_end_hears_whole_lines() -> None:
    """WELCOME-1, WELCOME-3, LINE-6: it does not hear the end of a line that it has not seen."""
    with room("--workers", 3) as here:
        speakers = here.join_all(addresses(3))
        witness = here.join("127.0.8.8")
        for number in range(6):
            speaker = speakers[number % 3]
            speaker.say(f"{number} unfinished")
            witness.hear_until(f"{number} unfinished")
            newcomers = here.join_all(["127.0.9.7", "127.0.9.8", "127.0.9.9"])
            speakers[number // 2].say("next\n")
            for newcomer in newcomers:
                newcomer.hear(speakers[number // 2].prefix + b"next\n")
                newcomer.close()
            witness.hear(b"\n" + speakers[number // 2].prefix + b"next\n")


def test_who_joins_in_the_middle_hears_whole_lines() -> None:
    """WELCOME-1, CAST-5: while others talk, the rest of what they say, from one line on."""
    with room("--workers", 3, "--quiet", *NEVER_SILENT) as here:
        speakers = here.join_all(addresses(3))
        witness = here.join("127.0.8.8")
        for speaker in speakers:
            lines = b"".join(b"%d\n" % number for number in range(30_000))
            assert speaker.say_what_fits(lines) == len(lines)
        newcomers = here.join_all(["127.0.9.9"] * 60)
        for speaker in speakers:
            speaker.say("end\n")
        order = b""
        for _ in speakers:
            order += witness.hear_until(b"end\n")
        for newcomer in newcomers:
            heard = b""
            for _ in speakers:
                heard += newcomer.hear_until(b"end\n")
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


@pytest.mark.parametrize(
    ("workers", "cut", "lines"),
    [(1, whole, 8), (2, by_line, 8), (3, byte_by_byte, 2), (3, in_pieces, 8)],
)
def test_200_speak_at_once(
    workers: int, cut: Callable[[bytes], Iterator[bytes]], lines: int
) -> None:
    """CAST-1 to CAST-5, LINE-2: everyone gets everything but its own, once, and in one order."""
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
    """Let them speak; the order is the one in which the witness, who says nothing, hears it."""
    delivered = {one: [one.prefix + line for line in lines] for one, lines in said.items()}
    everything = sum(len(line) for lines in delivered.values() for line in lines)
    sizes = {one: everything - sum(map(len, lines)) for one, lines in delivered.items()}
    exchange(pieces, {**sizes, witness: everything})

    order = witness.take(everything).splitlines(keepends=True)
    assert Counter(order) == Counter(line for lines in delivered.values() for line in lines)
    for one, lines in delivered.items():
        assert [line for line in order if line.startswith(one.prefix)] == lines
        others = [line for line in order if not line.startswith(one.prefix)]
        assert one.take(sizes[one]).splitlines(keepends=True) == others

    witness.say("no more of you\n")
    for one in said:
        one.hear(witness.prefix + b"no more of you\n")
    for one in said:
        one.say("nor of you\n")
    for _ in said:
        assert witness.hear_until("\n").endswith(b">nor of you\n")


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_hears_itself(workers: int) -> None:
    """CAST-2: whatever round the conversation takes, each hears the other only."""
    with room("--workers", workers) as here:
        one, other = here.join_all(addresses(2))
        for number in range(50):
            one.say(f"ping {number}\n")
            other.hear(f"<127.0.0.2>ping {number}\n")
            other.say(f"pong {number}\npong again\n")
            one.hear(f"<127.0.0.3>pong {number}\n<127.0.0.3>pong again\n")


@pytest.mark.parametrize("workers", [1, 2])
def test_two_members_behind_one_address_read_each_other(workers: int) -> None:
    """CAST-6, PREFIX-1: a member is a connection; its address is what the others see of it."""
    with room("--workers", workers) as here:
        one, other, third = here.join_all(["127.0.0.2"] * 3)
        one.say("one\n")
        other.hear("<127.0.0.2>one\n")
        other.say("other\n")
        one.hear("<127.0.0.2>other\n")
        third.hear("<127.0.0.2>one\n<127.0.0.2>other\n")


def test_senders_at_different_addresses_bear_different_prefixes() -> None:
    """PREFIX-1, PREFIX-2: the address as the server sees it, without its port, and no more."""
    with room("--workers", 2) as here:
        witness = here.join("127.0.0.1")
        for source in ("127.0.0.2", "127.1.2.3", "127.255.255.254"):
            here.join(source).say("hello\n")
            witness.hear(f"<{source}>hello\n")


def test_a_member_alone_talks_to_nobody() -> None:
    """CAST-7: no error comes of it, and who comes later hears nothing of it."""
    with room("--workers", 2) as here:
        alone = here.join("127.0.0.2")
        alone.say("anybody there?\n" * 1000)
        alone.say("no end")
        here.prints("<127.0.0.2>no end")
        other = here.join("127.0.0.3")
        other.say("I am\n")
        alone.hear("<127.0.0.3>I am\n")
        alone.say("\nfine\n")
        other.hear("<127.0.0.2>\n<127.0.0.2>fine\n")
