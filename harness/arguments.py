"""What several commands have in common: types of arguments, and the target that they name."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # The extra is not there where only `bench` is wanted.
    from harness.target import Target


def whole(lowest: int) -> Callable[[str], int]:
    """A type for `add_argument`: a whole number, `lowest` or more."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"has to be {lowest} or more, not {text!r}")
        return int(text)

    return parse


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
    from harness.errors import StartError
    from harness.target import make_target

    try:
        target = make_target(command, address, scale)
    except ValueError as error:
        parser.error(str(error))
    try:
        target.start()
        yield target
    except StartError as error:
        why = f"the target did not start: {error}"
        otherwise(why)
        parser.exit(3, f"{parser.prog}: {why}\n")
    finally:
        target.stop()
