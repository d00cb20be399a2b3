"""Standard output in an encoding that lacks characters."""

import io
import sys


def escape_output() -> None:
    r"""Let standard output write such a character as \u2026, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def print_file(text: str) -> None:
    """Print the text of a file. It is UTF-8 in any environment, unless it goes to a terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")
    print(text, end="")
