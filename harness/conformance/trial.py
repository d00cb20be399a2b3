"""One run of a test, and the cause of a failure that does not occur on a fresh server.

The tests of a run share a server. A test that harms it may pass, and the next one fails. So a
failure on a server that an earlier test has used is judged again, on a fresh server:

- It fails again, in one of several trials: the failure is the test's own.
- It always passes alone, and always fails after members have joined, talked and left: LEAVE-1 is
  broken.
- It always passes alone, and always fails after the earlier test: this has harmed the server.
- The earlier test's clients leave, and the server ends: LEAVE-1 is broken.
- Nothing of this occurs, and in the first trial no message had arrived: if the server had ended,
  the earlier test has probably harmed it; if it runs, it has stopped accepting clients (JOIN-1).
- Nothing of this occurs, but messages had arrived: the failure is the test's own. It only does not
  occur each time.

A server is harmed if something does not arrive any more. Another failure, such as a wrong order, is
a race, and the test's own.

A running server can't be restarted. But others may be in its room: a failure is judged again if
they said something meanwhile.
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
timeout; this one ends a test that loops."""
TRIALS = 2
"""Number of times that an earlier test and a failed one are run one after the other."""
ALONE = 3
"""Number of times that a failed test must pass on a fresh server before an earlier test can be to
blame: a race in the server shows only in some trials."""

JOINING, LEAVING = "JOIN-1", "LEAVE-1"


@dataclass(frozen=True)
class Trial:
    """A test of a clause: `function` is a coroutine function, whose argument `room` is given to
    `run`."""

    name: str
    clause: str
    function: Callable[..., Coroutine[Any, Any, None]]
    arguments: dict[str, Any]

    def run(self, room: Room) -> None:
        """Run the test in a room. Raise what it raises, or CannotJudge if the harness was late."""
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
        if not whole.expired():  # a defect of the test
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
    """A clause of which a failure is probably a consequence. `test`: the test that breaks it."""

    test: str
    clause: str
    detail: str


def judge_again(
    trial: Trial, before: Trial, failure: Violation, room: Room, make: Callable[[], Room]
) -> Blame | None:
    """Judge a test again that failed in `room`, in which `before` had passed.

    make: returns another room of the same target. Return the clause to blame, or None if the
    failure is the test's own, but does not occur each time. Raise what the test raises if it does.
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
        return Blame(before.name, before.clause, f"after this test, the server {ended}")
    return Blame(before.name, JOINING, f"{failure.what}, since the test of {before.clause}")


def judge_among_strangers(
    trial: Trial, failure: Violation, room: Room, make: Callable[[], Room]
) -> None:
    """Judge a test again that failed in the room of a running server.

    Raise the failure if no stranger has said anything, and CannotJudge if strangers talk each time.
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
    """Return whether a test fails after a visit to a fresh server."""
    try:
        VISIT.run(_fresh(make))
    except (Violation, Undecided, NotApplicable, CannotJudge):
        return False
    return bool(_is_lost(trial, make()))


def _is_lost(trial: Trial, room: Room) -> str:
    """Return why a test fails, if something did not arrive; empty if it does not fail so."""
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
    """Run a test and then another, on a fresh server; return the blame if the first harms it."""
    room = _fresh(make)
    target = room.target
    try:
        before.run(room)
        if comes_true(lambda: bool(target.death()), room.window):
            how = f"when the clients of this test had left, the server {target.death()}"
            return Blame(before.name, LEAVING, how)
    except JoinError as error:
        return Blame(before.name, JOINING, error.what)
    except Violation as error:  # its failure does not occur each time
        return Blame(before.name, before.clause, error.what)
    except (Undecided, NotApplicable, CannotJudge, StartError):
        return None
    if what := _is_lost(trial, make()):
        how = f"after this test, {trial.name} ({trial.clause}) fails: {what}"
        return Blame(before.name, before.clause, how)
    return None


def _fresh(make: Callable[[], Room]) -> Room:
    """Restart the target; return a room of it."""
    room = make()
    try:
        room.target.fresh()
    except StartError as error:
        raise CannotJudge(f"the target did not start again: {error}") from None
    return room
