"""The pytest plugin: one target per process, one room per test.

The plugin does nothing for tests without the marker ``clause(id, evidence)``, which names
the clause that the test judges and the evidence for a pass. Such a test is a coroutine
function with the fixture `room`, and runs in an event loop of its own:

    @pytest.mark.clause("CAST-7", OBSERVED)
    async def test_a_member_alone_in_the_room_can_talk(room: Room) -> None: ...

The test's result is a `Result`, as JSON; it is stored in the `user_properties` of the test's
report, under the name RESULT. The verdicts `unknown` and `not-applicable` do not exist in pytest;
they appear as skips.

A test may have a second result, the failure of another clause. This clause is JOIN-1 (for a
gateway, WS-1) if the test is the first to find that the target accepts no more connections. If
another test has caused the failure of this test, it is the clause that `trial` finds to be broken.
"""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Collection, Generator, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytest

from harness import profile as profiles
from harness.clauses import all_clauses, clauses_of_kind
from harness.clients.client import Clock, Log
from harness.clients.room import Room
from harness.clients.strangers import Record
from harness.clients.websocket import WebRoom, parse_url
from harness.conformance.evidence import OBSERVED, STRENGTH
from harness.conformance.trial import LEAVING, Blame, Trial, judge_again, judge_among_strangers
from harness.errors import (
    CannotJudge,
    JoinError,
    NotApplicable,
    StartError,
    TargetGoneError,
    Undecided,
    Violation,
)
from harness.target.crash import since, tail
from harness.target.interrupts import allow_signals, defer_signals, interrupt_on_signals
from harness.target.target import Target, make_target
from harness.toml_reader import TomlError

RESULT = "conformance"

MOST_SHOWN = 1 << 20
"""Maximum number of expected bytes, and of actual bytes, in a result."""
LAST_OUTPUT = 4000
"""Maximum number of characters of the target's output in a result. The lines of a crash before them
are added."""

PASS, FAIL, UNKNOWN, NOT_APPLICABLE = "pass", "fail", "unknown", "not-applicable"
CANNOT_JUDGE = "could-not-judge"


@dataclass
class Result:
    """The result of one test.

    `expected`, `actual`: bytes in hex. `wire`: for each event the time in seconds, the client,
    the kind of event, the first bytes in hex, and the number of bytes. The diagnosis sets the last
    three fields. `cause`: the usual cause of the failure, if it is known. `clients`: the clients
    that the failure is about. `around`: index in `wire` of the event at which the failure begins.
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
    cause: str = ""
    clients: tuple[str, ...] = ()
    around: int | None = None


_OPTIONS: dict[str, dict[str, Any]] = {
    "--command": {
        "help": "command that starts the server; an address replaces {host}, and free ports"
        " replace {port}, {port2} …",
    },
    "--target": {
        "metavar": "HOST:PORT",
        "action": "append",
        "default": [],
        "help": "address of a running server; repeat the option if its room has more addresses",
    },
    "--ws": {
        "metavar": "URL",
        "help": "judge the gateway at ws://HOST:PORT/PATH by the clauses on WebSockets; with"
        " --command or --target, only PATH is used",
    },
    "--profile": {
        "default": "chatroom",
        "help": "the server's dialect: name or file of a profile",
    },
    "--clause": {"metavar": "ID", "action": "append", "help": "judge only this clause"},
    "--timeout-scale": {
        "metavar": "X",
        "type": float,
        "default": 1.0,
        "help": "multiply all timeouts",
    },
    "--repeat": {"metavar": "N", "type": int, "default": 1, "help": "repeat each test N times"},
    "--seed": {
        "metavar": "N",
        "type": int,
        "default": 0,
        "help": "seed of the tests' random choices; reuse it to repeat a run",
    },
}


def pytest_addoption(parser: pytest.Parser) -> None:
    others = [
        word
        for group in (parser._anonymous, *parser._groups)
        for option in group.options
        for word in (*option.names(), f"--{option.dest}".replace("_", "-"))
    ]
    if clash := next((name for name in _OPTIONS if name in others), None):
        raise pytest.UsageError(
            f"another plugin has an option {clash}, too: disable that plugin with -p no:NAME, or"
            " run `python -m harness conform`"
        )
    group = parser.getgroup("conformance", "judging a chat server (harness.conformance)")
    for name, option in _OPTIONS.items():
        group.addoption(name, **option)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "clause(id, evidence): clause of PROTOCOL.md that the test judges, and evidence for a pass",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    option = config.getoption
    running = option("target", None) or (option("ws", None) and not option("command", None))
    if running and hasattr(config.option, "numprocesses"):
        # There is one server, so run one test at a time. (xdist may have read its options already.)
        config.option.numprocesses, config.option.dist, config.option.tx = 0, "no", []


def clause_of(item: pytest.Item) -> tuple[str, str] | None:
    """Return the clause that a test judges, and the evidence for a pass; None without a marker.

    Raise UsageError if the marker or the test function is invalid.
    """
    marker = item.get_closest_marker("clause")
    if marker is None:
        return None
    if len(marker.args) != 2 or marker.kwargs:
        raise pytest.UsageError(f"{item.nodeid}: the marker must be clause(id, evidence)")
    clause, evidence = marker.args
    if clause not in all_clauses() or evidence not in STRENGTH:
        raise pytest.UsageError(
            f"{item.nodeid}: unknown clause {clause!r} or evidence {evidence!r}"
        )
    if not inspect.iscoroutinefunction(getattr(item, "function", None)):
        raise pytest.UsageError(f"{item.nodeid}: a test of a clause must be a coroutine function")
    if "room" not in getattr(item, "fixturenames", ()):
        raise pytest.UsageError(f"{item.nodeid}: a test of a clause must have the fixture `room`")
    return clause, evidence


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """Make each test of a clause an item of pytest itself. Plugins for asynchronous tests, such as
    pytest-asyncio with `asyncio_mode = "auto"`, make all coroutine functions items of their own."""
    made = yield
    return [_plain(node) for node in made] if isinstance(made, list) else _plain(made)


def _plain(node: Any) -> Any:
    if not isinstance(node, pytest.Function) or type(node) is pytest.Function:
        return node
    if not node.get_closest_marker("clause"):
        return node
    return pytest.Function.from_parent(
        node.parent,
        name=node.name,
        callspec=getattr(node, "callspec", None),
        callobj=node.obj,
        fixtureinfo=node._fixtureinfo,
        originalname=node.originalname,
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    times = metafunc.config.getoption("repeat")
    if times > 1 and metafunc.definition.get_closest_marker("clause"):
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(1, times + 1), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = [(item, clause_of(item)) for item in items]
    wanted = _wanted(config)
    others = [item for item, found in named if found and found[0] not in wanted]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def _wanted(config: pytest.Config) -> Collection[str]:
    """Return the clauses to judge: those for the target's kind, or all if there is no target."""
    option = config.getoption
    found: Collection[str] = all_clauses()
    if option("ws") or option("command") or option("target"):
        found = clauses_of_kind(on_websockets=bool(option("ws")))
    only = option("clause")
    return [clause for clause in found if not only or clause in only]


# --- fixtures ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def conformance_profile(request: pytest.FixtureRequest) -> profiles.Profile:
    """The target's profile."""
    try:
        return profiles.load(request.config.getoption("profile"))
    except TomlError as error:
        pytest.exit(str(error), pytest.ExitCode.USAGE_ERROR)


@pytest.fixture(scope="session")
def conformance_target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """The server under test; each process of the run has one."""
    option = request.config.getoption
    try:
        addresses = option("target")
        if option("ws") and not (addresses or option("command")):
            addresses = [parse_url(option("ws"))[0]]
        target = make_target(option("command"), addresses, option("timeout_scale"))
    except ValueError as error:
        pytest.exit(str(error), pytest.ExitCode.USAGE_ERROR)
    with interrupt_on_signals(), defer_signals():
        try:
            target.start()
            with allow_signals():
                yield target
        except StartError as error:
            if hasattr(request.config, "workerinput"):
                raise  # A worker of xdist can't end the run; its tests report the error.
            pytest.exit(f"the target did not start: {error}", 3)
        finally:
            target.stop()


@pytest.fixture
def repetition(request: pytest.FixtureRequest) -> int:
    """Number of the repetition with --repeat, from 1."""
    number: int = request.param
    return number


@pytest.fixture
def room(
    request: pytest.FixtureRequest,
    conformance_target: Target,
    conformance_profile: profiles.Profile,
) -> Room:
    """The target's room, before any client of this test has joined."""
    stash = request.session.stash
    dead_or_busy = conformance_target.death() or conformance_target.busy
    if dead_or_busy or stash.get(_SPOILED, False) or stash.get(_LEAVES_HARM, False):
        stash[_SPOILED] = True  # until the start has succeeded
        conformance_target.fresh()
        stash[_SPOILED] = False
        stash[_BEFORE] = None
    made = _make_room(request.node, conformance_target, conformance_profile)
    request.node.stash[_ROOM] = made
    request.node.stash[_PRINTED] = conformance_target.output()
    return made


def _make_room(item: pytest.Item, target: Target, profile: profiles.Profile) -> Room:
    option, log = item.config.getoption, Log()
    clock = Clock(option("timeout_scale"))
    if option("ws"):
        made: Room = WebRoom(target, clock, log, parse_url(option("ws"))[1])
    else:
        if not target.ours:
            log.record = item.session.stash.setdefault(_RECORD, Record())
            log.record.begin()
        made = Room(target, profile, clock, log)
    made.random.seed(f"{option('seed')} {item.name}")
    made.since = item.session.stash.get(_JUDGED, "")
    return made


_ROOM = pytest.StashKey[Room]()
_PRINTED = pytest.StashKey[str]()
"""Output of the target before the test. The test's result contains only the output after that."""
_JUDGED = pytest.StashKey[str]()
"""Clause of the latest test. If the target is gone, it may have ended during that test."""
_BEFORE = pytest.StashKey[Trial | None]()
"""The latest test that has used the target; None if none has used it since its start."""
_RECORD = pytest.StashKey[Record]()
"""The text on all connections of the run, if the harness has not started the target."""
_BLAME = pytest.StashKey[Blame | None]()
"""The other test that has caused a test's failure, and its clause."""
_GONE = pytest.StashKey[bool]()
"""True once the target no longer accepts connections."""
_LEAVES_HARM = pytest.StashKey[bool]()
"""True once leaving members have harmed the target. From then on, each test gets a fresh target."""
_SPOILED = pytest.StashKey[bool]()
"""True if a test may have harmed the target, so that the next test needs a fresh target."""


# --- running, and the result ---------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    named = clause_of(pyfuncitem)
    if not named:
        return None
    arguments = {
        name: pyfuncitem.funcargs[name]
        for name in pyfuncitem._fixtureinfo.argnames  # pytest itself passes the same arguments
    }
    trial = Trial(pyfuncitem.name, named[0], pyfuncitem.obj, arguments)
    room, stash = pyfuncitem.stash[_ROOM], pyfuncitem.session.stash
    if reason := room.profile.inapplicable().get(trial.clause):
        raise NotApplicable(reason)
    before = stash.get(_BEFORE, None)
    try:
        trial.run(room)
    except Violation as failure:
        _judge_again(pyfuncitem, trial, before, failure)
    finally:
        if room.used:
            stash[_BEFORE] = trial
    return True


def _judge_again(
    item: pytest.Function, trial: Trial, before: Trial | None, failure: Violation
) -> None:
    """Judge a failed test again, unless the server was fresh. Raise the failure if no other test
    has caused it."""
    room = item.stash[_ROOM]

    def make() -> Room:
        item.stash[_ROOM] = _make_room(item, room.target, room.profile)
        return item.stash[_ROOM]

    if isinstance(room, WebRoom):
        raise failure  # each test has its own connections, and nobody else speaks on them
    if not room.target.ours:
        judge_among_strangers(trial, failure, room, make)
        return
    if before is None or not room.used:  # the server was fresh
        raise failure
    item.session.stash[_SPOILED] = True
    item.stash[_BLAME] = blame = judge_again(trial, before, failure, room, make)
    if blame is not None and blame.clause == LEAVING:
        item.session.stash[_LEAVES_HARM] = True
    if blame is None:
        item.stash[_ROOM] = room
        failure.what += " (but not every time)"
        raise failure


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
        result.verdict, result.detail = CANNOT_JUDGE, f"the target did not start again: {error}"
    if isinstance(error, Violation):
        result.expected, result.actual = _hex(error.expected), _hex(error.actual)
    if room is not None:
        result.wire = [
            (round(event.time, 6), event.client, event.what, event.data.hex(), event.size)
            for event in room.log.events()
        ]
        result.wire_dropped = room.log.dropped
        result.output = tail(since(item.stash[_PRINTED], room.output()), LAST_OUTPUT)
        if (how := room.target.death()) and how not in result.detail:
            result.detail = f"{result.detail}; the server {how}".lstrip("; ")
        if error is not None and not isinstance(error, Undecided | NotApplicable):
            item.session.stash[_SPOILED] = True
    results = [result, *_consequences(item, result, error)]
    report.user_properties += [(RESULT, json.dumps(asdict(result))) for result in results]
    if all(result.verdict in (UNKNOWN, NOT_APPLICABLE) for result in results):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: {result.verdict}: {result.detail}")
    return report


def _consequences(
    item: pytest.Item, result: Result, error: BaseException | None
) -> Iterator[Result]:
    """Yield a result for each failure of another clause that a test has shown."""
    stash = item.session.stash
    if blame := item.stash.get(_BLAME, None):
        yield replace(
            result, test=blame.test, clause=blame.clause, verdict=FAIL, detail=blame.detail
        )
        result.detail = (
            f"passed on a fresh server; the first failure was probably a consequence of"
            f" {blame.clause}"
        )
    if not isinstance(error, TargetGoneError):
        stash[_JUDGED] = result.clause
    elif not stash.get(_GONE, False):  # report the failure of JOIN-1 only once
        stash[_GONE] = True
        admission = item.stash[_ROOM].admission
        yield replace(result, clause=admission, evidence=OBSERVED, verdict=FAIL)


def _verdict(error: BaseException | None, clause: str) -> tuple[str, str]:
    """Return the verdict of a test, and the reason. error: the exception of the test; None: the
    test passed."""
    match error:
        case None:
            return PASS, ""
        case JoinError() if all_clauses()[clause].section != "Joining":
            return UNKNOWN, f"no client can join: {error.what}"
        case Violation():
            return FAIL, error.what
        case Undecided():
            return UNKNOWN, str(error)
        case NotApplicable():
            return NOT_APPLICABLE, str(error)
        case pytest.skip.Exception():
            return UNKNOWN, str(error)
        case StartError():
            return UNKNOWN, f"a second server of this kind did not start: {error}"
        case CannotJudge():
            return CANNOT_JUDGE, str(error)
        case _:
            last = traceback.extract_tb(error.__traceback__)[-1]
            return CANNOT_JUDGE, f"the harness failed at {last.name}:{last.lineno}: {error!r}"


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data[:MOST_SHOWN].hex()
