"""The death of one of the room's processes. To keep a dead worker's clients (LOAD-4) is to come."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.integration.clients import Client
from tests.integration.processes import Process
from tests.integration.rooms import NEVER_SILENT, SMALL_LOG, Room, addresses, room
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


def blocks(process: Process, number: int) -> bool:
    """Whether a signal does not reach it, whatever it would do then."""
    [mask] = re.findall(r"^SigBlk:\t(.+)$", process.read("status"), re.MULTILINE)
    return bool(int(mask, 16) >> number - 1 & 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_spares_a_registry_that_was_started_again(
    number: signal.Signals,
) -> None:
    """As it does the first one: when they end is for the main process to say."""
    with room("--workers", 2, tells=REGISTRY) as here:
        kill(here.registry())
        one = here.join()
        for process in (here.registry(), *here.workers()):
            assert blocks(process, number)
        os.killpg(here.pid, number)
        here.ends()
        one.hear_end()
        assert here.errors.count("\n") == 1


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


# The second of a room's registries ends at once; each leaves a file behind that counts them.
FICKLE = """
import os, sys
from multiprocessing.managers import BaseManager
serve = BaseManager._run_server.__func__
def begin(kind, *arguments):
    born = os.path.join(os.path.dirname(__file__), "born")
    with open(born, "a") as file:
        file.write("x")
    if os.path.getsize(born) == 2:
        os._exit(3)
    serve(kind, *arguments)
begin.__name__ = "_run_server"  # by which it is found in the child
BaseManager._run_server = classmethod(begin)
"""


def test_a_registry_dies_while_it_starts_again(tmp_path: Path) -> None:
    """JOIN-1: then another is started; the room has done without it meanwhile."""
    (tmp_path / "sitecustomize.py").write_text(FICKLE)
    environment = {"PYTHONPATH": str(tmp_path)}
    with room("--workers", 2, environment=environment, tells=REGISTRY) as here:
        one, other = here.join_all(addresses(2))
        kill(here.registry())
        third = here.join("127.0.0.9")
        talk([one, other, third])


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
        # Another serves newcomers: it is the one with the fewest members, as soon as it is ready.
        before = {victim.pid, *(here.serving(one).pid for one in kept)}

        def come() -> bool:
            return here.serving(here.join("127.0.7.7")).pid not in before

        until(come, "newcomers come to another worker")
        assert len(here.workers()) == workers


def talk(members: list[Client]) -> None:
    """Each in turn says something, and all others hear it, and nothing else."""
    for number, one in enumerate(members):
        one.say(f"{number}\n")
        for other in members:
            if other is not one:
                other.hear(f"<{one.address}>{number}\n")


def test_workers_are_killed_in_a_flood() -> None:
    """LEAVE-1: one after another; who is on another worker hears all that it says, and no gap."""
    with room("--workers", 3, "--quiet", *NEVER_SILENT, tells=WORKER) as here:
        for number in range(4):
            one, other, third = join_apart(here, 3)
            one.say_what_fits(b"".join(b"%d\n" % line for line in range(100_000)))
            other.hear_bytes(50_000)
            kill(here.serving(third))
            third.hear_rest()
            one.say(f"\nround {number}\n")
            text = other.hear_until(f"round {number}\n").decode()
            assert text.endswith(f"<127.0.0.2>\n<127.0.0.2>round {number}\n")
            for leaver in (one, other):
                leaver.close()


def join_apart(here: Room, count: int) -> list[Client]:
    """Members on as many workers, as soon as there are so many."""

    def come() -> list[Client]:
        members = here.join_all(addresses(count))
        if len({here.serving(one).pid for one in members}) == count:
            return members
        for one in members:
            one.close()
        return []

    return until(come, f"{count} workers")


def test_a_worker_that_the_others_wait_for_is_killed() -> None:
    """LEAVE-1: it has stood still, and the log is full; the others go on."""
    with room("--workers", 2, *SMALL_LOG, *NEVER_SILENT, "--quiet", tells=WORKER) as here:
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


def test_a_worker_that_many_newcomers_wait_for_is_killed(many_descriptors: int) -> None:
    """JOIN-2, LEAVE-1: it has stood still, and the way to it is full; the others go on."""
    with room("--workers", 2, "--quiet", tells=WORKER) as here:
        one, other = here.join_all(addresses(2))
        victim = here.serving(one)
        os.kill(victim.pid, signal.SIGSTOP)
        crowd = [here.knock("127.0.0.9") for _ in range(800)]
        lucky, unlucky = crowd[1::2], crowd[::2]
        for client in lucky:
            client.hear("Welcome to socket practice\n")
        kill(victim)
        one.hear_rest()
        for client in unlucky:
            client.hear_rest()
        other.say("who is left?\n")
        for client in lucky:
            client.hear("<127.0.0.3>who is left?\n")
        talk([other, here.join("127.0.0.5")])


def test_the_last_worker_is_killed_while_newcomers_knock() -> None:
    """JOIN-1: the main process learns of both in one turn."""
    with room("--workers", 1, tells=WORKER) as here:
        one = here.join("127.0.0.2")
        victim = here.serving(one).pid
        os.kill(here.pid, signal.SIGSTOP)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in [other.pid for other in here.processes()], "it is dead")
        newcomers = [here.knock(source) for source in addresses(3)]
        os.kill(here.pid, signal.SIGCONT)
        for newcomer in newcomers:
            newcomer.hear("Welcome to socket practice\n")
        one.hear_end()
        talk(newcomers)


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
