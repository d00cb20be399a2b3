"""Tests of the registry: ids, limits and load. The registry's process may die or be stopped."""

import errno
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import integers, just, lists, one_of, sampled_from, tuples

from chatroom.errors import RegistryError
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.supervisor import registry_process as module
from chatroom.supervisor.child import Child
from chatroom.supervisor.registry import Admission, Directory, Refusal, Registry
from chatroom.supervisor.registry_process import RegistryProcess
from chatroom.system.event_loop import EventLoop

ROOT = Path(__file__).parent.parent.parent
FULL = Refusal(RefusalReason.FULL)
TOO_MANY = Refusal(RefusalReason.TOO_MANY)
ALICE, BOB = "192.0.2.1", "2001:db8::2"


def registry_of(*workers: int, clients: int = 10, per_address: int = 0) -> Registry:
    registry = Registry(clients, per_address, 1)
    for worker in workers:
        registry.enroll(worker)
    return registry


def admit(registry: Registry | RegistryProcess, address: str = ALICE) -> Admission:
    answer = registry.admit(address)
    assert isinstance(answer, Admission)
    return answer


# --- the directory -------------------------------------------------------------------------------


def test_an_id_is_never_given_twice() -> None:
    registry = registry_of(0)
    assert admit(registry).id == 1
    registry.leave([1])
    assert admit(registry).id == 2


def test_the_registry_returns_a_copy_of_its_members() -> None:
    registry = registry_of(4)
    admit(registry, ALICE)
    admit(registry, BOB)
    members = registry.members()
    assert members == {1: (ALICE, 4), 2: (BOB, 4)}
    members.clear()
    assert len(registry.members()) == 2, "the returned members are a copy"


def test_newcomers_are_placed_on_the_worker_with_the_fewest_members() -> None:
    registry = registry_of(0, 1, 2)
    placed = [admit(registry).worker for _ in range(6)]
    assert Counter(placed) == {0: 2, 1: 2, 2: 2}
    registry.leave([id for id, (_, worker) in registry.members().items() if worker == 1])
    assert [admit(registry).worker for _ in range(2)] == [1, 1]


def test_a_dismissed_worker_gets_no_newcomers() -> None:
    registry = registry_of(0, 1)
    for _ in range(4):
        admit(registry)
    registry.dismiss(0)
    registry.dismiss(0)
    assert {admit(registry).worker for _ in range(3)} == {1}
    assert len(registry.members()) == 7, "dismiss does not remove the worker's members"


def test_the_limit_for_an_address_may_change() -> None:
    registry = registry_of(0, clients=4)
    for _ in range(2):
        admit(registry)
    registry.limit(2)
    assert registry.admit(ALICE) == TOO_MANY
    admit(registry, BOB)
    registry.limit(1)
    assert len(registry.members()) == 3, "a lower limit removes no member"
    registry.leave([1])
    assert registry.admit(ALICE) == TOO_MANY
    registry.limit(0)
    assert [admit(registry).id for _ in range(2)] == [4, 5]
    assert registry.admit(ALICE) == FULL


def test_a_worker_that_is_enrolled_again_has_no_members() -> None:
    registry = registry_of(0, 1)
    for _ in range(4):
        admit(registry)
    registry.dismiss(0)
    registry.leave([id for id, (_, worker) in registry.members().items() if worker == 0])
    registry.enroll(0)
    assert [admit(registry).worker for _ in range(2)] == [0, 0]


def test_load_4_members_may_move_to_another_worker() -> None:
    registry = registry_of(0, 1, 2)
    for _ in range(6):
        admit(registry)
    registry.dismiss(0)
    registry.move([1, 4, 99], 2)
    assert {id: worker for id, (_, worker) in registry.members().items()} == {
        1: 2,
        2: 1,
        3: 2,
        4: 2,
        5: 1,
        6: 2,
    }
    assert [admit(registry).worker for _ in range(3)] == [1, 1, 1], "worker 2 has four members"
    registry.leave([1, 3, 4, 6])
    assert [admit(registry).worker for _ in range(4)] == [2, 2, 2, 2], "2 has the fewest"
    registry.move([2], 0)
    registry.leave([2])
    assert len(registry.members()) == 8, "the count is right after a move to a dismissed worker"


def test_a_second_enroll_has_no_effect() -> None:
    registry = registry_of(0, 1)
    admit(registry)
    registry.enroll(0)
    assert [admit(registry).worker for _ in range(2)] == [1, 0]


def test_join_5_a_full_room_refuses_newcomers() -> None:
    registry = registry_of(0, clients=2)
    admit(registry, ALICE)
    admit(registry, BOB)
    assert registry.admit(ALICE) == FULL
    registry.leave([1])
    assert admit(registry, ALICE).id == 3
    assert registry.admit(BOB) == FULL


def test_join_5_an_address_at_its_limit_is_refused() -> None:
    registry = registry_of(0, per_address=2)
    admit(registry, ALICE)
    admit(registry, ALICE)
    assert registry.admit(ALICE) == TOO_MANY
    assert admit(registry, BOB).id == 3, "a refusal uses no id"
    registry.leave([1])
    assert admit(registry, ALICE).id == 4
    assert registry.admit(ALICE) == TOO_MANY


def test_without_a_limit_an_address_may_fill_the_room() -> None:
    registry = registry_of(0, clients=3)
    for _ in range(3):
        admit(registry, ALICE)
    assert registry.admit(ALICE) == FULL


def test_a_second_leave_has_no_effect() -> None:
    registry = registry_of(0, 1, per_address=2)
    admit(registry, ALICE)
    admit(registry, ALICE)
    registry.leave([1])
    registry.leave([1, 99])
    assert registry.members() == {2: (ALICE, 1)}
    assert admit(registry, ALICE).worker == 0
    assert registry.admit(ALICE) == TOO_MANY, "a second leave does not change the count"


def test_a_registry_can_be_restored() -> None:
    registry = registry_of(clients=4, per_address=2)
    registry.restore(7, {3: (ALICE, 0), 5: (ALICE, 2), 6: (BOB, 1)}, {0, 1})
    assert registry.members() == {3: (ALICE, 0), 5: (ALICE, 2), 6: (BOB, 1)}
    assert registry.admit(ALICE) == TOO_MANY
    assert admit(registry, BOB).id == 8
    assert registry.admit("::1") == FULL
    registry.leave([3, 5])
    assert {admit(registry, ALICE).worker for _ in range(2)} == {0, 1}, "worker 2 was not enrolled"


@given(
    lists(
        one_of(
            tuples(just("admit"), sampled_from([ALICE, BOB, "::1"])),
            tuples(just("leave"), integers(1, 30)),
            tuples(just("dismiss"), sampled_from([1, 2])),
            tuples(just("move"), tuples(integers(1, 30), sampled_from([0, 1, 2]))),
            tuples(just("enroll"), sampled_from([1, 2])),
        ),
        max_size=60,
    )
)
def test_limits_and_balance_hold_for_any_sequence_of_steps(steps: list[tuple[str, object]]) -> None:
    registry = registry_of(0, clients=6, per_address=3)
    enrolled, last_id = {0}, 0
    for step in steps:
        before = registry.members()
        loads = Counter(dict.fromkeys(enrolled, 0))
        loads.update(worker for _, worker in before.values() if worker in enrolled)
        match step:
            case ("admit", str(address)):
                answer = registry.admit(address)
                crowd = Counter(address for address, _ in before.values())[address]
                if isinstance(answer, Refusal):
                    assert answer == (FULL if len(before) == 6 else TOO_MANY)
                    assert len(before) == 6 or crowd == 3
                    assert registry.members() == before
                else:
                    assert len(before) < 6
                    assert crowd < 3
                    assert answer.id == last_id + 1
                    assert loads[answer.worker] == min(loads.values())
                    assert registry.members() == before | {answer.id: (address, answer.worker)}
                    last_id = answer.id
            case ("leave", int(id)):
                registry.leave([id])
                before.pop(id, None)
                assert registry.members() == before
            case ("dismiss", int(worker)):
                # The main process assigns the members of a dead worker to other workers.
                registry.dismiss(worker)
                registry.move([id for id, (_, on) in before.items() if on == worker], 0)
                enrolled.discard(worker)
            case ("move", (int(id), int(worker))) if worker in enrolled:
                registry.move([id], worker)
                if id in before:
                    assert registry.members() == before | {id: (before[id][0], worker)}
            case ("enroll", int(worker)):
                registry.enroll(worker)
                enrolled.add(worker)


# --- the process ---------------------------------------------------------------------------------


class Room:
    """The members of a room, and the registry that the main process calls."""

    def __init__(self) -> None:
        self.held: Directory = {}
        self.loop = EventLoop()
        self.registry = RegistryProcess(self.loop, 3, 2, 1, lambda: dict(self.held))
        self.registry.connect()

    @property
    def pid(self) -> int:
        """Process id of the current registry."""
        assert self.registry._child is not None
        return self.registry._child.pid

    def admit(self, address: str) -> Admission:
        answer = admit(self.registry, address)
        self.held[answer.id] = address, answer.worker
        return answer

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture(name="room")
def fixture_room() -> Iterator[Room]:
    room = Room()
    try:
        room.registry.enroll(0)
        room.registry.enroll(1)
        yield room
    finally:
        room.registry.stop()
        room.loop.close()


def is_gone(pid: int) -> bool:
    """Return True if the process has ended and was reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_registry_process_runs_until_it_is_stopped() -> None:
    room = Room()
    pid = room.pid
    room.registry.enroll(0)
    assert room.admit(ALICE) == Admission(1, 0)
    room.registry.leave([1])
    room.registry.dismiss(0)
    room.registry.stop()
    assert is_gone(pid)


def test_a_process_may_be_stopped_before_it_is_connected() -> None:
    before = os.listdir("/dev/fd")
    loop = EventLoop()
    registry = RegistryProcess(loop, 3, 2, 1, dict)
    assert registry._child is not None
    pid = registry._child.pid
    registry.stop()
    loop.close()
    assert is_gone(pid)
    assert os.listdir("/dev/fd") == before


def test_a_process_that_ends_before_it_is_connected_is_an_error() -> None:
    loop = EventLoop()
    registry = RegistryProcess(loop, 3, 2, 1, dict)
    assert registry._child is not None
    os.kill(registry._child.pid, signal.SIGKILL)
    with pytest.raises(RegistryError, match="can't start: ended with exit code -9"):
        registry.connect()
    loop.close()


def test_load_4_a_killed_process_is_replaced_with_the_same_state(room: Room) -> None:
    assert [room.admit(ALICE).worker for _ in range(2)] == [0, 1]
    room.registry.dismiss(0)
    room.kill()
    assert room.registry.admit(ALICE) == TOO_MANY
    assert room.admit(BOB) == Admission(3, 1), "a new id, and no dismissed worker"
    assert room.registry.admit(BOB) == FULL


def test_load_4_members_may_leave_while_the_process_is_dead(room: Room) -> None:
    room.admit(ALICE)
    room.admit(ALICE)
    room.kill()
    del room.held[1]
    room.registry.leave([1])
    assert room.admit(ALICE).id == 3
    assert room.registry.admit(ALICE) == TOO_MANY


@pytest.mark.parametrize("method", ["enroll", "dismiss"])
def test_load_4_workers_may_change_while_the_process_is_dead(method: str, room: Room) -> None:
    room.kill()
    getattr(room.registry, method)(1)
    expected = {0, 1} if method == "enroll" else {0}
    assert {room.admit(ALICE).worker for _ in range(2)} == expected


@pytest.mark.parametrize("dead", ["before", "after"])
def test_load_4_the_next_process_has_the_changed_limit(dead: str, room: Room) -> None:
    room.admit(ALICE)
    if dead == "before":
        room.kill()
    room.registry.limit(1)
    if dead == "after":
        room.kill()
    assert room.registry.admit(ALICE) == TOO_MANY
    room.registry.limit(0)
    assert room.admit(ALICE).id == 2
    assert room.admit(ALICE).id == 3
    assert room.registry.admit(ALICE) == FULL


def test_load_4_the_process_may_die_repeatedly(room: Room) -> None:
    for id in range(1, 4):
        room.kill()
        assert room.admit(f"192.0.2.{id}").id == id
    room.kill()
    assert room.registry.admit(ALICE) == FULL


def test_load_4_the_process_is_replaced_without_a_call(room: Room) -> None:
    """The event loop notices that the process has ended, so the next newcomer need not wait for a
    start."""
    for _ in range(2):
        room.kill()
        killed = room.pid
        room.loop.turn()
        assert room.pid != killed
        os.kill(room.pid, 0)


def test_load_4_a_stopped_process_is_replaced_with_the_same_state(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call to the stopped process waits for a limited time. Then the process is killed."""
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.2)
    room.kill()
    room.admit(ALICE)  # The answer is from the next process, which has a limit of 0.2 s.
    stopped = room.pid
    os.kill(stopped, signal.SIGSTOP)
    os.waitid(os.P_PID, stopped, os.WSTOPPED | os.WNOWAIT)
    assert room.admit(BOB) == Admission(2, 1)
    assert is_gone(stopped)


def test_load_4_a_process_stopped_during_its_start_is_replaced(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.2)
    stopped: list[int] = []
    ready = Child.ready

    def stop_the_first(child: Child) -> None:
        ready(child)
        if not stopped:
            stopped.append(child.pid)
            os.kill(child.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)

    monkeypatch.setattr(Child, "ready", stop_the_first)
    room.kill()
    assert room.admit(ALICE) == Admission(1, 0)
    assert stopped != [room.pid]


@pytest.mark.parametrize("what", [signal.SIGSTOP, signal.SIGKILL])
def test_a_stopped_or_dead_process_can_be_ended(what: signal.Signals, room: Room) -> None:
    pid = room.pid
    os.kill(pid, what)
    room.registry.stop()
    assert is_gone(pid)


def test_a_stopped_registry_is_not_called(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """When a room ends, calls neither wait for a stopped registry nor start a new one."""
    room.admit(ALICE)
    os.kill(room.pid, signal.SIGSTOP)
    room.registry.stop()
    room.registry.leave([1])
    room.registry.move([1], 1)
    room.registry.dismiss(0)
    assert room.registry._child is None
    assert caplog.messages == []


def test_the_registry_needs_no_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user may already have as many processes and threads as `ulimit -u` allows."""
    (tmp_path / "sitecustomize.py").write_text(
        """
import threading
def refuse(_): raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
"""
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(threading.Thread, "start", lambda _: pytest.fail("a thread is started"))
    room = Room()
    try:
        assert room.admit(ALICE).id == 1
        room.kill()
        assert room.admit(ALICE).id == 2
    finally:
        room.registry.stop()
        room.loop.close()


def test_without_processes_a_call_fails_at_once(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    room.kill()
    monkeypatch.setattr(module, "Child", refuse)
    with pytest.raises(RegistryError, match="died 5 times"):
        room.registry.admit(ALICE)
    with pytest.raises(RegistryError, match=r"can't start: .*no more processes"):
        Room()


HOLD_A_REGISTRY = """
import signal
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.supervisor.registry_process import RegistryProcess
from chatroom.system.event_loop import EventLoop
registry = RegistryProcess(EventLoop(), 1, 1, 1, dict)
registry.connect()
print(registry._child.pid, flush=True)
signal.pause()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd on this system")
def test_the_process_ends_with_a_killed_main_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_A_REGISTRY], cwd=ROOT, stdout=subprocess.PIPE
    ) as main:
        assert main.stdout is not None
        registry = os.pidfd_open(int(main.stdout.readline()))
        main.kill()
    try:
        assert select.select([registry], [], [], 30)[0], "the registry's process has not ended"
    finally:
        os.close(registry)
