"""One run of a test, and the cause of a failure that does not occur on a fresh server.

The tests of a run share a server. A test may harm the server and nevertheless pass; then a later
test fails. So if a test fails on a server that an earlier test has used, both tests run again on
fresh servers. These cases are tried in order:

- The failed test runs alone, several times. If it fails at least once, the failure is its own.
- The failed test runs after members have joined, talked and left. If it always fails, LEAVE-1 is
  broken.
- The failed test runs after the earlier test. If it always fails, the earlier test's clause is
  broken; if the server always ends when the clients of the earlier test leave, LEAVE-1 is broken.
- If the failed test had received no message in its first run, the server was probably harmed
  before. If the server had ended, then LEAVE-1 is broken: the earlier test had passed, so the
  server ended when the clients of that test left. If the server was running, it had stopped
  accepting clients, so JOIN-1 is broken.
- Otherwise, the failure is the test's own, but does not occur every time.

In the second and third case, a failure counts only if something does not arrive. Another failure,
such as a wrong order, comes from a race in the server, and counts as the failed test's own.

A server that the harness has not started can't be restarted. But strangers may be in its room. If a
stranger has sent something during a failed test, the test runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from harness.clients.room import Room
from harness.errors import (
    CannotJudge,
    JoinError,
    NotApplicable,
    SendError,
    StartError,
    Undecided,
    Violation,
)
from harness.target.processes import comes_true

LIMIT = 60
"""Maximum duration of a test, in multiples of the clock's patience. Each wait in a test has its own
timeout; this limit ends a test that loops."""
TRIALS = 2
"""Number of times that a failed test runs after an earlier test on the same server."""
ALONE = 3
"""Number of times that a failed test must pass alone before an earlier test can be to blame. A race
in the server does not fail the test every time."""

JOINING, LEAVING = "JOIN-1", "LEAVE-1"


@dataclass(frozen=True)
class Trial:
    """A test of a clause. `function`: the test, a coroutine function. `arguments`: its arguments,
    by name; `run` replaces the argument `room`."""

    name: str
    clause: str
    function: Callable[..., Coroutine[Any, Any, None]]
    arguments: dict[str, Any]

    def run(self, room: Room) -> None:
        """Run the test in a room. Raise the exception of the test, or CannotJudge if the harness
        was late."""
        arguments = {**self.arguments, "room": room} if "room" in self.arguments else self.arguments
        asyncio.run(_play(room, self.function(**arguments)))


async def _play(room: Room, test: Coroutine[Any, Any, None]) -> None:
    """Run a test within LIMIT. Raise CannotJudge if the harness may have caused its failure."""
    watch = asyncio.create_task(room.watch())
    limit = LIMIT * room.clock.patience
    try:
        async with asyncio.timeout(limit) as whole:
            await test
    except TimeoutError:
        if not whole.expired():  # the test itself has raised TimeoutError
            raise
        room.check_punctual()
        raise Violation(f"the test did not end within {limit:g} s") from None
    except Violation:
        room.check_punctual()
        raise
    finally:
        watch.cancel()
        await room.leave()


@dataclass(frozen=True)
class Blame:
    """A broken clause that has probably caused the failure of another test. `test`: name of the
    test in which the server broke the clause."""

    test: str
    clause: str
    detail: str


def judge_again(
    trial: Trial, before: Trial, failure: Violation, room: Room, make: Callable[[], Room]
) -> Blame | None:
    """Run a failed test again. It failed in `room`, on a server that the test `before` had used.

    make: returns another room of the same target. Return the clause to blame, or None if the
    failure is the test's own, but does not occur every time. Raise the failure if it occurs again
    on a fresh server.
    """
    ended = room.target.death()
    for _ in range(ALONE):
        trial.run(_fresh(make))
    if all(_fails_after_a_visit(trial, make) for _ in range(TRIALS)):
        how = f"after other members have left, {trial.name} ({trial.clause}) fails: {failure.what}"
        return Blame(before.name, LEAVING, how)
    for _ in range(TRIALS):
        harm = _harm(before, trial, make)
        if harm is None:
            break
    else:
        return harm
    if room.exchanged:
        return None
    if ended:
        how = f"when the clients of this test had left, the server {ended}"
        return Blame(before.name, LEAVING, how)
    return Blame(before.name, JOINING, f"{failure.what}, since the test of {before.clause}")


def judge_among_strangers(
    trial: Trial, failure: Violation, room: Room, make: Callable[[], Room]
) -> None:
    """Run a failed test again. It failed in `room`, on a server that the harness has not started.

    Raise the failure if no stranger has sent anything during the test. Raise CannotJudge if
    strangers send something every time.
    """
    for _ in range(TRIALS):
        if not room.stranger():
            raise failure
        room = make()
        try:
            trial.run(room)
            return
        except Violation as error:
            failure = error
    line = room.stranger()
    if not line:
        raise failure
    raise CannotJudge(
        f"somebody else is in the room, and said {ascii(line.decode(errors='replace'))[1:-1]}"
        " (if this is the server itself, the profile needs it in `notices`)"
    )


async def _visit(room: Room) -> None:
    """Have members join, talk and leave."""
    await room.meet(*await room.join(3))


VISIT = Trial("a visit", LEAVING, _visit, {"room": None})


def _fails_after_a_visit(trial: Trial, make: Callable[[], Room]) -> bool:
    """Return whether a test fails on a fresh server after VISIT."""
    try:
        VISIT.run(_fresh(make))
    except (Violation, Undecided, NotApplicable, CannotJudge):
        return False
    return bool(_is_lost(trial, make()))


def _is_lost(trial: Trial, room: Room) -> str:
    """Run a test; return its error message if something did not arrive, else an empty text."""
    try:
        trial.run(room)
    except (JoinError, SendError) as error:
        return error.what
    except Violation as error:
        return error.what if error.expected is not None else ""
    except (Undecided, NotApplicable, CannotJudge, StartError):
        pass
    return ""


def _harm(before: Trial, trial: Trial, make: Callable[[], Room]) -> Blame | None:
    """Run `before` and then `trial` on a fresh server; return the blame if `before` harms the
    server, else None."""
    room = _fresh(make)
    target = room.target
    try:
        before.run(room)
        if comes_true(lambda: bool(target.death()), room.window):
            how = f"when the clients of this test had left, the server {target.death()}"
            return Blame(before.name, LEAVING, how)
    except JoinError as error:
        return Blame(before.name, JOINING, error.what)
    except Violation as error:  # `before` passed in the run, but does not pass every time
        return Blame(before.name, before.clause, error.what)
    except (Undecided, NotApplicable, CannotJudge, StartError):
        return None
    if what := _is_lost(trial, make()):
        how = f"after this test, {trial.name} ({trial.clause}) fails: {what}"
        return Blame(before.name, before.clause, how)
    return None


def _fresh(make: Callable[[], Room]) -> Room:
    """Restart the target; return a new room of the target."""
    room = make()
    try:
        room.target.fresh()
    except StartError as error:
        raise CannotJudge(f"the target did not start again: {error}") from None
    return room
