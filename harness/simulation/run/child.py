"""The child processes of a run: each runs one module of the harness.

A child reads its job, pickled, from standard input, and ends at EOF.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence

from harness.errors import CannotJudge
from harness.target.processes import environment, status_within

Child = subprocess.Popen[bytes]


def spawn(module: str, name: str, stderr: int | None = None) -> Child:
    """Start a module as a child. `name`: its name in errors. Raise CannotJudge on failure.

    Signals of the terminal do not reach the child: the caller must end it after an interrupt.
    """
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise CannotJudge(f"{name} can't be started: {error.strerror}") from None


def send(child: Child, what: object) -> None:
    """Send a pickled object to the child's standard input."""
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the caller sees its exit status
        pickle.dump(what, child.stdin)
        child.stdin.flush()


def end(children: Sequence[Child], limit: float) -> None:
    """Close the standard input of all children; kill those that still run after `limit` seconds."""
    for child in children:
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    deadline = time.monotonic() + limit
    for child in children:
        if status_within(child, deadline - time.monotonic()) is None:
            child.kill()
            child.wait()
