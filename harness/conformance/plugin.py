"""The pytest plugin: a target for each process, a room for each test.

It does nothing until a test bears the marker ``clause(id, evidence)``, which
names the clause that the test judges and what its pass rests on. Such a test is
a coroutine function with a fixture `room`, and runs in an event loop of its own:

    @pytest.mark.clause("CAST-7", OBSERVED)
    async def test_a_member_alone_talks_to_nobody(room: Room) -> None: ...

What became of it is in its report's `user_properties`, under RESULT, as JSON:
see `Result`. Two of them are not pytest's business and come as skips: the clause
was not decided here, or has no meaning for this target. The first test that
finds nobody at the target's address any more has one more result: JOIN-1's.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import traceback
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytest

from harness import profile as profiles
from harness.clauses import all_clauses
from harness.clients.client import Clock, Log
from harness.clients.room import Room
from harness.conformance.evidence import OBSERVED, STRENGTH
from harness.errors import (
    CannotJudge,
    JoinError,
    NotApplicable,
    StartError,
    TargetGoneError,
    Undecided,
    Violation,
)
from harness.target.interrupts import allow_signals, defer_signals, interrupt_on_signals
from harness.target.target import Target, make_target
from harness.toml_reader import TomlError

RESULT = "conformance"

LIMIT = 60
"""Times the patience: what a test may take. All it waits for has its own limit; this one
is for what never ends, not for a busy machine."""
MOST_SHOWN = 1 << 20
"""Bytes, of what was due and of what came, that a result keeps."""
LAST_OUTPUT = 4000
"""Characters of the target's output that are kept with a result."""

PASS, FAIL, UNKNOWN, NOT_APPLICABLE = "pass", "fail", "unknown", "not-applicable"
CANNOT_JUDGE = "could-not-judge"


@dataclass
class Result:
    """What became of one test.

    `expected`, `actual`: bytes in hex. `wire`: of each event the time in
    seconds, the client, what happened, the beginning of the bytes in hex, and
    how many they are.
    """

    test: str
    clause: str
    evidence: str
    verdict: str
    detail: str = ""
    expected: str | None = None
    actual: str | None = None
    seconds: float = 0.0
    output: str = ""
    wire: list[tuple[float, str, str, str, int]] = field(default_factory=list)
    wire_dropped: int = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "judging a chat server (harness.conformance)")
    group.addoption("--command", help="start the server so: {host} and {port} are filled in")
    group.addoption("--target", metavar="HOST:PORT", help="the server that runs there")
    group.addoption("--profile", default="chatroom", help="its dialect: a name, or a file")
    group.addoption("--clause", action="append", metavar="ID", help="judge this clause only")
    group.addoption("--section", metavar="NAME", help="judge the clauses of this section only")
    group.addoption(
        "--timeout-scale", type=float, default=1.0, metavar="X", help="times the patience"
    )
    group.addoption("--repeat", type=int, default=1, metavar="N", help="judge everything N times")
    group.addoption(
        "--seed", type=int, default=0, metavar="N", help="of it comes where LINE-2 cuts its lines"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "clause(id, evidence): the clause of PROTOCOL.md that the test judges"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if config.getoption("target", None) and hasattr(config.option, "numprocesses"):
        # One server: one test at a time, in order. (xdist may have seen its options before.)
        config.option.numprocesses, config.option.dist, config.option.tx = 0, "no", []


def clause_of(item: pytest.Item) -> tuple[str, str] | None:
    """The clause that a test judges, and what its pass rests on. Raises UsageError."""
    marker = item.get_closest_marker("clause")
    if marker is None:
        return None
    if len(marker.args) != 2 or marker.kwargs:
        raise pytest.UsageError(f"{item.nodeid}: it has to be clause(id, evidence)")
    clause, evidence = marker.args
    if clause not in all_clauses() or evidence not in STRENGTH:
        raise pytest.UsageError(f"{item.nodeid}: no clause {clause!r}, or no evidence {evidence!r}")
    if not inspect.iscoroutinefunction(getattr(item, "function", None)):
        raise pytest.UsageError(f"{item.nodeid}: what judges a clause is a coroutine function")
    if "room" not in getattr(item, "fixturenames", ()):
        raise pytest.UsageError(f"{item.nodeid}: what judges a clause has a fixture `room`")
    return clause, evidence


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    times = metafunc.config.getoption("repeat")
    if times > 1 and metafunc.definition.get_closest_marker("clause"):
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(1, times + 1), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = [(item, clause_of(item)) for item in items]
    only, section = config.getoption("clause"), config.getoption("section")
    if not only and not section:
        return
    wanted = [
        clause.id
        for clause in all_clauses().values()
        if (not only or clause.id in only) and (not section or clause.section == section)
    ]
    config.hook.pytest_deselected(
        items=[i for i, found in named if found and found[0] not in wanted]
    )
    items[:] = [item for item, found in named if not found or found[0] in wanted]


# --- fixtures ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def conformance_profile(request: pytest.FixtureRequest) -> profiles.Profile:
    """How the target speaks."""
    try:
        return profiles.load(request.config.getoption("profile"))
    except TomlError as error:
        pytest.exit(str(error), pytest.ExitCode.USAGE_ERROR)


@pytest.fixture(scope="session")
def conformance_target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """The server under test: one for each process of the run."""
    option = request.config.getoption
    try:
        target = make_target(option("command"), option("target"), option("timeout_scale"))
    except ValueError as error:
        pytest.exit(str(error), pytest.ExitCode.USAGE_ERROR)
    with interrupt_on_signals(), defer_signals():
        try:
            target.start()
            with allow_signals():
                yield target
        except StartError as error:
            if hasattr(request.config, "workerinput"):
                raise  # A worker of xdist can't end the run; its tests say why they were none.
            pytest.exit(f"the target did not start: {error}", 3)
        finally:
            target.stop()


@pytest.fixture
def repetition(request: pytest.FixtureRequest) -> int:
    """Which of the times it is, where each test runs several times (--repeat)."""
    number: int = request.param
    return number


@pytest.fixture
def room(
    request: pytest.FixtureRequest,
    conformance_target: Target,
    conformance_profile: profiles.Profile,
) -> Room:
    """The target's room, with nobody of this test in it yet."""
    if conformance_target.death() or request.session.stash.get(_SPOILED, False):
        request.session.stash[_SPOILED] = True  # until it has started
        conformance_target.fresh()
        request.session.stash[_SPOILED] = False
    clock = Clock(request.config.getoption("timeout_scale"))
    made = Room(conformance_target, conformance_profile, clock, Log())
    made.random.seed(f"{request.config.getoption('seed')} {request.node.name}")
    made.since = request.session.stash.get(_JUDGED, "")
    request.node.stash[_ROOM] = made
    return made


_ROOM = pytest.StashKey[Room]()
_JUDGED = pytest.StashKey[str]()
"""The clause that was judged last: a target that is gone may have ended then."""
_GONE = pytest.StashKey[bool]()
"""Whether the target was found to be gone."""
_SPOILED = pytest.StashKey[bool]()
"""Whether something may have been done to the target, so that the next test needs another."""


# --- running, and what became of it --------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not clause_of(pyfuncitem):
        return None
    arguments = {
        name: pyfuncitem.funcargs[name]
        for name in pyfuncitem._fixtureinfo.argnames  # as pytest itself calls a test
    }
    asyncio.run(_play(pyfuncitem.stash[_ROOM], pyfuncitem.obj(**arguments)))
    return True


async def _play(room: Room, test: Any) -> None:
    """Run a test, in bounded time, and see whether its failure may be our own."""
    watch = asyncio.create_task(room.watch())
    limit = LIMIT * room.clock.patience
    try:
        async with asyncio.timeout(limit) as whole:
            await test
    except TimeoutError:
        if not whole.expired():  # a fault of the test's
            raise
        room.check_punctual()
        raise Violation(f"it did not come to an end in {limit:g} s") from None
    except Violation:
        room.check_punctual()
        raise
    finally:
        watch.cancel()
        await room.leave()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    named = clause_of(item)
    if named is None or (call.when != "call" and call.excinfo is None):
        return report
    error = call.excinfo.value if call.excinfo else None
    room = item.stash.get(_ROOM, None)
    result = Result(item.name, *named, *_verdict(error, named[0]), seconds=call.duration)
    if isinstance(error, StartError) and call.when == "setup":
        result.verdict, result.detail = CANNOT_JUDGE, f"the target did not start once more: {error}"
    if isinstance(error, Violation):
        result.expected, result.actual = _hex(error.expected), _hex(error.actual)
    if room is not None:
        result.wire = [
            (round(event.time, 6), event.client, event.what, event.data.hex(), event.size)
            for event in room.log.events()
        ]
        result.wire_dropped = room.log.dropped
        result.output = room.output()[-LAST_OUTPUT:]
        if (how := room.target.death()) and how not in result.detail:
            result.detail = f"{result.detail}; the server {how}".lstrip("; ")
        if error is not None and not isinstance(error, Undecided | NotApplicable):
            item.session.stash[_SPOILED] = True
    results = [result]
    if not isinstance(error, TargetGoneError):
        item.session.stash[_JUDGED] = result.clause
    elif not item.session.stash.get(_GONE, False):  # told once, by a clause that decides
        item.session.stash[_GONE] = True
        results.append(replace(result, clause="JOIN-1", evidence=OBSERVED, verdict=FAIL))
    report.user_properties += [(RESULT, json.dumps(asdict(result))) for result in results]
    if all(result.verdict in (UNKNOWN, NOT_APPLICABLE) for result in results):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: {result.verdict}: {result.detail}")
    return report


def _verdict(error: BaseException | None, clause: str) -> tuple[str, str]:
    """The verdict, and why."""
    match error:
        case None:
            return PASS, ""
        case JoinError() if all_clauses()[clause].section != "Joining":
            return UNKNOWN, f"nobody can join: {error.what}"
        case Violation():
            return FAIL, error.what
        case Undecided():
            return UNKNOWN, str(error)
        case NotApplicable():
            return NOT_APPLICABLE, str(error)
        case pytest.skip.Exception():
            return UNKNOWN, str(error)
        case StartError():
            return FAIL, f"one more server of its kind did not start: {error}"
        case CannotJudge():
            return CANNOT_JUDGE, str(error)
        case _:
            last = traceback.extract_tb(error.__traceback__)[-1]
            return CANNOT_JUDGE, f"the harness failed at {last.name}:{last.lineno}: {error!r}"


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data[:MOST_SHOWN].hex()
