"""What the command lines of this package have in common."""

import argparse
from collections.abc import Callable
from typing import NoReturn, TypeVar

T = TypeVar("T")


def port_number(text: str, least: int) -> int:
    """A port from `least` to 65535. Raises ValueError, with what it has to be."""
    # Five digits are enough, and thousands are more than `int` takes.
    if text.isascii() and text.isdigit() and len(text) <= 5 and least <= int(text) <= 65535:
        return int(text)
    raise ValueError(f"a port is a number from {least} to 65535, not {text!r}")


def port(text: str, least: int) -> int:
    """As `port_number`, for argparse. Raises argparse.ArgumentTypeError."""
    try:
        return port_number(text, least)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def whole(text: str) -> int:
    """Raises argparse.ArgumentTypeError."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None


def seconds(text: str) -> float:
    """Raises argparse.ArgumentTypeError."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be seconds, such as 0.5, not {text!r}") from None


def demanding(convert: Callable[[str], T]) -> Callable[[str], T]:
    """`convert`, which says by a ValueError what it has to be, for argparse."""

    def converted(text: str) -> T:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be {error}") from None

    return converted


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with an argument, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.splitlines())  # an argument may hold more than one
        self.exit(2, f"{self.prog}: {line} (--help shows the usage)\n")
