"""Lines for a newcomer: earlier messages (--history), and joins and leaves (--announce)."""

import pytest

from tests.integration.crowd import Crowd
from tests.integration.rooms import DIED, NEVER_SILENT, WELCOME, addresses, room


def test_hist_1_a_newcomer_receives_earlier_messages_and_then_new_ones() -> None:
    """The last three messages of six, one of which has two lines of one read."""
    with room("--workers", 2, "--history", 3) as here:
        alice, bob = here.join_all(addresses(2))
        for text in ("one\n", "two\n", "three\nfour\n", "five\n", "six\n"):
            alice.send(text)
            bob.expect("".join(f"<127.0.0.2>{line}\n" for line in text.split()))
        carol = here.join("127.0.0.9")
        carol.expect("<room>3 earlier messages:\n")
        carol.expect("<127.0.0.2>four\n<127.0.0.2>five\n<127.0.0.2>six\n")
        bob.send("new\n")
        carol.expect("<127.0.0.3>new\n")
        alice.expect("<127.0.0.3>new\n")


def test_hist_2_a_new_room_has_no_earlier_messages() -> None:
    with room("--workers", 1, "--history", 5) as here:
        alice, bob = here.join_all(addresses(2))
        alice.send("first\n")
        bob.expect("<127.0.0.2>first\n")
        carol = here.join("127.0.0.9")
        carol.expect("<room>1 earlier message:\n<127.0.0.2>first\n")


def test_hist_2_large_messages_are_left_out() -> None:
    """At most a quarter of --max-lag is sent."""
    with room("--workers", 1, "--history", 100, "--max-lag", "64K", "--rate", 0) as here:
        alice, bob = here.join_all(addresses(2))
        line = "x" * 7000 + "\n"
        for _ in range(5):
            alice.send(line)
            bob.expect(f"<127.0.0.2>{line}")
        carol = here.join("127.0.0.9")
        carol.expect("<room>2 earlier messages:\n" + f"<127.0.0.2>{line}" * 2)


def test_hist_1_a_message_without_end_is_an_earlier_message_too() -> None:
    """LINE-6: its LF arrives with the next message, also at the newcomer."""
    with room("--workers", 1, "--history", 5, "--flush-after", 0.05) as here:
        alice, bob = here.join_all(addresses(2))
        alice.send("begun")
        bob.expect("<127.0.0.2>begun")
        carol = here.join("127.0.0.9")
        carol.expect("<room>1 earlier message:\n<127.0.0.2>begun")
        bob.send("next\n")
        carol.expect("\n<127.0.0.3>next\n")
        alice.expect("<127.0.0.3>next\n")


def test_hist_1_newcomers_miss_nothing_while_all_talk_and_workers_die() -> None:
    """Each newcomer's stream is compared with the room's, from its first message on."""
    options = ("--workers", 2, "--history", 50, *NEVER_SILENT, "--rate", 0, "--room-rate", 0)
    with room("--quiet", *options, logs=DIED) as here:
        crowd = Crowd(here.join_all(addresses(5)))
        crowd.talk_on(100)
        for number in range(3):
            newcomer = here.connect(f"127.0.7.{number + 2}")
            newcomer.expect(WELCOME)
            newcomer.expect("<room>50 earlier messages:\n")
            for _ in range(10):
                crowd.turn()
            here.workers()[0].kill()
            crowd.talk_on(100)
            here.wait_until_replaced(number + 1, 2)
            lines = newcomer.arrived().splitlines(keepends=True)
            assert len(lines) > 150
            assert len({*lines}) == len(lines), "each line of the crowd is unique"
        here.stop()
        crowd.end()


@pytest.mark.parametrize("history", [0, 5])
def test_announcements_are_lines_of_the_room(history: int) -> None:
    """The newcomer receives its own announcement, too. A probe is not announced."""
    with room("--workers", 1, "--announce", "--history", history) as here:
        alice = here.join("127.0.0.2")
        alice.expect("<room>127.0.0.2 joined\n")
        here.connect("127.0.0.8").close()
        bob = here.join("127.0.0.3")
        if history:
            bob.expect("<room>1 earlier message:\n<room>127.0.0.2 joined\n")
        for member in (alice, bob):
            member.expect("<room>127.0.0.3 joined\n")
        bob.close()
        alice.expect("<room>127.0.0.3 left\n")
