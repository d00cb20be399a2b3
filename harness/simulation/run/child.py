"""The child processes of a run. Each runs one module of the harness.

A child reads its job, a pickled object, from standard input. It ends at EOF on standard input.
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
    """Start a module as a child process. Raise CannotJudge if this fails.

    `name`: name of the child in error messages. Signals of the terminal, such as Ctrl-C, do not
    reach the child, so the caller must end the child after an interrupt.
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
    with contextlib.suppress(BrokenPipeError):  # the child has ended; the caller checks its status
        pickle.dump(what, child.stdin)
        child.stdin.flush()


def end(children: Sequence[Child], limit: float) -> None:
    """Close the standard input of all children. Kill each child that still runs after `limit` s."""
    for child in children:
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    deadline = time.monotonic() + limit
    for child in children:
        if status_within(child, deadline - time.monotonic()) is None:
            child.kill()
            child.wait()
