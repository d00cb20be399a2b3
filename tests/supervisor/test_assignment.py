"""Tests of the choice of workers for newcomers and for a dead worker's members, and of balance.

See main_process.py.
"""

import contextlib
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from chatroom.config.options import MAX_PREFIX
from chatroom.log.slots import Checkpoint
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.supervisor import assignment
from chatroom.supervisor.assignment import (
    BALANCE_AFTER,
    DEATHS,
    MAX_IDS,
)
from chatroom.supervisor.placement import UNEVEN
from chatroom.supervisor.registry import Registry
from chatroom.system.channel import Record
from tests.supervisor.main_process import FakeWorker, MainProcess, Steps


class Crowd:
    """Clients that join the room, and the workers that serve them."""

    def __init__(self, main: MainProcess, closing: contextlib.ExitStack) -> None:
        self.main = main
        self._closing = closing
        self.peers: list[socket.socket] = []

    def join(self, count: int) -> Steps:
        for _ in range(count):
            self.peers.append(self._closing.enter_context(self.main.connect()))
            yield
        self.serve()

    def serve(self) -> list[Record]:
        """Let each worker answer `yield` and `ack`, and accept members; return all other
        records."""
        return [record for worker in self.main.workers for record in worker.serve()]

    def settle(self) -> Steps:
        """Let the workers answer their records until no members move any more."""
        for _ in range(20):
            self.serve()
            self.main.now += BALANCE_AFTER
            yield

    def load(self) -> dict[int, int]:
        """Return the number of members of each worker, by seat. Check that each member has exactly
        one worker."""
        clients = self.main.members.by_id
        served = Counter(id for worker in self.main.workers for id in worker.adopted)
        assert served == Counter(clients.keys())
        for worker in self.main.workers:
            for id, adopted in worker.adopted.items():
                assert clients[id].worker == worker.number
                assert adopted.slot == clients[id].slot
        registry = self.main.registry
        assert registry.held() == registry.members()
        return {worker.number: len(worker.adopted) for worker in self.main.workers}

    def start(self, number: int) -> FakeWorker:
        """Make the new worker in this seat ready, and return this worker."""
        (worker,) = (worker for worker in self.main.workers if worker.number == number)
        worker.records()
        worker.tell({"ready": True})
        return worker


@pytest.fixture(name="crowd")
def fixture_crowd(main: MainProcess) -> Iterator[Crowd]:
    with contextlib.ExitStack() as closing:
        yield Crowd(main, closing)


def has_pinned_seat(main: MainProcess) -> bool:
    """Return True if the log still waits for a dead worker."""
    return main.pool.pinned_seat is not None


# --- records to a worker -------------------------------------------------------------------------


def test_load_4_a_reassigned_member_keeps_its_own_welcome(main: MainProcess, crowd: Crowd) -> None:
    def steps() -> Steps:
        yield from main.begin()
        for number in range(4):
            main.acceptor.greeting = b"%d\n" % (number // 2)
            yield from crowd.join(1)
        first, other = main.workers
        first.die(-9)
        yield
        crowd.serve()
        greetings = {id: adopted.greeting for id, adopted in other.adopted.items()}
        assert greetings == {1: "0\n", 2: "0\n", 3: "1\n", 4: "1\n"}
        yield
        yield from main.end()

    main.run(steps(), workers=2)


def test_load_4_many_members_with_long_prefixes_are_reassigned_at_once(
    main: MainProcess, crowd: Crowd
) -> None:
    """Prefixes and addresses have the maximum length. Their characters take even more space,
    because JSON escapes them."""

    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(150)
        for client in main.members.by_id.values():
            client.address = ":".join(["ffff"] * 8)
        first, other = main.workers
        first.die(-9)
        yield
        while len(other.adopted) < 150:
            crowd.serve()
            yield
        yield
        yield from main.end()

    main.run(steps(), workers=2, prefix="é" * (MAX_PREFIX // 2), welcome="é" * 511)


# --- disconnected members ------------------------------------------------------------------------


def test_the_next_worker_of_a_kicked_member_does_not_read_its_input(
    main: MainProcess, crowd: Crowd
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(6)
        first, other = main.workers
        main.members.disconnect([3], LeaveReason.KICKED)
        first.die(-9)
        yield
        ended, *asked = other.records()
        assert ended == {"end": [3]}
        for ack in asked:
            other.tell(ack)
        yield
        yield from main.end()

    main.run(steps(), workers=2)


# --- after a death -------------------------------------------------------------------------------


def test_load_4_a_dead_worker_s_members_go_to_the_least_loaded_workers(
    main: MainProcess, crowd: Crowd
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(12)
        first, other, third, fourth = main.workers
        for id in (2, 6):
            other.adopted.pop(id).connection.close()
        other.tell({"left": [[2, "closed"], [6, "closed"]]})
        yield
        first.die(-9)
        yield
        crowd.serve()
        assert sorted(len(worker.adopted) for worker in (other, third, fourth)) == [3, 3, 4]
        assert sum(crowd.load().values()) == 10
        yield from main.end()

    main.run(steps(), workers=4)


def test_load_4_a_seat_is_free_after_the_last_ack_of_each_worker(
    main: MainProcess, crowd: Crowd
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(8)
        dead, other, third, fourth = main.workers
        dead.die(-9)
        yield
        first = {worker.number: worker.records() for worker in (other, third)}
        assert all(len(records) == 1 for records in first.values())
        fourth.die(-9)  # This worker has to serve two members of the dead worker.
        yield
        second = {worker.number: worker.records() for worker in (other, third)}
        for worker in (other, third):
            for record in first[worker.number]:
                worker.tell(record)
        yield
        assert has_pinned_seat(main), "an earlier ack does not cover the latest members"
        for worker in (other, third):
            for record in second[worker.number]:
                worker.tell(record)
        yield
        assert not has_pinned_seat(main)
        assert sum(crowd.load().values()) == 8
        yield from main.end()

    main.run(steps(), workers=4)


def test_load_4_the_next_worker_adopts_unassigned_members(main: MainProcess, crowd: Crowd) -> None:
    """Several workers in a row may die, before they are ready or before they adopt the members."""

    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(5)
        for worker in list(main.workers):
            worker.die(-9)
        yield
        assert has_pinned_seat(main)
        (first, *_) = main.workers
        crowd.start(first.number)
        yield
        assert len(first.records()) == 1
        assert len(first.adopted) == 5
        first.die(-9)
        yield
        (second, *_) = main.workers
        crowd.start(second.number)
        yield
        assert has_pinned_seat(main), "the log keeps messages for unassigned members"
        second.serve()
        yield
        assert not has_pinned_seat(main)
        assert len(second.adopted) == 5
        yield from main.end()

    main.run(steps(), workers=2)


def test_load_4_a_member_that_kills_several_workers_is_disconnected(
    main: MainProcess, crowd: Crowd
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(3)
        log = main.log
        client = main.members.by_id[2]
        client.connection.send(client.greeting)
        noted = Checkpoint(log.offset(log.head), log.head, len(client.greeting), 0)
        main.slots.note(client.slot, noted)
        deaths = [2] * (DEATHS - 1) + [0] + [2] * (DEATHS - 1) + [3] + [2] * DEATHS
        for number, suspect in enumerate(deaths):
            assert main.left == {}, number
            (worker,) = main.workers
            log.mark_suspect(worker.number, suspect)
            worker.die(-9)
            yield
            worker = crowd.start(main.workers[0].number)
            yield
            worker.serve()
            yield
        assert main.left == {2: LeaveReason.WORKERS_KEPT_DYING}
        assert list(main.workers[0].adopted) == [1, 3]
        assert crowd.peers[1].makefile("rb").read().removeprefix(client.greeting) == (
            b"<room>Your connection is suspected of stopping worker processes\n"
        )
        yield from main.end()

    main.run(steps())


def test_no_member_is_suspected_if_the_pool_ends_a_worker(main: MainProcess, crowd: Crowd) -> None:
    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(1)
        for _ in range(DEATHS + 1):
            (worker,) = main.workers
            main.log.mark_suspect(worker.number, 1)
            main.pool.replace_all()
            (new,) = (process for process in main.workers if process is not worker)
            crowd.start(new.number)
            yield
            assert worker.exitcode == -9
            new.serve()
            yield
        assert main.left == {}
        yield from main.end()

    main.run(steps())


def test_load_4_a_member_that_hangs_several_workers_is_disconnected(
    main: MainProcess, crowd: Crowd
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(2)
        for _ in range(DEATHS):
            assert main.left == {}
            (worker,) = main.workers
            main.log.mark_suspect(worker.number, 1)
            while worker.exitcode is None:
                assert main.waits_for is not None, "the next check of the watchdog is scheduled"
                main.now += main.waits_for
                yield
            worker = crowd.start(main.workers[0].number)
            yield
            worker.serve()
            yield
        assert main.left == {1: LeaveReason.WORKERS_KEPT_DYING}
        yield from main.end()

    main.run(steps(), watchdog=8)


def test_the_registry_counts_unassigned_members_correctly(main: MainProcess, crowd: Crowd) -> None:
    """The counts are correct after new workers, perhaps in the seats of the dead ones, have adopted
    the members."""

    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(6)
        for worker in list(main.workers):
            worker.die(-9)
        yield
        for number in [worker.number for worker in main.workers]:
            crowd.start(number)
            yield
        for worker in main.workers:
            worker.serve()
        yield
        assert main.registry.members() == main.members.directory()
        yield from main.end()

    main.run(steps(), workers=2)


def test_the_registry_is_not_called_for_an_empty_list_of_members(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call takes time, up to three seconds if the registry's process hangs."""

    def steps() -> Steps:
        yield from main.begin()
        with monkeypatch.context() as asked:
            for call in ("leave", "move"):
                asked.setattr(Registry, call, lambda *_: pytest.fail("the registry is called"))
            main.workers[0].die(-9)
            yield
        (worker,) = main.workers
        worker.records()
        worker.tell({"ready": True})
        yield
        yield from main.end()

    main.run(steps())


def test_members_are_not_moved_where_the_kernel_counts_no_bytes(
    main: MainProcess, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "taken", lambda connection: None)

    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(8)
        for id in [id for id, client in main.members.by_id.items() if client.worker == 1]:
            main.workers[1].tell({"left": [(id, "closed")]})
        yield
        main.now += BALANCE_AFTER + 0.01
        yield
        assert not any("yield" in record for record in main.workers[0].records())
        yield from main.end()

    main.run(steps(), workers=2)


def test_members_are_disconnected_where_the_kernel_counts_no_bytes(
    main: MainProcess, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "taken", lambda connection: None)

    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(4)
        main.workers[0].die(-9)
        yield
        assert main.left == {1: LeaveReason.WORKER_DIED, 3: LeaveReason.WORKER_DIED}
        assert crowd.peers[0].recv(1) == b""
        assert crowd.load()[1] == 2
        yield from main.end()

    main.run(steps(), workers=2)


# --- balance -------------------------------------------------------------------------------------


def test_a_new_worker_gets_its_share(main: MainProcess, crowd: Crowd) -> None:
    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(40)
        main.workers[0].die(-9)
        yield
        crowd.serve()
        yield
        assert crowd.load() == {1: 40, 2: 0}
        main.now += BALANCE_AFTER
        yield
        assert crowd.serve() == []
        worker = crowd.start(2)
        yield
        assert worker.adopted == {}
        yield from crowd.settle()
        load = crowd.load()
        assert max(load.values()) - min(load.values()) <= UNEVEN * 20
        yield from main.end()

    main.run(steps(), workers=2)


def test_load_4_a_worker_is_told_when_all_yielded_members_are_adopted(
    main: MainProcess, crowd: Crowd
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(20)
        first, other = main.workers
        for id in list(other.adopted):
            other.adopted.pop(id).connection.close()
            other.tell({"left": [[id, "closed"]]})
        yield
        main.now += BALANCE_AFTER
        yield
        assert first.records() == [{"yield": [1, 3, 5, 7, 9]}]
        first.adopted.pop(11).connection.close()
        first.tell({"left": [[11, "closed"]]})
        yield
        main.now += BALANCE_AFTER
        yield
        assert first.records() == other.records() == [], "yield is sent only once"
        for id in (1, 3, 5, 7):  # 9 has left.
            first.adopted.pop(id).connection.close()
        first.tell({"left": [[9, "closed"]]})
        first.adopted.pop(9).connection.close()
        first.tell({"yielded": [1, 3, 5, 7]})
        yield
        assert first.records() == []
        (ack,) = other.records()
        assert list(other.adopted) == [1, 3, 5, 7]
        other.tell(ack)
        yield
        assert first.records() == [{"settled": True}]
        yield from crowd.settle()
        assert crowd.load() == {0: 4, 1: 4}, "the loads are even"
        yield from main.end()

    main.run(steps(), workers=2)


@pytest.mark.parametrize("yielded", [False, True])
@pytest.mark.parametrize("dead", ["the yielding one", "the adopting one"])
def test_load_4_a_worker_may_die_while_members_move(
    dead: str, yielded: bool, main: MainProcess, crowd: Crowd
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(20)
        first, other = main.workers
        for id in list(other.adopted):
            other.adopted.pop(id).connection.close()
            other.tell({"left": [[id, "closed"]]})
        yield
        main.now += BALANCE_AFTER
        yield
        assert first.records() == [{"yield": [1, 3, 5, 7, 9]}]
        if yielded:
            for id in (1, 3, 5, 7, 9):
                first.adopted.pop(id).connection.close()
            first.tell({"yielded": [1, 3, 5, 7, 9]})
            if dead == "the adopting one":
                yield
        (first if dead == "the yielding one" else other).die(-9)
        yield
        if dead == "the adopting one" and not yielded:
            first.adopted.pop(1).connection.close()
            first.tell({"yielded": [1]})
            yield
        crowd.serve()
        yield
        assert sum(crowd.load().values()) == 10
        crowd.start(main.processes[-1].number)
        yield
        yield from crowd.settle()
        assert sorted(crowd.load().values()) == [5, 5]
        assert not has_pinned_seat(main)
        yield from main.end()

    main.run(steps(), workers=2)


def test_an_even_spread_is_not_changed(main: MainProcess, crowd: Crowd) -> None:
    def steps() -> Steps:
        yield from main.begin()
        yield from crowd.join(44)
        first, other = main.workers
        for id in (1, 3):
            first.adopted.pop(id).connection.close()
            first.tell({"left": [[id, "closed"]]})
        yield
        main.now += BALANCE_AFTER
        yield
        assert first.records() == other.records() == [], "a difference of a tenth is allowed"
        assert main.waits_for is None
        yield from main.end()

    main.run(steps(), workers=2)


def test_the_ids_of_yielded_members_fit_into_a_record() -> None:
    assert len(str({"yield": [10**15 + id for id in range(MAX_IDS)]})) < 32 * 1024
