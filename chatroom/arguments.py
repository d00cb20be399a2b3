"""What the command lines of this package have in common."""

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

T = TypeVar("T")


def port_number(text: str, least: int) -> int:
    """A port from `least` to 65535. Raises ValueError, with what it has to be."""
    # Five digits are enough, and thousands are more than `int` takes.
    if text.isascii() and text.isdigit() and len(text) <= 5 and least <= int(text) <= 65535:
        return int(text)
    raise ValueError(f"a port, which is a number from {least} to 65535, not {shown(text)}")


def shown(text: str) -> str:
    """As it stands in an error."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def whole(text: str) -> int:
    """Raises argparse.ArgumentTypeError."""
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number, not {shown(text)}")


def seconds(text: str) -> float:
    """Raises argparse.ArgumentTypeError."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be seconds, such as 0.5, not {shown(text)}"
        ) from None


def argument_type(convert: Callable[[str], T]) -> Callable[[str], T]:
    """`convert`, which says by a ValueError what it has to be, for argparse."""

    def converted(text: str) -> T:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be {error}") from None

    return converted


def port(text: str, least: int) -> int:
    """As `port_number`. Raises argparse.ArgumentTypeError."""
    return argument_type(partial(port_number, least=least))(text)


def path(text: str) -> Path:
    """Raises argparse.ArgumentTypeError; an empty one would be this folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"must be a path, not {shown(text)}")
    return Path(text)


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with an argument, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.splitlines())  # an argument may hold more than one
        self.exit(2, f"{self.prog}: {line} (--help shows the usage)\n")
