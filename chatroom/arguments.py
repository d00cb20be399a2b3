"""Converters of arguments, and a parser with one-line errors, for all command lines.

A converter turns text into a value. It raises ValueError with a message that says what the text
must be, such as "a whole number, not 'x'". `argument_type` adapts a converter to argparse.
"""

import argparse
import io
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from chatroom.wording import shown

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
    # Five digits are enough for a port; `int` raises an error for thousands of digits.
    if text.isascii() and text.isdigit() and len(text) <= 5 and least <= int(text) <= 65535:
        return int(text)
    raise ValueError(f"a port number from {least} to 65535, not {shown(text)}")


def host_name(text: str, port: str = "") -> str:
    """Convert a host name or an address; an IPv6 address may be in brackets, as in URLs.

    `port`: the next argument, or "". Raises ValueError if the text ends with a port. The last part
    of an IPv6 address counts as a port only if it equals `port`.
    """
    if text.startswith("[") and text.endswith("]"):
        return text[1:-1]
    host, colon, end = text.rpartition(":")
    bare = host.strip("[]")
    ends = end.isascii() and end.isdigit()
    if colon and ends and (":" not in host or host != bare or (end == port and _is_ipv6(host))):
        either = f", or write [{text}] if it is an address" if _is_ipv6(text) else ""
        demand = f"a name or an address, not {shown(text)}: put a space before the port"
        raise ValueError(f"{demand}, as in {bare} {end}{either}")
    return text


def _is_ipv6(text: str) -> bool:
    from ipaddress import IPv6Address  # here, because it is rarely needed

    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def path(text: str) -> Path:
    """Convert a path. Empty text is an error: Path("") would be the current folder."""
    if not text or "\0" in text:
        raise ValueError(f"a path, not {shown(text)}")
    return Path(text)


def nearest(name: str, known: Iterable[str], alike: float = 0.6) -> str:
    """Return the most similar known name; empty if none is similar enough.

    `alike`: minimum similarity (difflib's ratio, from 0 to 1).
    """
    import difflib  # here, because it is rarely needed

    return next(iter(difflib.get_close_matches(name, [*known], 1, alike)), "")


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
    is not in its encoding as an escape (\\u2026), as standard error does. If there is an unknown
    option, the parser reports this instead of any other error, because the value of the option is
    parsed as a positional argument and may cause another error.
    """

    _words: Sequence[str] = ()
    """Arguments that are being parsed; `error` searches them for an unknown option."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        self._words = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        known = self._option_string_actions
        for word in itertools.takewhile("--".__ne__, self._words):
            name = word.partition("=")[0]
            # As in argparse, text with a blank is not an option.
            if re.fullmatch(r"--?[A-Za-z][^ ]*", word) and name not in known:
                near = nearest(name.lstrip("-"), (option.lstrip("-") for option in known))
                message = f"unknown option {shown(name)[1:-1]}"
                message += f"; did you mean --{near}?" if near else ""
                break
        line = " ".join(message.splitlines())  # the message may quote an argument with line ends
        self.exit(2, f"{self.prog}: {line} (--help shows the usage)\n")
