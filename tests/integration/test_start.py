"""Failures at the start: one line on standard error, an exit code, and no process or file left."""

from pathlib import Path

import pytest

from tests.integration.rooms import ERROR_LINE, command, room, started
from tests.system.ports import free_port

# --- wrong arguments -----------------------------------------------------------------------------

WRONG = [
    ([], "HOST"),
    (["127.0.0.1"], "PORT"),
    (["127.0.0.1", "ftp"], "PORT"),
    (["127.0.0.1", "65536"], "PORT"),
    (["127.0.0.1", "0", "more"], "more"),
    (["--unknown", "2", "127.0.0.1", "0"], "--unknown"),
    (["--workers", "0", "127.0.0.1", "0"], "--workers"),
    (["--workers", "two", "127.0.0.1", "0"], "--workers"),
    (["--max-line", "8X", "127.0.0.1", "0"], "--max-line"),
    (["--log-size", "1M", "127.0.0.1", "0"], "--log-size"),
    (["--flush-after", "nan", "127.0.0.1", "0"], "--flush-after"),
    (["--welcome", "two\nlines", "127.0.0.1", "0"], "--welcome"),
]


@pytest.mark.sample(1)
@pytest.mark.parametrize(("arguments", "named"), WRONG)
def test_invalid_arguments_are_named_in_one_line(arguments: list[str], named: str) -> None:
    """The exit code is 2."""
    with started([*command()[:3], *arguments], logs=ERROR_LINE) as here:
        here.expect_error(2, named)


# --- addresses -----------------------------------------------------------------------------------


def test_a_port_in_use_is_an_error() -> None:
    """The error names the port. The room that uses the port continues."""
    with room("--workers", 1) as there:
        client, other = there.join_all(["127.0.0.2", "127.0.0.3"])
        with started(command(port=there.port), logs=ERROR_LINE) as here:
            here.expect_error(1, f"127.0.0.1:{there.port}", "in use")
        client.send("mine\n")
        other.expect("<127.0.0.2>mine\n")


def test_the_error_comes_after_the_logged_warnings() -> None:
    with room("--workers", 1) as there:
        arguments = command("--workers", 1, port=there.port)
        with started(arguments, setup="ulimit -n 200", logs=f"{ERROR_LINE}|level=warning") as here:
            assert here.read_rest() == b""
            here.expect_exit(1)
            warning, error = here.errors.splitlines()
            assert "descriptors" in warning
            assert error.endswith("in use")


def test_an_unread_error_does_not_delay_the_end(full_pipe: Path) -> None:
    """Nobody reads the room's standard error, but the room ends."""
    with room("--workers", 1) as there:
        arguments = command("--workers", 1, port=there.port)
        with started(arguments, setup=f"exec 2<>'{full_pipe}'") as here:
            here.expect_exit(1)


@pytest.mark.sample(1)
@pytest.mark.parametrize("host", ["x" * 64, "fe80::1%nowhere", "", "two words\n"])
def test_a_host_that_does_not_resolve_is_an_error(host: str) -> None:
    """These names are resolved without a name server."""
    with started(command(host=host), logs=ERROR_LINE) as here:
        here.expect_error(1, repr(host))


# Drop the capability from the bounding set too, so that root also loses it.
WITHOUT_PRIVILEGE = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE = 24, 10
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_port_that_is_not_permitted_is_an_error() -> None:
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    if int(first) <= 1:
        pytest.skip("every user may use any port here")
    arguments = command(port=1)
    with started([arguments[0], "-c", WITHOUT_PRIVILEGE, *arguments], logs=ERROR_LINE) as here:
        here.expect_error(
            1, "127.0.0.1:1", "ermission denied; a port below 1024 needs a privilege: "
        )


def test_an_address_that_is_given_twice() -> None:
    port = free_port()
    at = f"127.0.0.1:{port}"
    for option in ("--listen", "--metrics"):
        with started(command("--workers", 1, option, at, port=port), logs=ERROR_LINE) as here:
            here.expect_error(
                1, f"can't listen on {at}: Address already in use by this room, at {at}: "
            )


# --- resources -----------------------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.parametrize("size", ["200000G", "8000000000G", "90000000000000000000"])
def test_a_log_that_is_too_large_for_memory_is_an_error(size: str) -> None:
    with started(command("--log-size", size), logs=ERROR_LINE) as here:
        here.expect_error(1, "memory")


def test_too_few_descriptors_are_an_error() -> None:
    with started(command("--workers", 1), setup="ulimit -n 20", logs=ERROR_LINE) as here:
        here.expect_error(1, "descriptors")


def test_a_console_that_cannot_start_its_thread_is_an_error(tmp_path: Path) -> None:
    """This happens, for example, with too little address space (`ulimit -v`)."""
    (tmp_path / "sitecustomize.py").write_text(
        """
import threading
def broken(_): raise RuntimeError("can't start new thread")
threading.Thread.start = broken
"""
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    with started(command("--workers", 1), environment=environment, logs=ERROR_LINE) as here:
        here.expect_error(1, "can't start new thread")


# Code that each child process runs first. The registry maps no memory, so only workers fail.
BROKEN = {
    "OSError: [Errno 12] Cannot allocate memory": """
def broken(*_): raise OSError(12, "Cannot allocate memory")
""",
    "ended with exit code 3": """
def broken(*_): os._exit(3)
""",
    "ended with exit code -9": """
def broken(*_): os.kill(os.getpid(), 9)
""",
    "MemoryError": """
def broken(*_): raise MemoryError
""",
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("reason", BROKEN)
def test_a_worker_that_cannot_start_ends_the_room(reason: str, tmp_path: Path) -> None:
    """The room ends with the worker's error, and does not start the worker again."""
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import mmap, os, sys
{BROKEN[reason]}
if sys.argv[0] == "-c":  # in a child
    mmap.mmap = broken
"""
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    with started(command("--workers", 2), environment=environment, logs=ERROR_LINE) as here:
        here.expect_error(1, "worker ", "can't start: ", reason)


def test_a_registry_that_cannot_start_ends_the_room(tmp_path: Path) -> None:
    """The room also ends with an error."""
    (tmp_path / "sitecustomize.py").write_text(
        """
import os, sys
from multiprocessing.managers import BaseManager
if sys.argv[0] == "-c":  # in a child
    BaseManager.get_server = lambda self: os._exit(3)
"""
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    with started(command("--workers", 1), environment=environment, logs=ERROR_LINE) as here:
        here.expect_error(1, "registry")
