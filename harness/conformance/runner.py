"""Run the conformance tests with pytest, in this process.

The user's own pytest configuration, conftest files and plugins are ignored. A run depends only
on `Options` and always returns an `Outcome`. Each test's result is also passed to a callback.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import psutil
import pytest

from harness.conformance.plugin import RESULT, Result, clause_of
from harness.target.processes import ROOT

_TESTS = Path(__file__).parent / "tests"

RUN = "CHATROOM_HARNESS_RUN"
"""Environment variable that marks the processes of a run, so that `_sweep` finds them."""

_ISOLATION = (
    *("-c", os.devnull),
    f"--rootdir={ROOT}",
    "--noconftest",
    "--import-mode=importlib",
    "--strict-markers",
    "--capture=no",
    *("-p", "harness.conformance.plugin"),
    *("-p", "no:cacheprovider"),
    *("-p", "no:terminal"),
    *("-p", "no:warnings"),
)

_ENVIRONMENT = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}


@dataclass(frozen=True)
class Options:
    """Options of a run. A run needs `command` or `addresses`; collecting the tests needs neither.

    ws: URL of the gateway, for its path; None: the target is a room of lines.
    clauses: clauses to judge; empty: all. jobs: number of servers judged at once, each in a process
    of its own. junit: file for pytest's own report.
    """

    command: str | None = None
    addresses: tuple[str, ...] = ()
    ws: str | None = None
    profile: str = "chatroom"
    clauses: tuple[str, ...] = ()
    repeat: int = 1
    seed: int = 0
    timeout_scale: float = 1.0
    jobs: int = 1
    junit: Path | None = None

    def arguments(self) -> list[str]:
        """Return the arguments for pytest."""
        named: list[tuple[str, Any]] = [
            ("command", self.command),
            *(("target", address) for address in self.addresses),
            ("ws", self.ws),
            ("profile", self.profile),
            *(("clause", clause) for clause in self.clauses),
            ("repeat", self.repeat),
            ("seed", self.seed),
            ("timeout-scale", self.timeout_scale),
        ]
        return [f"--{name}={value}" for name, value in named if value is not None]


@dataclass(frozen=True)
class Check:
    """A conformance test. `about`: its docstring, in one line."""

    name: str
    clause: str
    evidence: str
    about: str


@dataclass
class Outcome:
    """The outcome of a run. `troubles`: problems of the harness that are not in a result.
    `interrupted`: true if the user has interrupted the run."""

    results: list[Result] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    interrupted: bool = False


class CollectError(Exception):
    """The tests can't be collected; the message gives the reason in one line."""


def collect(options: Options | None = None) -> list[Check]:
    """Return the tests of a run, in order. Raise CollectError if they can't be collected."""
    collector = _Collector()
    status, last_line = _pytest([*(options or Options()).arguments(), "--collect-only"], collector)
    if status == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if collector.troubles or status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise CollectError((collector.troubles or [last_line])[0])
    return collector.checks


def run(options: Options, on_result: Callable[[Result], None]) -> Outcome:
    """Run the tests; call `on_result` with the result of each test when the test ends."""
    listener = _Listener(on_result)
    report = [f"--junitxml={options.junit}"] if options.junit else []
    parallel = options.jobs > 1 and options.command is not None and _can_be_sent(options)
    how = ["-p", "xdist.plugin", f"-n{options.jobs}", "--dist=worksteal"] if parallel else []
    mark = uuid.uuid4().hex
    outcome = listener.outcome
    try:
        with _set({RUN: mark}):
            status, last_line = _pytest([*options.arguments(), *report, *how], listener)
    except OSError as error:
        outcome.troubles.append(f"{error.filename or 'pytest'}: {error.strerror}")
        return outcome
    finally:
        _sweep(mark)
    if status == pytest.ExitCode.USAGE_ERROR or (
        status == pytest.ExitCode.INTERNAL_ERROR and not outcome.troubles
    ):
        outcome.troubles.append(last_line)
    return outcome


def _can_be_sent(options: Options) -> bool:
    """Return whether xdist can send the options and paths to its processes. It sends UTF-8, but a
    file name may contain other bytes."""
    try:
        "".join((*options.arguments(), str(options.junit), *sys.argv, *sys.path)).encode()
    except UnicodeEncodeError:
        return False
    return True


class _Collector:
    """A pytest plugin that records the collected tests."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.troubles: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.troubles.append(_last_line(str(report.longrepr)))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            named = clause_of(item)
            if named is None:
                self.troubles.append(f"{item.nodeid} names no clause")
                continue
            about = inspect.getdoc(getattr(item, "function", None)) or ""
            self.checks.append(Check(item.name, *named, " ".join(about.split())))


class _Listener:
    """A pytest plugin that passes each test's result to a callback."""

    def __init__(self, on_result: Callable[[Result], None]) -> None:
        self.outcome = Outcome()
        self._on_result = on_result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = [text for name, text in report.user_properties if name == RESULT]
        # The harness writes its own report; a wire log would only bloat pytest's.
        report.user_properties = [pair for pair in report.user_properties if pair[0] != RESULT]
        for text in found:
            result = Result(**json.loads(str(text)))
            self.outcome.results.append(result)
        if found:
            # A result of another clause, such as JOIN-1, comes after the test's own.
            self._on_result(self.outcome.results[-len(found)])
        if report.failed and not found:
            self.outcome.troubles.append(f"{report.nodeid}: {_last_line(str(report.longrepr))}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcome.troubles.append(_last_line(str(report.longrepr)))

    def pytest_internalerror(self, excrepr: object) -> None:
        self.outcome.troubles.append(_last_line(str(excrepr)))

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        if isinstance(excinfo.value, KeyboardInterrupt):
            self.outcome.interrupted = True
        else:  # pytest.exit
            self.outcome.troubles.append(str(excinfo.value))


def _pytest(arguments: Sequence[str], plugin: object) -> tuple[int, str]:
    """Run pytest; return its exit status and the last line of its output.

    The output of pytest, and of its workers, which inherit standard error, is not shown.
    """
    where = str(_TESTS)
    output = io.StringIO()
    with (
        _set(_ENVIRONMENT),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
        _silent(2),
    ):
        status = pytest.main([*_ISOLATION, *arguments, where], plugins=[plugin])
    return int(status), _last_line(output.getvalue())


@contextlib.contextmanager
def _silent(descriptor: int) -> Iterator[None]:
    """Discard all output to a descriptor during the block."""
    kept = os.dup(descriptor)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), descriptor)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


@contextlib.contextmanager
def unsilenced(stream: TextIO) -> Iterator[TextIO]:
    """Yield a duplicate of `stream` that works even while pytest is silenced."""
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError):  # the stream has no descriptor, as in tests
        yield stream
        return
    with open(descriptor, "w", encoding=stream.encoding, errors="backslashreplace") as beside:
        yield beside


@contextlib.contextmanager
def _set(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables during the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _sweep(mark: str) -> None:
    """Kill the processes of the run that still exist, for example after an interrupt."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(RUN) == mark:
                process.kill()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "pytest ended without a message"
