"""The child processes of a run: each runs one module of ours.

A child reads its job from standard input, pickled, and ends when that input does.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from harness.errors import CannotJudge
from harness.target.processes import status_within

ROOT = Path(__file__).resolve().parents[3]
"""Folder of the harness, so that a child finds it wherever we were started."""

Child = subprocess.Popen[bytes]


def spawn(module: str, name: str, stderr: int | None = None) -> Child:
    """Start a module as a child, which `name` calls in errors. Raises CannotJudge.

    An interrupt does not reach it: to pass that on is for the caller.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
    except OSError as error:
        raise CannotJudge(f"{name} can't be started: {error.strerror}") from None


def send(child: Child, what: object) -> None:
    """Pickle something to its standard input."""
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # its end tells
        pickle.dump(what, child.stdin)
        child.stdin.flush()


def end(children: Sequence[Child], limit: float) -> None:
    """End the standard input of all, and kill those that run for `limit` seconds more."""
    for child in children:
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    deadline = time.monotonic() + limit
    for child in children:
        if status_within(child, deadline - time.monotonic()) is None:
            child.kill()
            child.wait()
