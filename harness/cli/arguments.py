"""What several commands have in common: types of arguments, and the target that they name."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.clauses import all_clauses
from harness.target.interrupts import allow_signals, defer_signals

if TYPE_CHECKING:  # The extra is not there where only `bench` is wanted.
    from harness.target.target import Target


def whole(lowest: int) -> Callable[[str], int]:
    """A type for `add_argument`: a whole number, `lowest` or more."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"has to be {lowest} or more, not {text!r}")
        return int(text)

    return parse


def clause_id(text: str) -> str:
    """A type for `add_argument`: the id of a clause, in capitals or not."""
    if text.upper() not in all_clauses():
        raise argparse.ArgumentTypeError(f"there is no clause {text!r}")
    return text.upper()


def writable(text: str) -> Path:
    """A type for `add_argument`: complains of a path that can't be written before the work."""
    path = Path(text)
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"can't be written: {text!r}")
    return path


def scale(text: str) -> float:
    """A type for `add_argument`: times all that the harness waits for."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1000:
        raise argparse.ArgumentTypeError(f"has to be a number above 0, not {text!r}")
    return found


def seconds(text: str) -> float:
    """A type for `add_argument`: seconds, more than none."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 86_400:
        raise argparse.ArgumentTypeError(
            f"has to be a number of seconds from 0 to 86400, not {text!r}"
        )
    return found


def add_target(parser: argparse.ArgumentParser) -> None:
    """The arguments that name the target: `options.server`, a command, or `options.target`."""
    server = parser.add_mutually_exclusive_group()
    server.add_argument(
        "--command",
        dest="server",
        metavar="COMMAND",
        help="start the server so; {host} and {port} are filled in",
    )
    server.add_argument("--target", metavar="HOST:PORT", help="the server that runs there")


def make_folder(parser: argparse.ArgumentParser, folder: Path) -> None:
    """Complain of a folder that can't be before the work, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --report: can't make {str(folder)!r}: {error.strerror}")
    if not os.access(folder, os.W_OK | os.X_OK):
        parser.error(f"argument --report: can't write into {str(folder)!r}")


@contextlib.contextmanager
def started(
    parser: argparse.ArgumentParser,
    command: str | None,
    address: str | None,
    scale: float = 1.0,
    otherwise: Callable[[str], None] = lambda _: None,
) -> Iterator[Target]:
    """The target that the arguments name, until it is stopped; `scale`: of the time to start.

    Ends the program with one line where there is none: 2, or 3 where it does not start, and
    `otherwise` was told why.
    """
    from harness.errors import CannotJudge, StartError
    from harness.target.target import make_target

    try:
        target = make_target(command, address, scale)
    except ValueError as error:
        parser.error(str(error))
    with defer_signals():
        try:
            target.start()
            with allow_signals():
                yield target
        except StartError as error:
            why = f"the target did not start: {error}"
            otherwise(why)
            parser.exit(3, f"{parser.prog}: {why}\n")
        finally:
            try:
                target.stop()
            except CannotJudge as error:  # said, and no more: what was found out stands
                print(f"{parser.prog}: {error}", file=sys.stderr)
