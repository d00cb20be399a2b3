"""The arguments that several commands share, and the functions that evaluate them.

A command names the shared arguments that it takes, as in `add_shared(parser, "--profile",
"--seed")`. `add_target` adds the arguments for the server under test.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import profile as profiles
from harness.clauses import all_clauses
from harness.descriptors import raise_descriptor_limit
from harness.target.interrupts import allow_signals, defer_signals
from harness.toml_reader import TomlError

if TYPE_CHECKING:  # `bench` must run without the packages of the extra
    from harness.simulation.history import History
    from harness.target.target import Target

SPARE_DESCRIPTORS = 64
"""Number of descriptors that a process needs besides those of its clients."""

# --- types ---------------------------------------------------------------------------------------


def whole(lowest: int) -> Callable[[str], int]:
    """Return an argument type: a whole number, `lowest` or more."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"must be {lowest} or more, not {text!r}")
        return int(text)

    return parse


def number(what: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return an argument type: a number that `fits` accepts; `what` describes it in errors."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if fits(found := float(text)):
                return found
        raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")

    return parse


seconds = number("a number of seconds above 0 and up to 86400", lambda found: 0 < found <= 86_400)

RANDOM_SEED = "random"
"""Default of --seed."""


def seed(text: str) -> int:
    """Parse a seed; return a random seed if the text is RANDOM_SEED."""
    return random.SystemRandom().randrange(1 << 32) if text == RANDOM_SEED else whole(0)(text)


def clause_id(text: str) -> str:
    """Parse the id of a clause, in upper or lower case."""
    if text.upper() not in all_clauses():
        raise argparse.ArgumentTypeError(f"there is no clause {text!r}")
    return text.upper()


def writable(text: str) -> Path:
    """Parse the path of a file to write. Reject a folder, and a path in a missing folder, so that
    the error appears before the work begins."""
    path = Path(text)
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"can't be written: {text!r}")
    return path


# --- arguments -----------------------------------------------------------------------------------

_TARGET: dict[str, dict[str, Any]] = {
    "--command": {
        "metavar": "COMMAND",
        "help": "start the server with this command, in which an address replaces {host}, and a"
        " free port replaces {port}; further ports of one room replace {port2}, {port3} and so on",
    },
    "--target": {
        "metavar": "HOST:PORT",
        "action": "append",
        "default": [],
        "help": "address of a running server; repeat the option if its room has more addresses",
    },
}

_SHARED: dict[str, dict[str, Any]] = {
    "history": {
        "metavar": "HISTORY",
        "type": Path,
        "help": "a history.jsonl that simulate has written",
    },
    "--profile": {
        "metavar": "NAME|FILE",
        "help": f"the server's dialect (default: {profiles.DEFAULT})",
    },
    "--seed": {
        "metavar": "N",
        "type": seed,
        "default": RANDOM_SEED,
        "help": "seed of all random choices; reuse it to repeat a run (default: %(default)s)",
    },
    "--repeat": {
        "metavar": "N",
        "type": whole(1),
        "default": 1,
        "help": "repeat each test or measurement N times (default: %(default)s)",
    },
    "--timeout-scale": {
        "metavar": "X",
        "type": number("a number above 0", lambda found: 0 < found <= 1000),
        "default": 1.0,
        "help": "multiply all timeouts, for a slow server or a busy machine (default: %(default)g)",
    },
    "--report": {"metavar": "DIR", "type": Path, "help": "write the full report into DIR"},
    "--json": {
        "metavar": "FILE",
        "type": writable,
        "help": "also write the results to FILE, as JSON",
    },
}


def add(
    parser: argparse.ArgumentParser,
    name: str,
    metavar: str,
    kind: Callable[[str], float],
    default: float,
    about: str,
) -> None:
    """Add a numeric argument; its help names the default."""
    help = f"{about} (default: %(default)s)"
    parser.add_argument(name, metavar=metavar, type=kind, default=default, help=help)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the target: a command, or addresses."""
    group = parser.add_mutually_exclusive_group()
    for name, argument in _TARGET.items():
        group.add_argument(name, **argument)


def add_shared(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the shared arguments of these names."""
    for name in names:
        parser.add_argument(name, **_SHARED[name])


# --- evaluation ----------------------------------------------------------------------------------


def load_profile(parser: argparse.ArgumentParser, options: argparse.Namespace) -> profiles.Profile:
    """Return the profile of --profile, or the default. Exit with an error if it is invalid."""
    try:
        return profiles.load(options.profile or profiles.DEFAULT)
    except TomlError as error:
        parser.error(str(error))


def read_history(parser: argparse.ArgumentParser, options: argparse.Namespace) -> History:
    """Return the history of the argument HISTORY. Exit with an error if it is invalid."""
    from harness.simulation import history

    try:
        return history.read(options.history)
    except history.HistoryError as error:
        parser.error(str(error))


def require_descriptors(parser: argparse.ArgumentParser, clients: int, argument: str = "") -> None:
    """Exit with an error if `clients` clients need more descriptors than this process may open."""
    limit = raise_descriptor_limit()
    if clients + SPARE_DESCRIPTORS > limit:
        parser.error(
            f"{argument}{clients} clients need more descriptors than a process may open ({limit})"
        )


def require_temporary_folder(parser: argparse.ArgumentParser) -> None:
    """Exit with an error if there is no writable folder for temporary files."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        parser.error("there is no writable folder for temporary files: set TMPDIR to one")


def make_folder(parser: argparse.ArgumentParser, folder: Path) -> None:
    """Create the report's folder. If this fails, exit with an error now, not after the work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --report: can't make {str(folder)!r}: {error.strerror}")
    if not os.access(folder, os.W_OK | os.X_OK):
        parser.error(f"argument --report: can't write into {str(folder)!r}")


def write(parser: argparse.ArgumentParser, path: Path, text: str, mode: str = "w") -> None:
    """Write a file; exit with a one-line error if that fails."""
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        parser.error(f"can't write {str(path)!r}: {error.strerror}")


def write_json(parser: argparse.ArgumentParser, path: Path, record: object) -> None:
    """Write a record as JSON; exit with a one-line error if that fails."""
    write(parser, path, json.dumps(record, indent=2) + "\n")


@contextlib.contextmanager
def started(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    scale: float = 1.0,
    on_failure: Callable[[str], None] = lambda _: None,
) -> Iterator[Target]:
    """Start the target that the arguments name, and stop it after the block.

    scale: factor for the time limit of the start. Exit with a one-line error and status 2 if no
    target is named. If the target does not start, call `on_failure` with the reason, and exit with
    a one-line error and status 3.
    """
    from harness.errors import CannotJudge, StartError
    from harness.target.target import make_target

    try:
        target = make_target(options.command, options.target, scale)
    except ValueError as error:
        parser.error(str(error))
    with defer_signals():
        try:
            target.start()
            with allow_signals():
                yield target
        except StartError as error:
            why = f"the target did not start: {error}"
            on_failure(why)
            parser.exit(3, f"{parser.prog}: {why}\n")
        finally:
            try:
                target.stop()
            except CannotJudge as error:  # only a warning: the results are valid
                print(f"{parser.prog}: {error}", file=sys.stderr)
