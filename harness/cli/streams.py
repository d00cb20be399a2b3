"""Standard output and standard error after a terminal, or the reader of a pipe, has gone."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def discard(*streams: TextIO) -> None:
    """Discard the buffers of these streams, which would raise an error at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())


def say(text: str) -> None:
    """Print a line on standard error; if the terminal has gone, discard all output."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stdout, sys.stderr)
