"""Standard output in an encoding that lacks characters."""

import io
import sys


def escape_output() -> None:
    r"""Let standard output write such a character as \u2026, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
