"""Joins: many clients at once, and connections that fail before they are served."""

import os
import re
import resource
import signal

from tests.integration.clients import Client, talk
from tests.integration.processes import LISTENS, connections
from tests.integration.rooms import WELCOME, Room, addresses, room
from tests.integration.waiting import until
from tests.system.ports import free_port

FULL = "The room is full\n"
TOO_MANY = "Too many connections from your address\n"


# --- many, and silent ones -----------------------------------------------------------------------


def test_more_clients_join_than_select_can_handle(many_descriptors: int) -> None:
    """JOIN-1: more than 1,024 descriptors (FD_SETSIZE), beyond which ncat overflows."""
    with room("--workers", 1) as here:
        speaker, *others = here.join_all(addresses(1100))
        speaker.send("hello\n")
        for other in others:
            other.expect("<127.0.0.2>hello\n")
        others[-1].send("I am the last\n")
        speaker.expect(others[-1].prefix + b"I am the last\n")


# --- resets --------------------------------------------------------------------------------------


def queue(port: int) -> int:
    """Return the number of connections at a port that wait to be accepted."""
    return sum(end.unread for end in connections() if end.local[1] == port and end.state == LISTENS)


def test_connections_reset_before_the_accept_disturb_nobody() -> None:
    """JOIN-2: such a connection has no peer name any more. This makes ncat --chat exit
    (nmap#2827)."""
    with room("--workers", 2) as here:
        members = here.join_all(addresses(2))
        os.kill(here.pid, signal.SIGSTOP)
        quick = [here.connect(source) for source in addresses(20)]
        until(lambda: queue(here.port) >= len(quick), "all connections wait to be accepted")
        for number, client in enumerate(quick):
            if number % 2:
                client.send("anybody?\n")
            client.reset()
        os.kill(here.pid, signal.SIGCONT)
        newcomer = here.join("127.0.9.9")
        newcomer.send("after the resets\n")
        for member in members:
            # Text that some of the reset connections have sent may be delivered.
            heard = member.receive_until("<127.0.9.9>after the resets\n")
            assert set(re.findall(rb">(.*)\n", heard)) <= {b"anybody?", b"after the resets"}
        members[0].send("welcome\n")
        assert newcomer.receive_until("<127.0.0.2>welcome\n")
        until(lambda: queue(here.port) == 0, "no connection waits to be accepted")


def test_connections_reset_before_the_welcome_disturb_nobody() -> None:
    """JOIN-2: the connections are reset while the main process passes them to the workers."""
    with room("--workers", 2) as here:
        members = here.join_all(addresses(2))
        workers = here.workers()
        for worker in workers:
            os.kill(worker.pid, signal.SIGSTOP)
        quick = [here.connect(source) for source in addresses(20)]
        until(lambda: queue(here.port) == 0, "all connections are accepted")
        for client in quick:
            client.reset()
        for worker in workers:
            os.kill(worker.pid, signal.SIGCONT)
        talk([members[0], members[1]])
        talk([here.join("127.0.9.9"), members[0]])


def test_a_crowd_joins_while_a_worker_is_stopped(many_descriptors: int) -> None:
    """JOIN-1: more clients connect than the stopped worker's channel takes. The other worker serves
    its clients at once."""
    with room("--workers", 2, "--watchdog", 0, "--quiet") as here:
        member, other = here.join_all(addresses(2))
        sleeping = here.serving(member)
        os.kill(sleeping.pid, signal.SIGSTOP)
        crowd = [here.connect("127.0.0.9") for _ in range(800)]
        # The registry assigns the clients to the two workers in turn.
        lucky, unlucky = crowd[1::2], crowd[::2]
        for client in lucky:
            client.expect(WELCOME)
        other.send("come in\n")
        for client in lucky:
            client.expect("<127.0.0.3>come in\n")
        assert not any(client.arrived() for client in unlucky)
        os.kill(sleeping.pid, signal.SIGCONT)
        for client in unlucky:
            client.expect(WELCOME)
        other.send("all here?\n")
        for client in lucky:
            client.expect("<127.0.0.3>all here?\n")
        for client in unlucky:
            # A client may also receive messages that were sent while it waited.
            heard = client.receive_until("<127.0.0.3>all here?\n")
            assert heard.removeprefix(b"<127.0.0.3>come in\n") == b"<127.0.0.3>all here?\n"
        member.expect("<127.0.0.3>come in\n<127.0.0.3>all here?\n")


# --- started again -------------------------------------------------------------------------------


def test_a_room_can_start_at_once_on_a_killed_room_s_port() -> None:
    """JOIN-3: clients are connected, and processes of the killed room are still ending."""
    with room("--workers", 2, port=free_port()) as before:
        members = before.join_all(addresses(3))
        os.kill(before.pid, signal.SIGKILL)
        before.process.wait()
        with room("--workers", 2, port=before.port) as here:
            talk(here.join_all(addresses(2)))
        for member in members:
            member.expect_end()


# --- addresses -----------------------------------------------------------------------------------


def test_ipv4_clients_of_an_ipv6_room(ipv6: None) -> None:
    """JOIN-4, PREFIX-3: an IPv4 address that arrives mapped into IPv6 is written as IPv4."""
    with room("--workers", 2, "--max-clients-per-address", 1, host="::") as here:
        assert here.where == f"[::]:{here.port}"
        four, six = here.join("127.0.0.2"), here.join("::1")
        four.send("four\n")
        six.expect("<127.0.0.2>four\n")
        six.send("six\n")
        four.expect("<::1>six\n")
        here.connect("127.0.0.2").expect(TOO_MANY)
        assert b"127.0.0.2 connected\n::1 connected\n" in here.read_until("<::1>six\n")


# --- full rooms ----------------------------------------------------------------------------------


def refused(client: Client, reason: str) -> None:
    """Check that the client gets one line and then an orderly close, so that the line can't be
    lost."""
    client.expect(reason)
    client.expect_end()
    assert client.ended == "closed"


def test_a_full_room_refuses_newcomers_and_continues() -> None:
    """JOIN-5: the newcomers may have sent text, or may not close their side. Refused newcomers
    occupy no resources (LEAVE-3). JOIN-1: HOST may be a name."""
    with room("--workers", 2, "--max-clients", 3, host="localhost") as here:
        assert here.where.startswith("127.0.0.1:")
        members = here.join_all(addresses(3))
        before = here.descriptors()
        for said in (b"", b"hello\n", b"x" * 300_000):
            newcomer = here.connect("127.0.9.9")
            newcomer.send_what_fits(said)
            refused(newcomer, FULL)
            talk(members)

        stubborn = [here.connect(source) for source in addresses(100)]
        for client in stubborn:
            client.expect(FULL)
        until(lambda: here.descriptors() == before, "their descriptors are given back")
        until(here.is_idle, "the room is idle")
        for client in stubborn:
            client.expect_end()
            assert client.ended == "closed"

        members[2].close()
        here.read_until(f"{members[2].address} disconnected\n")
        talk([members[0], members[1], here.join("127.0.9.9")])
        refused(here.connect("127.0.9.9"), FULL)


# --- descriptors ---------------------------------------------------------------------------------

FEWER = r" level=warning event=few-descriptors capacity=\d+ says="


def test_the_limit_of_descriptors_limits_the_members() -> None:
    """JOIN-5: at the limit, a newcomer gets one line and a close; the main process stays idle."""
    with room("--workers", 3, setup="ulimit -n 140", logs=FEWER) as here:
        members = join_until_full(here)
        assert len(members) >= 8
        refused(here.connect("127.0.9.9"), FULL)
        until(here.is_idle, "the room is idle")
        talk([members[0], members[-1]])
        before = here.descriptors()
        members.pop().close()
        here.read_until(f"127.0.0.{len(members) + 2} disconnected\n")
        members.append(here.join("127.0.9.9"))
        members[-1].send("the last seat is mine\n")
        members[0].expect("<127.0.9.9>the last seat is mine\n")
        # The earlier number may include the connection of a refused client, which stays open for a
        # moment. So there may now be fewer descriptors.
        until(lambda: here.descriptors() <= before, "no more descriptors than before")


def join_until_full(here: Room) -> list[Client]:
    """Join clients until the room is full; return them."""
    members: list[Client] = []
    for source in addresses(200):
        client = here.connect(source)
        if client.receive_until("\n") != WELCOME:
            return members
        members.append(client)
    raise AssertionError("the room never becomes full")


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    """JOIN-1: the soft limit that a shell usually sets does not limit the room."""
    with room("--workers", 1, setup="ulimit -Sn 100; ulimit -Hn 300", logs=FEWER) as here:
        speaker, *others = here.join_all(addresses(150))
        speaker.send("hello\n")
        for other in others:
            other.expect("<127.0.0.2>hello\n")


def test_a_room_without_descriptors_waits_and_accepts_again(many_descriptors: int) -> None:
    """JOIN-5: no descriptor is left. The room logs this once, stays idle, and accepts again
    later."""
    with room("--workers", 1, logs=' event=cant-accept error="Too many open files" says=') as here:
        members = here.join_all(addresses(2))
        limits = resource.prlimit(here.pid, resource.RLIMIT_NOFILE)
        taken = {int(name) for name in os.listdir(f"/proc/{here.pid}/fd")}
        lowest_free = min({*range(len(taken) + 1)} - taken)
        resource.prlimit(here.pid, resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        newcomer = here.connect("127.0.0.9")
        until(lambda: here.errors, "the lack of descriptors is logged")
        until(here.is_idle, "the room is idle")
        talk([members[0], members[1]])
        resource.prlimit(here.pid, resource.RLIMIT_NOFILE, limits)
        newcomer.expect(WELCOME)
        talk([newcomer, members[0]])
