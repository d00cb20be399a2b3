"""Deaths of the room's processes: no member is disconnected, and no message is lost (LOAD-4)."""

import os
import random
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.integration.clients import talk
from tests.integration.crowd import Crowd
from tests.integration.processes import Process
from tests.integration.rooms import (
    DIED,
    NEVER_SILENT,
    REGISTRY_DIED,
    SMALL_LOG,
    STOP_WITHIN,
    UNLIMITED,
    Room,
    addresses,
    room,
)
from tests.integration.waiting import until


def test_members_join_and_leave_after_the_registry_is_killed() -> None:
    """JOIN-1, JOIN-5: the next registry knows the members and the limits."""
    with room(
        "--workers",
        2,
        "--max-clients",
        4,
        "--max-clients-per-address",
        2,
        logs=REGISTRY_DIED,
    ) as here:
        client, other = here.join_all(["127.0.0.2", "127.0.0.2"])
        for _ in range(3):
            here.registry().kill()
            client.send("do you hear me?\n")
            other.expect("<127.0.0.2>do you hear me?\n")
            here.connect("127.0.0.2").expect("Too many connections from your address\n")
            third, fourth = here.join_all(["127.0.0.3", "127.0.0.4"])
            here.connect("127.0.0.5").expect("The room is full\n")
            here.read_until("127.0.0.4 connected\n")
            here.registry().kill()
            third.close()
            fourth.close()
            here.read_until(" disconnected\n")
            here.read_until(" disconnected\n")
        workers = {here.serving(member).pid for member in (client, other)}
        assert len(workers) == 2


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_does_not_end_a_restarted_registry(
    number: signal.Signals,
) -> None:
    """The registries block the signal: only the main process decides when a registry ends. This is
    true for the first registry and for later ones."""
    with room("--workers", 2, logs=REGISTRY_DIED) as here:
        here.registry().kill()
        client = here.join()
        for process in (here.registry(), *here.workers()):
            assert process.blocks(number)
        os.killpg(here.pid, number)
        here.expect_exit()
        client.expect_end()
        assert here.errors.count("\n") == 1


def test_the_registry_is_killed_while_many_join_and_leave() -> None:
    """JOIN-1: while the registry is killed and restarted, many clients join and leave. All receive
    the welcome."""
    with room("--workers", 2, logs=REGISTRY_DIED) as here:
        witness = here.join("127.0.0.1")
        for number in range(4):
            guests = [here.connect(source) for source in addresses(40)]
            here.registry().kill()
            for guest in guests:
                guest.expect("Welcome to socket practice\n")
            guests[number].send("all here\n")
            witness.expect(guests[number].prefix + b"all here\n")
            # The registry receives these leaves before, during and after its death.
            for guest in guests:
                guest.close()
        until(here.is_idle, "all guests have left")


# The room's second registry ends at once. The size of the file `born` is the number of registries
# so far.
FICKLE = """
import os, sys
from multiprocessing.managers import BaseManager
get_server = BaseManager.get_server
def begin(manager):
    born = os.path.join(os.path.dirname(__file__), "born")
    with open(born, "a") as file:
        file.write("x")
    if os.path.getsize(born) == 2:
        os._exit(3)
    return get_server(manager)
BaseManager.get_server = begin
"""


def test_a_registry_that_dies_during_its_restart_is_replaced(tmp_path: Path) -> None:
    """JOIN-1: another registry is started, and the room continues meanwhile."""
    (tmp_path / "sitecustomize.py").write_text(FICKLE)
    environment = {"PYTHONPATH": str(tmp_path)}
    with room("--workers", 2, environment=environment, logs=REGISTRY_DIED) as here:
        client, other = here.join_all(addresses(2))
        here.registry().kill()
        third = here.join("127.0.0.9")
        talk([client, other, third])
        assert (tmp_path / "born").read_text() == "xxx"


def another_than(here: Room, victim: Process) -> bool:
    return here.registry().pid != victim.pid


def test_a_killed_registry_is_restarted_before_the_next_join() -> None:
    """JOIN-5: the next registry has all members before another client joins or leaves."""
    limits = ("--max-clients", 3, "--max-clients-per-address", 2)
    with room("--workers", 2, *limits, logs=REGISTRY_DIED) as here:
        client, other = here.join_all(["127.0.0.2", "127.0.0.2"])
        for _ in range(2):
            victim = here.registry()
            victim.kill()
            until(partial(another_than, here, victim), "there is a new registry")
            until(here.is_idle, "the registry has all members again")
        assert here.errors.count("\n") == 2
        here.connect("127.0.0.2").expect("Too many connections from your address\n")
        third = here.join("127.0.0.3")
        here.connect("127.0.0.4").expect("The room is full\n")
        talk([client, other, third])
        assert here.errors.count("\n") == 2


@pytest.mark.sample(1)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_worker_is_killed(workers: int) -> None:
    """LOAD-4: no member is disconnected, and the new worker gets its share of the members."""
    with room("--workers", workers, logs=DIED) as here:
        members = here.join_all(addresses(4 * workers))
        victim = here.serving(members[0])
        victim.kill()
        talk(members)
        newcomers = here.join_all(addresses(7 * workers)[4 * workers :])
        talk([*members, *newcomers])
        here.wait_until_even([*members, *newcomers], workers)
        assert victim.pid not in [worker.pid for worker in here.workers()]
        talk([*members, *newcomers])


@pytest.mark.sample(2)
@pytest.mark.parametrize(("workers", "victims"), [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_workers_are_killed_repeatedly_while_all_talk(workers: int, victims: int) -> None:
    """LOAD-4: any worker is killed at any moment, while members join and leave."""
    options = ("--workers", workers, "--quiet", *SMALL_LOG, *NEVER_SILENT)
    with room(*options, logs=DIED) as here:
        crowd = Crowd(here.join_all(addresses(12)), seed=workers + victims)
        chance = random.Random(workers)
        for number in range(4):
            crowd.add(here.connect(f"127.0.9.{number + 2}"))
            crowd.talk_on(chance.randrange(20, 60))
            crowd.leave(crowd.present()[-1])
            for victim in chance.sample(here.workers(), victims):
                victim.kill()
            deaths = victims * (number + 1)
            noticed = partial(here.dead_and_replaced, deaths, workers)
            crowd.talk(noticed, f"{deaths} workers were replaced")
        crowd.talk_on()
        here.wait_until_even(crowd.present(), workers)
        here.stop()
        crowd.end()


def test_a_worker_that_the_others_wait_for_is_killed() -> None:
    """LOAD-4: the killed worker was stopped, and the log is full. All members continue, including
    those of this worker."""
    with room("--workers", 2, *SMALL_LOG, *NEVER_SILENT, "--quiet", logs=DIED) as here:
        client, slow, other = here.join_all(addresses(3))
        victim = here.serving(slow)
        assert here.serving(client).pid == here.serving(other).pid != victim.pid
        os.kill(victim.pid, signal.SIGSTOP)
        # The text fits into the buffers of the connection, and is several times as large as the
        # log.
        text = b"".join(b"%d\n" % number for number in range(25_000))
        assert client.send_what_fits(text) == len(text)
        until(here.is_idle, "the log is full")
        victim.kill()
        for listener in (slow, other):
            listener.expect(b"".join(b"<127.0.0.2>%d\n" % number for number in range(25_000)))


def test_a_worker_that_many_newcomers_wait_for_is_killed(many_descriptors: int) -> None:
    """JOIN-2, LOAD-4: the killed worker was stopped, and its channel is full. All newcomers are
    served."""
    with room("--workers", 2, "--watchdog", 0, "--quiet", logs=DIED) as here:
        member, other = here.join_all(addresses(2))
        victim = here.serving(member)
        os.kill(victim.pid, signal.SIGSTOP)
        crowd = [here.connect("127.0.0.9") for _ in range(800)]
        for client in crowd[1::2]:
            client.expect("Welcome to socket practice\n")
        victim.kill()
        for client in crowd[::2]:
            client.expect("Welcome to socket practice\n")
        other.send("all here?\n")
        for client in (member, *crowd):
            client.expect("<127.0.0.3>all here?\n")
        talk([member, other, here.join("127.0.0.5")])


def test_the_last_worker_is_killed_while_newcomers_connect() -> None:
    """JOIN-1, LOAD-4: the main process notices the death and the newcomers in the same turn."""
    with room("--workers", 1, logs=DIED) as here:
        client = here.join("127.0.0.9")
        victim = here.serving(client).pid
        os.kill(here.pid, signal.SIGSTOP)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in [other.pid for other in here.processes()], "the worker is dead")
        newcomers = [here.connect(source) for source in addresses(3)]
        os.kill(here.pid, signal.SIGCONT)
        for newcomer in newcomers:
            newcomer.expect("Welcome to socket practice\n")
        talk([client, *newcomers])


def test_all_workers_are_killed() -> None:
    """JOIN-1, LOAD-4: newcomers wait for a new worker, and all are served."""
    with room("--workers", 2, logs=DIED) as here:
        members = here.join_all(addresses(4))
        for worker in here.workers():
            worker.kill()
        newcomers = [here.connect(source) for source in addresses(8)[4:]]
        for newcomer in newcomers:
            newcomer.expect("Welcome to socket practice\n")
        talk([*members, *newcomers])


def test_a_member_that_lags_too_far_at_its_worker_s_death_is_disconnected() -> None:
    """LOAD-2, LOAD-4: the next worker disconnects a member that lags too far. A member that lags
    less stays."""
    options = ("--workers", 1, "--quiet", "--max-lag", "256K", "--log-size", "1M", *UNLIMITED)
    with room(*options, *NEVER_SILENT, logs=DIED) as here:
        speaker, listener = here.join_all(addresses(2))
        slow = here.join("127.0.9.9", receive_buffer=4096)
        text, taken, heard = b"x" * 1000 + b"\n", [0], 0
        while len(taken) < 4 or taken[-1] > taken[-4]:
            speaker.send(text * 32)
            listener.expect((speaker.prefix + text) * 32)
            taken.append(here.unsent(slow))
            heard += 32
        # The slow member's socket took nothing of the last three bursts of 32 KB, but took some
        # bytes of the burst before them. So the member lags by less than 128 KiB. With a lag above
        # half the limit, this member would get a grace period.
        here.serving(slow).kill()
        speaker.send(text * 600)
        listener.expect((speaker.prefix + text) * 600)
        assert ((speaker.prefix + text) * (heard + 600)).startswith(slow.receive_rest())
        talk([speaker, listener])


def gone(here: Room) -> bool:
    return not here.processes()


def test_the_room_stops_right_after_a_death() -> None:
    """LOAD-4: the room ends after the death of one worker, and after the death of all workers."""
    for victims in (1, 2):
        with room("--workers", 2, "--quiet", logs=f"^$|{DIED}") as here:
            members = here.join_all(addresses(6))
            for worker in here.workers()[:victims]:
                worker.kill()
            here.process.send_signal(signal.SIGTERM)
            here.process.wait(STOP_WITHIN)
            until(partial(gone, here), "all processes end")
            assert here.process.returncode == 0
            for member in members:
                member.expect_end()
