"""The clause that is blamed for a failure on a server that an earlier test has used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.conformance import trial as trial_module
from harness.conformance.trial import Blame, judge_again
from harness.errors import CannotJudge, JoinError, StartError, Undecided, Violation


class Stub:
    """A stub of a target and its room. ends: how the server has ended, or "". harmed: True if a
    test has damaged the server."""

    window = 0.0
    exchanged = False

    def __init__(self, ends: str = "") -> None:
        self.target = self
        self.ends = ends
        self.harmed = False
        self.starts = True

    def fresh(self) -> None:
        if not self.starts:
            raise StartError("no port")
        self.ends, self.harmed = "", False

    def death(self) -> str:
        return self.ends


class Trial:
    """A stub of a conformance test, which calls `act` with the server."""

    def __init__(self, name: str, clause: str, act: Callable[[Stub], None]) -> None:
        self.name = name
        self.clause = clause
        self.run = act


def fails(_: Stub) -> None:
    raise Violation("it is lost", b"it")


def passes(_: Stub) -> None:
    pass


def fails_if_harmed(server: Stub) -> None:
    if server.harmed:
        fails(server)


def harms(server: Stub) -> None:
    server.harmed = True


def ends(server: Stub) -> None:
    server.ends = "ended (SIGSEGV)"


def is_in_a_wrong_order_if_harmed(server: Stub) -> None:
    if server.harmed:
        raise Violation("line 0 is from A, but from B")


def undecided(_: Stub) -> None:
    raise Undecided("one address")


FAILURE = Violation("it is lost")


def judge(
    before: Callable[[Stub], None],
    act: Callable[[Stub], None],
    server: Stub | None = None,
    visit: Callable[[Stub], None] = passes,
) -> Blame | None:
    room: Any = server or Stub()
    trial: Any = Trial("test_it", "CAST-1", act)
    earlier: Any = Trial("test_before", "TEXT-2", before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_module, "VISIT", Trial("a visit", "LEAVE-1", visit))
        return judge_again(trial, earlier, FAILURE, room, lambda: room)


def test_a_test_that_fails_on_a_fresh_server_too_fails_by_itself() -> None:
    with pytest.raises(Violation, match="it is lost"):
        judge(harms, fails)


def test_a_test_that_harms_the_server_is_to_blame() -> None:
    how = "after this test, test_it (CAST-1) fails: it is lost"
    assert judge(harms, fails_if_harmed) == Blame("test_before", "TEXT-2", how)


def test_leave_1_is_to_blame_if_members_that_leave_harm_the_server() -> None:
    how = "after other members have left, test_it (CAST-1) fails: it is lost"
    for before in (passes, harms):
        blame = judge(before, fails_if_harmed, visit=harms)
        assert blame == Blame("test_before", "LEAVE-1", how)


def test_a_race_blames_no_other_clause() -> None:
    room = Stub()
    room.exchanged = True
    assert judge(harms, is_in_a_wrong_order_if_harmed, room, visit=harms) is None


def test_join_1_is_to_blame_if_no_client_could_join_in_the_test_before() -> None:
    def fails_to_join(_: Stub) -> None:
        raise JoinError("A receives nothing")

    blame = judge(fails_to_join, passes)
    assert blame == Blame("test_before", "JOIN-1", "A receives nothing")


def test_a_test_that_fails_the_second_time_is_to_blame() -> None:
    assert judge(fails, passes) == Blame("test_before", "TEXT-2", "it is lost")


def test_leave_1_is_to_blame_if_the_server_ends_when_clients_leave() -> None:
    how = "when the clients of this test had left, the server ended (SIGSEGV)"
    assert judge(ends, passes) == Blame("test_before", "LEAVE-1", how)


def test_leave_1_is_to_blame_if_the_server_had_ended_before_any_message() -> None:
    """The test before has passed, so its own clause is not broken."""
    how = "when the clients of this test had left, the server ended (SIGPIPE)"
    assert judge(passes, passes, Stub("ended (SIGPIPE)")) == Blame("test_before", "LEAVE-1", how)


@pytest.mark.parametrize("before", [passes, undecided])
def test_join_1_is_to_blame_if_a_running_server_accepted_nobody(
    before: Callable[[Stub], None],
) -> None:
    how = "it is lost, since the test of TEXT-2"
    assert judge(before, passes) == Blame("test_before", "JOIN-1", how)


def test_a_failure_after_a_message_that_does_not_occur_again_is_the_test_s_own() -> None:
    room = Stub("ended (SIGPIPE)")
    room.exchanged = True
    assert judge(passes, passes, room) is None


def test_a_server_that_does_not_start_again_can_t_be_judged() -> None:
    room = Stub()
    room.starts = False
    with pytest.raises(CannotJudge, match="did not start again: no port"):
        judge(passes, passes, room)
