"""Converters of arguments, and a parser with one-line errors, for all command lines.

A converter turns text into a value, or raises ValueError with what the text must be, such as
"a whole number, not 'x'". `argument_type` adapts it to argparse.
"""

import argparse
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


def integer(text: str) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    raise ValueError(f"a whole number, not {shown(text)}")


def seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"seconds, such as 0.5, not {shown(text)}") from None


def port_number(text: str, least: int) -> int:
    """Convert a port from `least` to 65535."""
    # Five digits are enough; `int` fails at thousands.
    if text.isascii() and text.isdigit() and len(text) <= 5 and least <= int(text) <= 65535:
        return int(text)
    raise ValueError(f"a port number from {least} to 65535, not {shown(text)}")


def path(text: str) -> Path:
    """Convert a path that is not empty: Path("") would be the current folder."""
    if not text or "\0" in text:
        raise ValueError(f"a path, not {shown(text)}")
    return Path(text)


def shown(text: str) -> str:
    """Return a text quoted for an error, shortened to 60 characters."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def argument_type(convert: Callable[[str], T]) -> Callable[[str], T]:
    """Return a converter as a `type` for argparse."""

    def converted(text: str) -> T:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be {error}") from None

    return converted


class Parser(argparse.ArgumentParser):
    """A parser that prints an error in one line and exits with code 2.

    Every command parses its arguments first. From then on, standard output writes a character that
    its encoding lacks as an escape (\\u2026), as standard error does.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.splitlines())  # the message may quote an argument with line ends
        self.exit(2, f"{self.prog}: {line} (--help shows the usage)\n")
