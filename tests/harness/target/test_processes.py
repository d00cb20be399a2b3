"""The processes of a server: their start, their output, their costs and their end."""

import os
import re
import resource
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.descriptors import raise_descriptor_limit
from harness.target import processes
from harness.target.processes import (
    KEPT_OUTPUT,
    NotReadyError,
    Server,
    family,
    processor_times,
    weight,
)

READY = re.compile(rb"ready (\d+)\n")


def python(code: str, ready: re.Pattern[bytes] | None = READY) -> Server:
    return Server([sys.executable, "-c", f"import os, signal, sys, time\n{code}"], ready)


@contextmanager
def seen_to_end(pid: int) -> Iterator[None]:
    """Assert that a process ends within 10 s after the block. The process need not be a child."""
    descriptor = os.pidfd_open(pid)
    try:
        yield
        ended, _, _ = select.select([descriptor], [], [], 10)
        assert ended
    finally:
        os.close(descriptor)


def test_the_output_of_a_server_is_read_and_stop_ends_it() -> None:
    server = python("print('x' * 99999, 'ready 12', flush=True); signal.pause()")
    found = server.wait_ready(20)
    assert found
    assert found[1] == b"12"
    assert server.death(0) == ""
    assert server.ready_after is not None
    assert 0 < server.ready_after < server.age() < 20
    with seen_to_end(server.pid):
        server.stop()
    last = f"{'x' * (KEPT_OUTPUT - 10)} ready 12"
    assert server.death(0) == f"ended (SIGTERM); its last line: {last}"


def test_wait_ready_without_a_pattern_returns_at_once() -> None:
    server = python("signal.pause()", ready=None)
    try:
        assert server.wait_ready(20) is None
        assert server.ready_after is None
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("code", "limit", "complaint"),
    [
        (
            "print('no luck\\n'); sys.exit(3)",
            20,
            r"ended \(exit status 3\); its last line: no luck$",
        ),
        (
            "None.send(b'')",
            20,
            r"ended \(exit status 1\); its message: AttributeError: .* 'send'$",
        ),
        ("sys.exit(0)", 20, r"ended \(exit status 0\)$"),
        (
            "print('hm', flush=True); signal.pause()",
            0.3,
            "did not print that it is ready within 0.3 s",
        ),
        ("os.close(1); os.close(2); signal.pause()", 0.2, "closed its output"),
    ],
)
def test_a_server_that_does_not_become_ready_is_an_error(
    code: str, limit: float, complaint: str
) -> None:
    server = python(code)
    try:
        if "close" in code:
            server._reader.join(20)  # Python may need longer than `limit` to start
        with pytest.raises(NotReadyError, match=complaint):
            server.wait_ready(limit)
    finally:
        server.stop()


def test_a_server_that_ignores_sigterm_is_killed() -> None:
    server = python(
        "signal.signal(15, signal.SIG_IGN); print('ready 1', flush=True)\nsignal.pause()"
    )
    server.wait_ready(20)
    server.stop(limit=0.05)
    assert server.death(0).startswith("ended (SIGKILL)")


def test_children_are_found_and_measured_and_ended_with_their_parent() -> None:
    server = python(
        "reading, writing = os.pipe()\n"
        "if pid := os.fork():\n"
        "    os.read(reading, 1)\n"
        "    print('ready', pid, flush=True)\n"
        "    signal.pause()\n"
        "signal.signal(15, signal.SIG_IGN)\n"
        "memory = bytearray(b'x') * (30 << 20)\n"
        "os.write(writing, b'x')\n"
        "signal.pause()\n"
    )
    with ExitStack() as stack:
        stack.callback(server.stop, limit=0.05)
        ready = server.wait_ready(20)
        assert ready
        child = int(ready[1])
        assert family(server.pid) == [server.pid, child]
        assert child in family(os.getpid())
        alone = weight(child)
        together = weight(server.pid)
        assert alone
        assert together
        assert 30 << 20 < alone < together < 60 << 20
        with seen_to_end(child):
            server.stop(limit=0.05)


def test_the_output_stays_open_while_an_orphan_has_it_open() -> None:
    """If it was closed, the reader thread would read from the next file with its descriptor."""
    server = python(
        "if pid := os.fork():\n"
        "    print('ready', pid, flush=True)\n"
        "    signal.pause()\n"
        "os.setsid()\n"
        "signal.pause()\n"
    )
    ready = server.wait_ready(20)
    assert ready
    stdout = server._process.stdout
    assert stdout is not None
    with seen_to_end(int(ready[1])):
        server.stop(limit=0.05)
        assert server.death(0).startswith("ended (SIGTERM)")
        assert not stdout.closed
        os.kill(int(ready[1]), signal.SIGKILL)
    server._reader.join(20)
    server.stop()
    assert stdout.closed


def test_processes_that_end_during_the_count_are_skipped(tmp_path: Path) -> None:
    for pid, parent in ((10, 1), (11, 10), (12, 11), (20, 1)):
        (tmp_path / f"{pid}").mkdir()
        (tmp_path / f"{pid}" / "stat").write_text(f"{pid} (a ) b) S {parent} 0 0\n")
    (tmp_path / "13").mkdir()  # this process has ended
    (tmp_path / "version").touch()
    assert family(10, tmp_path) == [10, 11, 12]
    assert weight(10, tmp_path) is None  # there is no smaps_rollup
    rollup = "Rss: 9 kB\nPss: 8 kB\nPss_Anon:   5 kB\nPss_File:  1 kB\nPss_Shmem: 2 kB\n"
    (tmp_path / "10" / "smaps_rollup").write_text(rollup)
    (tmp_path / "12" / "smaps_rollup").write_text("Pss_Anon:  20 kB\n")
    assert weight(10, tmp_path) == 27 * 1024


def test_the_processor_time_of_all_threads_and_children_is_measured() -> None:
    server = python(
        "import threading\n"
        "def work(clock):\n"
        "    while time.clock_gettime(clock) < 0.2: pass\n"
        "reading, writing = os.pipe()\n"
        "if pid := os.fork():\n"
        "    thread = threading.Thread(target=work, args=[time.CLOCK_THREAD_CPUTIME_ID])\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    os.read(reading, 1)\n"
        "    print('ready', pid, flush=True)\n"
        "    signal.pause()\n"
        "work(time.CLOCK_PROCESS_CPUTIME_ID)\n"
        "os.write(writing, b'x')\n"
        "signal.pause()\n"
    )
    with ExitStack() as stack:
        stack.callback(server.stop)
        ready = server.wait_ready(20)
        assert ready
        found = processor_times(server.pid)
        assert [*found] == [server.pid, int(ready[1])]
        assert all(0.2 <= seconds < 2 for seconds in found.values())
        assert processor_times(server.pid)[server.pid] < found[server.pid] + 0.01, (
            "the process sleeps"
        )


def test_the_processor_time_of_an_ended_process_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = python("print('ready 1')")
    server.wait_ready(20)
    server.stop()
    monkeypatch.setattr(processes, "family", lambda root: [root, server.pid])
    assert [*processor_times(os.getpid())] == [os.getpid()]


def test_the_limit_of_descriptors_is_raised_to_the_maximum() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert raise_descriptor_limit() == limits[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limits[1], limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_signals_are_named() -> None:
    server = python("os.kill(os.getpid(), 6)")
    try:
        with pytest.raises(NotReadyError, match=signal.SIGABRT.name):
            server.wait_ready(20)
    finally:
        server.stop()
