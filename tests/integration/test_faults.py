"""Workers die at chosen places in their code (LOAD-4): see faults.py."""

import os
import signal
from pathlib import Path

import pytest

from tests.integration.clients import Client, exchange, grouped
from tests.integration.crowd import Crowd
from tests.integration.faults import WORD
from tests.integration.faulty_room import faulty_room
from tests.integration.rooms import DIED, NEVER_SILENT, SMALL_LOG, UNLIMITED, addresses
from tests.integration.waiting import PATIENCE, until

OPTIONS = ("--quiet", *SMALL_LOG, *NEVER_SILENT)


#: Points in the code, and how often each worker passes the point without dying.
TALKING = [
    ("turn", 3),
    ("read", 20),
    ("framed", 20),
    ("batch", 20),
    ("locked", 20),
    ("joined", 20),
    ("half stored", 20),
    ("stored", 20),
    ("put", 20),
    ("appended", 20),
    ("unattributed", 20),
    ("attributed", 20),
    ("unrung", 20),
    ("rung", 20),
    ("delivering", 20),
    ("half sent", 21),
    ("sent", 21),
    ("delivered", 20),
    ("published", 20),
    ("unnoted", 0),
    ("half noted", 8),
    ("noted", 9),
    ("all noted", 0),
]


@pytest.mark.sample(5)
@pytest.mark.parametrize(("point", "skip"), TALKING)
def test_load_4_a_worker_dies_while_all_send(tmp_path: Path, point: str, skip: int) -> None:
    """LOAD-4: two workers die, at the same time or one after the other. The second worker may have
    taken over members of the first worker, or may be its replacement."""
    with faulty_room(tmp_path, point, "--workers", 2, *OPTIONS, skip=skip, logs=DIED) as (
        here,
        rounds,
    ):
        crowd = Crowd(here.join_all(addresses(7)))
        crowd.talk_on(20)
        rounds.load(2)
        crowd.talk(lambda: not rounds.left, f"two workers die at {point!r}")
        here.wait_until_replaced(2, 2)
        crowd.talk_on()
        here.stop()
        crowd.end()


#: Points that a worker passes when it takes over members, or yields members to a new worker.
MOVING = [
    ("handed", 0),
    ("found", 1),
    ("going on", 1),
    ("gone on", 1),
    ("adopted", 0),
    ("reading again", 0),
    ("yielding", 0),
    ("held", 0),
    ("yielded", 0),
    ("settled", 0),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize(("point", "skip"), MOVING)
def test_load_4_a_worker_dies_while_members_move(tmp_path: Path, point: str, skip: int) -> None:
    """LOAD-4: a worker dies. Then a second worker dies, while it takes over members or yields
    members.

     Each member has sent part of a line.
    """
    with faulty_room(tmp_path, point, "--workers", 2, *OPTIONS, skip=skip, logs=DIED) as (
        here,
        rounds,
    ):
        crowd = Crowd(here.join_all(addresses(9)))
        crowd.talk_on(20)
        for client in crowd.present()[1:]:
            crowd.send(client, "half a word… and the rest\n".encode(), part=13)
            here.wait_until_read(client)
        rounds.load()
        here.workers()[0].kill()
        crowd.talk(lambda: not rounds.left, f"a worker dies at {point!r}")
        here.wait_until_replaced(2, 2)
        crowd.talk_on()
        here.wait_until_even(crowd.present(), 2)
        here.stop()
        crowd.end()


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("point", "skip"),
    [("handed", 0), ("ungreeted", 1), ("half greeted", 1), ("greeted", 1), ("adopted", 0)],
)
def test_load_4_a_worker_dies_while_clients_join(tmp_path: Path, point: str, skip: int) -> None:
    """LOAD-4, WELCOME-1: each newcomer receives the welcome once, and all messages after that."""
    with faulty_room(tmp_path, point, "--workers", 2, *OPTIONS, skip=skip, logs=DIED) as (
        here,
        rounds,
    ):
        crowd = Crowd(here.join_all(addresses(5)))
        rounds.load(2)
        for source in addresses(20)[5:]:
            crowd.add(here.connect(source))
        crowd.talk(lambda: not rounds.left, f"two workers die at {point!r}")
        here.wait_until_replaced(2, 2)
        crowd.talk_on(200)
        here.stop()
        crowd.end()


LEAVING = ["closed", "leaving", "left", "parted", "unreported", "reported"]


@pytest.mark.sample(2)
@pytest.mark.parametrize("point", LEAVING)
def test_load_4_a_worker_dies_while_members_leave(tmp_path: Path, point: str) -> None:
    """LOAD-4, LEAVE-2: the last text of a leaving member is delivered, even an unfinished line."""
    with faulty_room(tmp_path, point, "--workers", 2, *SMALL_LOG, *NEVER_SILENT, logs=DIED) as (
        here,
        rounds,
    ):
        crowd = Crowd(here.join_all(addresses(12)))
        crowd.talk_on(20)
        rounds.load(2)
        for number in range(2, 10):
            leaver = crowd.present()[-1]
            crowd.send(leaver, b"%d: this is the last of me\n" % number, part=number)
            crowd.leave(leaver)
            crowd.talk_on(10)
        assert not rounds.left
        here.wait_until_replaced(2, 2)
        printed = b"".join(here.read_until(" disconnected\n") for _ in range(8))
        here.wait_until_even(crowd.present(), 2)
        crowd.talk_on()
        here.stop()
        crowd.end()
        printed += here.read_rest()
        assert printed.count(b" disconnected\n") == 8


def test_load_4_a_worker_dies_during_an_unfinished_line(tmp_path: Path) -> None:
    """LOAD-4, LINE-5: the worker dies when it is about to append the beginning of a line, after a
    silence. The sender continues the line later."""
    options = ("--workers", 2, "--quiet", "--flush-after", 0.1)
    with faulty_room(tmp_path, "flushed", *options, logs=DIED) as (here, rounds):
        client, other, third = here.join_all(addresses(3))
        for number in range(3):
            rounds.load()
            client.send("who is")
            for listener in (other, third):
                listener.expect("<127.0.0.2>who is")
            assert not rounds.left
            here.wait_until_replaced(number + 1, 2)
            other.send("me\n")
            client.expect("<127.0.0.3>me\n")
            third.expect("\n<127.0.0.3>me\n")
            other.expect("\n")
            client.send(" there?\n")
            for listener in (other, third):
                listener.expect("<127.0.0.2> there?\n")


@pytest.mark.sample(1)
@pytest.mark.parametrize("point", ["partly sent", "resuming", "resumed"])
def test_load_4_a_worker_dies_while_a_member_lags(tmp_path: Path, point: str) -> None:
    """LOAD-4, LOAD-1, LOAD-2: a member that lags less than the limit stays, and receives all
    messages."""
    options = ("--workers", 2, "--quiet", "--max-lag", "8M", *NEVER_SILENT, *UNLIMITED)
    with faulty_room(tmp_path, point, *options, logs=DIED) as (here, rounds):
        speaker, listener = here.join_all(addresses(2))
        slow = [here.join(source, receive_buffer=4096) for source in ("127.0.9.8", "127.0.9.9")]
        text = b"".join(b"%06d %s\n" % (number, b"." * 500) for number in range(10_000))
        heard = b"".join(speaker.prefix + line + b"\n" for line in text.splitlines())
        deaths = 0
        if point == "partly sent":
            rounds.load(2)
            deaths = 2
        exchange({speaker: grouped(text.splitlines(keepends=True), 64)}, {listener: len(heard)})
        listener.expect(heard)
        if not deaths:
            rounds.load(3)
            deaths = 3
        parts = [bytearray(), bytearray()]
        while any(len(part) < len(heard) for part in parts):
            for client, part in zip(slow, parts, strict=True):
                part.extend(client.receive_bytes(min(50_000, len(heard) - len(part))))
        for part in parts:
            assert part == heard
        assert not rounds.left
        here.wait_until_replaced(deaths, 2)
        listener.send("all here\n")
        for client in (speaker, *slow):
            client.expect("<127.0.0.3>all here\n")


def test_load_4_a_worker_dies_while_it_waits_for_space_in_the_log(tmp_path: Path) -> None:
    """LOAD-4: the log is full because another worker is stopped. No message of the waiting batch is
    lost."""
    with faulty_room(tmp_path, "full", "--workers", 2, *OPTIONS, logs=DIED) as (
        here,
        rounds,
    ):
        client, slow, other = here.join_all(addresses(3))
        sleeping = here.serving(slow)
        assert here.serving(client).pid == here.serving(other).pid != sleeping.pid
        os.kill(sleeping.pid, signal.SIGSTOP)
        rounds.load()
        text = b"".join(b"%d\n" % number for number in range(50_000))
        assert client.send_what_fits(text) == len(text)
        rounds.wait_until_fired()
        os.kill(sleeping.pid, signal.SIGCONT)
        for listener in (slow, other):
            listener.expect(b"".join(b"<127.0.0.2>%d\n" % number for number in range(50_000)))
        here.wait_until_replaced(1, 2)


def test_load_4_all_workers_die_at_once_with_unappended_input(tmp_path: Path) -> None:
    """LOAD-4: each worker dies with input that is not appended yet."""
    with faulty_room(tmp_path, "batch", "--workers", 3, *OPTIONS, logs=DIED) as (
        here,
        rounds,
    ):
        clients = here.join_all(addresses(6))
        for number in range(2):
            # Stop the workers until each of them has something to read.
            for worker in here.workers():
                rounds.load(pid=worker.pid)
                os.kill(worker.pid, signal.SIGSTOP)
            for client in clients:
                client.send(f"{number} from {client.address}\n")
            for worker in here.workers():
                os.kill(worker.pid, signal.SIGCONT)
            rounds.wait_until_fired()
            heard: dict[Client, set[bytes]] = {client: set() for client in clients}
            for client in clients:
                for _ in clients[1:]:
                    heard[client].add(client.receive_until("\n"))
            said = {
                client: client.prefix + b"%d from %s\n" % (number, client.prefix[1:-1])
                for client in clients
            }
            for client in clients:
                assert heard[client] == {*said.values()} - {said[client]}
            here.wait_until_replaced(3 * (number + 1), 3)
            here.wait_until_even(clients, 3)


def test_load_4_a_member_that_keeps_killing_workers_is_disconnected(tmp_path: Path) -> None:
    """LOAD-4: at the third or fourth death, the room disconnects this member; the others stay."""
    options = ("--workers", 2, *SMALL_LOG, *NEVER_SILENT)
    with faulty_room(tmp_path, "word", *options, logs=DIED) as (here, rounds):
        crowd = Crowd(here.join_all(addresses(6)))
        culprit = here.join("127.0.9.9")
        rounds.load(1000)
        culprit.send(b"this is " + WORD + b"\n")
        culprit.receive_rest()
        here.read_until("127.0.9.9 disconnected\n")
        died = 1000 - rounds.left
        assert 3 <= died <= 4
        here.wait_until_replaced(died, 2)
        crowd.talk_on()
        here.stop()
        crowd.end()


@pytest.mark.sample(1)
@pytest.mark.parametrize("point", ["going on", "yielding", "read", "stopping"])
def test_load_4_the_room_stops_during_a_recovery(tmp_path: Path, point: str) -> None:
    """LOAD-4: the room ends in time, and leaves no process and no file."""
    with faulty_room(tmp_path, point, "--workers", 2, *OPTIONS, logs=DIED) as (
        here,
        rounds,
    ):
        crowd = Crowd(here.join_all(addresses(9)))
        rounds.load(1)
        here.workers()[0].kill()
        if point == "stopping":
            crowd.talk_on(20)
            until(lambda: here.errors, "the death is logged")
        else:
            crowd.talk(lambda: not rounds.left, f"a worker dies at {point!r}")
        here.stop()
        for client in crowd.present():
            client.socket.settimeout(PATIENCE)
            client.receive_rest()
