"""Write to standard output and standard error, even if the terminal or the pipe was closed."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def discard(*streams: TextIO) -> None:
    """Redirect these streams to the null device, so that writing their buffers at exit raises no
    exception."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())


def say(text: str) -> None:
    """Print a line on standard error; if this fails, discard all further output."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stdout, sys.stderr)
