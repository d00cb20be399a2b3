"""The arguments that several commands take, each written once, and what the commands do with them.

A command names those that it takes: `add_shared(parser, "--profile", "--seed")`, and `add_target`
for the server under test.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import profile as profiles
from harness.clauses import all_clauses
from harness.target.interrupts import allow_signals, defer_signals
from harness.target.processes import raise_descriptor_limit
from harness.toml_reader import TomlError

if TYPE_CHECKING:  # The extra is not there where only `bench` is wanted.
    from harness.target.target import Target

SPARE_DESCRIPTORS = 64
"""Descriptors that a process has open besides those of its clients."""

# --- types ---------------------------------------------------------------------------------------


def whole(lowest: int) -> Callable[[str], int]:
    """Return a type: a whole number, `lowest` or more."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"has to be {lowest} or more, not {text!r}")
        return int(text)

    return parse


def number(what: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a type: a number that fits, which a complaint describes as `what`."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if fits(found := float(text)):
                return found
        raise argparse.ArgumentTypeError(f"has to be {what}, not {text!r}")

    return parse


seconds = number("a number of seconds from 0 to 86400", lambda found: 0 < found <= 86_400)

DRAWN_ANEW = "drawn anew"


def seed(text: str) -> int:
    """Parse a seed; in place of one, draw one."""
    return random.SystemRandom().randrange(1 << 32) if text == DRAWN_ANEW else whole(0)(text)


def clause_id(text: str) -> str:
    """Parse the id of a clause, in capitals or not."""
    if text.upper() not in all_clauses():
        raise argparse.ArgumentTypeError(f"there is no clause {text!r}")
    return text.upper()


def writable(text: str) -> Path:
    """Parse the path of a file; complain of one that can't be written before the work."""
    path = Path(text)
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"can't be written: {text!r}")
    return path


# --- arguments -----------------------------------------------------------------------------------

_TARGET: dict[str, dict[str, Any]] = {
    "--command": {
        "metavar": "COMMAND",
        "help": "start the server so; {host} and {port} are filled in",
    },
    "--target": {"metavar": "HOST:PORT", "help": "the server that runs there"},
}

_SHARED: dict[str, dict[str, Any]] = {
    "history": {"metavar": "HISTORY", "type": Path, "help": "a history.jsonl"},
    "--profile": {"metavar": "NAME|FILE", "help": f"how it speaks ({profiles.DEFAULT})"},
    "--seed": {
        "metavar": "N",
        "type": seed,
        "default": DRAWN_ANEW,
        "help": "what is drawn at random comes from it (%(default)s)",
    },
    "--repeat": {
        "metavar": "N",
        "type": whole(1),
        "default": 1,
        "help": "do everything N times (%(default)s)",
    },
    "--timeout-scale": {
        "metavar": "X",
        "type": number("a number above 0", lambda found: 0 < found <= 1000),
        "default": 1.0,
        "help": "times the patience, for slow servers and busy machines (%(default)g)",
    },
    "--report": {"metavar": "DIR", "type": Path, "help": "write all that was found into DIR"},
    "--json": {"metavar": "FILE", "type": writable, "help": "also write it to FILE, as JSON"},
}


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the target: a command, or an address."""
    group = parser.add_mutually_exclusive_group()
    for name, argument in _TARGET.items():
        group.add_argument(name, **argument)


def add_shared(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add those of the shared arguments that a command takes, by name."""
    for name in names:
        parser.add_argument(name, **_SHARED[name])


# --- what comes of them --------------------------------------------------------------------------


def load_profile(parser: argparse.ArgumentParser, options: argparse.Namespace) -> profiles.Profile:
    """Return the profile that is named, or else the default."""
    try:
        return profiles.load(options.profile or profiles.DEFAULT)
    except TomlError as error:
        parser.error(str(error))


def require_descriptors(parser: argparse.ArgumentParser, clients: int, argument: str = "") -> None:
    """Complain of more clients than this process may have connections for."""
    limit = raise_descriptor_limit()
    if clients + SPARE_DESCRIPTORS > limit:
        parser.error(
            f"{argument}{clients} clients need more descriptors than a process may have ({limit})"
        )


def make_folder(parser: argparse.ArgumentParser, folder: Path) -> None:
    """Complain of a folder that can't be made, or written into, before the work, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --report: can't make {str(folder)!r}: {error.strerror}")
    if not os.access(folder, os.W_OK | os.X_OK):
        parser.error(f"argument --report: can't write into {str(folder)!r}")


def write(parser: argparse.ArgumentParser, path: Path, text: str, mode: str = "w") -> None:
    """Write a file; end the program with one line where that fails."""
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        parser.error(f"can't write {str(path)!r}: {error.strerror}")


def write_json(parser: argparse.ArgumentParser, path: Path, record: object) -> None:
    """Write a record as JSON; end the program with one line where that fails."""
    write(parser, path, json.dumps(record, indent=2) + "\n")


@contextlib.contextmanager
def started(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    scale: float = 1.0,
    on_failure: Callable[[str], None] = lambda _: None,
) -> Iterator[Target]:
    """Start the target that the arguments name, and stop it after the block.

    scale: of the time to start. End the program with one line where no target is named (2), or
    where it does not start (3), after a call of `on_failure` with the reason.
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
            except CannotJudge as error:  # said, and no more: what was found out stands
                print(f"{parser.prog}: {error}", file=sys.stderr)
