"""Fixtures for resources that a machine may lack."""

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def ipv6() -> None:
    """Skip the test on a machine without the IPv6 address ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")


@pytest.fixture
def full_pipe(tmp_path: Path) -> Iterator[Path]:
    """Yield a full named pipe that no process reads. In a shell, `2<>` opens the pipe."""
    path = tmp_path / "full pipe"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    for size in (1 << 16, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(end, bytes(size))
    yield path
    os.close(end)


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """Raise the limit of descriptors to its maximum, for the test and the rooms that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"at most {hard} descriptors on this machine")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
