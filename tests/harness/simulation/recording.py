"""Run small scenarios, and return their histories."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import profile
from harness.profile import Profile
from harness.simulation import history
from harness.simulation.history import Event, History
from harness.simulation.judge.facts import MAY_FLUSH
from harness.simulation.judge.figures import figures
from harness.simulation.judge.results import LATE
from harness.simulation.run.progress import Status
from harness.simulation.run.run import Run
from harness.simulation.scenario.plan import plan
from harness.simulation.scenario.scenario import parse
from harness.target.target import Command
from tests.harness.commands import in_time

DIALECT = profile.load(profile.DEFAULT)
PYTHON = shlex.quote(sys.executable)
REFERENCE = f"{PYTHON} -m harness.reference {{host}} {{port}}"
CHATROOM = f"{PYTHON} -m chatroom --quiet --workers 2 --pack 1 {{host}} {{port}}"

#: A server that calls `serve(connection)` in a thread for each connection. After a shutdown of its
#: socket `server`, it accepts no more connections.
SERVES = """
import os, socket, sys, threading
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    try:
        connection, _ = server.accept()
    except OSError:
        threading.Event().wait()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"""


def python(code: str) -> str:
    """Return the command of a server that calls `serve`, defined in `code`, for each connection."""
    return f"{PYTHON} -c {shlex.quote(code + SERVES)} {{host}} {{port}}"


def record(
    folder: Path,
    scenario: str,
    command: str = REFERENCE,
    *,
    processes: int = 1,
    seed: int = 1,
    scale: float = 0.2,
    dialect: Profile | None = None,
    ready: Callable[[Command], None] = lambda _: None,
    on_status: Callable[[Status], None] = lambda _: None,
) -> History:
    """Run a scenario against a server, and return its history. Repeat the run if it was late.

    scenario: TOML without `about`. dialect: profile of the server; by default, that of this
    project's server. ready: waits until the server is ready. on_status: receives the progress.
    """
    planned = plan(parse(f'about = "a test"\n{scenario}', "test"), seed)

    def attempt() -> History:
        with running(command) as target:
            ready(target)
            run = Run(planned, target, dialect or DIALECT, folder, on_status, processes, scale)
            run.run()
        return history.read(run.path)

    return in_time(attempt, was_late)


@contextmanager
def running(command: str) -> Iterator[Command]:
    """Start a server; stop it at the end."""
    target = Command(command)
    target.start()
    try:
        yield target
    finally:
        target.stop()


def was_late(found: History) -> bool:
    """Return True if the harness was too slow to send what the scenario describes.

    Messages were late, or two pieces of a message were so far apart that a server may deliver them
    as two messages (LINE-5).
    """
    lag = figures(found).lag["p99"] or 0.0
    return lag > LATE or any(event["gap"] >= MAY_FLUSH for event in events_of(found, "sent"))


def events_of(found: History, key: str, value: object = None) -> list[Event]:
    """Return the events with the key, and with `value` if it is given."""
    return [event for event in found.events if key in event and value in (None, event[key])]


def heard(found: History, who: int) -> list[object]:
    """Return the lines that a session has heard."""
    return [
        line
        for event in events_of(found, "hears")
        if event["who"] == who
        for line in event["hears"]
    ]
