"""The encoding of standard output, which may lack some characters of the texts."""

import io
import sys


def escape_output() -> None:
    r"""Write characters that standard output can't encode as escapes such as \u2026.

    Standard error always does this.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def print_file(text: str) -> None:
    """Print the text of a file; as UTF-8 in any locale, unless standard output is a terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")
    print(text, end="")
