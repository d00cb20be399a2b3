"""The death of one of the room's processes. To keep a dead worker's clients (LOAD-4) is to come."""

import os
import signal

import pytest

from tests.integration.clients import Client
from tests.integration.processes import Process
from tests.integration.rooms import addresses, room
from tests.integration.waiting import until


def kill(process: Process) -> None:
    os.kill(process.pid, signal.SIGKILL)


REGISTRY = r"WARNING the registry's process died; starting another$"


def test_the_registry_is_killed_and_joins_and_leaves_go_on() -> None:
    """JOIN-1, JOIN-5: the next one knows who is in the room, and what the limits are."""
    with room(
        "--workers", 2, "--max-clients", 4, "--max-clients-per-address", 2, tells=REGISTRY
    ) as here:
        one, other = here.join_all(["127.0.0.2", "127.0.0.2"])
        for _ in range(3):
            kill(here.registry())
            one.say("do you hear me?\n")
            other.hear("<127.0.0.2>do you hear me?\n")
            here.knock("127.0.0.2").hear("Too many connections from your address\n")
            third, fourth = here.join_all(["127.0.0.3", "127.0.0.4"])
            here.knock("127.0.0.5").hear("The room is full\n")
            kill(here.registry())
            third.close()
            fourth.close()
            here.prints(" disconnected\n")
            here.prints(" disconnected\n")
        workers = {here.serving(member).pid for member in (one, other)}
        assert len(workers) == 2


def test_the_registry_is_killed_in_the_rush() -> None:
    """JOIN-1: while many come and go, and while it starts again; each of them is welcomed."""
    with room("--workers", 2, tells=REGISTRY) as here:
        witness = here.join("127.0.0.1")
        for number in range(4):
            guests = [here.knock(source) for source in addresses(40)]
            kill(here.registry())
            for guest in guests:
                guest.hear("Welcome to socket practice\n")
            guests[number].say("all here\n")
            witness.hear(guests[number].prefix + b"all here\n")
            # Their leaves are told to it before, while and after it is killed.
            for guest in guests:
                guest.close()
        until(here.idles, "all have left")


WORKER = r"WARNING worker \d ended with exit code -9; starting another$"


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_worker_is_killed(workers: int) -> None:
    """LEAVE-1: its clients are disconnected, the others go on, and it is replaced."""
    with room("--workers", workers, tells=WORKER) as here:
        members = here.join_all(addresses(3 * workers))
        victim = here.serving(members[0])
        lost = [one for one in members if here.serving(one).pid == victim.pid]
        kept = [one for one in members if one not in lost]
        assert len(lost) == 3
        kill(victim)
        for one in lost:
            one.hear_end()
        talk(kept)
        newcomers = here.join_all(addresses(3 * workers + 3)[3 * workers :])
        talk([*kept, *newcomers])
        until(lambda: len(here.workers()) == workers, "another is there")
        # It serves newcomers as soon as the others have more members.
        guests = [*newcomers, *(here.join("127.0.7.7") for _ in range(3))]
        assert len({here.serving(one).pid for one in [*kept, *guests]}) == workers


def talk(members: list[Client]) -> None:
    """Each in turn says something, and all others hear it, and nothing else."""
    for number, one in enumerate(members):
        one.say(f"{number}\n")
        for other in members:
            if other is not one:
                other.hear(f"<{one.address}>{number}\n")


def test_workers_are_killed_in_a_flood() -> None:
    """LEAVE-1: one after another; who is on another worker hears all that it says, and no gap."""
    with room("--workers", 3, "--quiet", tells=WORKER) as here:
        for number in range(4):
            one, other, third = here.join_all(addresses(3))
            one.say_what_fits(b"".join(b"%d\n" % line for line in range(100_000)))
            other.hear_bytes(50_000)
            kill(here.serving(third))
            third.hear_rest()
            one.say(f"\nround {number}\n")
            text = other.hear_until(f"round {number}\n").decode()
            assert text.endswith(f"<127.0.0.2>\n<127.0.0.2>round {number}\n")
            for leaver in (one, other):
                leaver.close()
            until(lambda: len(here.workers()) == 3, "another is there")


def test_a_worker_that_the_others_wait_for_is_killed() -> None:
    """LEAVE-1: it has stood still, and the log is full; the others go on."""
    options = ("--log-size", "128K", "--max-lag", "64K", "--max-line", "4K", "--quiet")
    with room("--workers", 2, *options, tells=WORKER) as here:
        one, slow, other = here.join_all(addresses(3))
        victim = here.serving(slow)
        assert here.serving(one).pid == here.serving(other).pid != victim.pid
        os.kill(victim.pid, signal.SIGSTOP)
        text = b"".join(b"%d\n" % number for number in range(50_000))
        assert one.say_what_fits(text) == len(text)
        until(here.idles, "the log is full")
        kill(victim)
        slow.hear_rest()
        other.hear(b"".join(b"<127.0.0.2>%d\n" % number for number in range(50_000)))


def test_all_workers_are_killed() -> None:
    """JOIN-1: newcomers wait until there is one again, and nobody is left out."""
    with room("--workers", 2, tells=WORKER) as here:
        members = here.join_all(addresses(4))
        for worker in here.workers():
            kill(worker)
        for member in members:
            member.hear_end()
        newcomers = [here.knock(source) for source in addresses(8)[4:]]
        for newcomer in newcomers:
            newcomer.hear("Welcome to socket practice\n")
        talk(newcomers)
