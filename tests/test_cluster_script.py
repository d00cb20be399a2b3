"""scripts/cluster, which runs engines and nodes on loopback addresses."""

import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.target.processes import free_port
from tests.integration.clients import Client
from tests.integration.waiting import until
from tests.programs import program

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts/cluster"


class Cluster:
    """A running scripts/cluster, and its output so far."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, SCRIPT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # The run-dir and the engine's files are made here.
            env={**os.environ, "TMPDIR": str(folder), "XDG_RUNTIME_DIR": ""},
        )
        self.output = ""

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read output until it contains a pattern; return the match."""
        assert self._process.stdout is not None
        while not (found := re.search(pattern, self.output)):
            line = self._process.stdout.readline()
            assert line, f"the script ended: {self.output}"
            self.output += line
        return found

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, if one is given, and wait for the end; return the exit status."""
        if number is not None:
            self._process.send_signal(number)
        self.output += self._process.communicate()[0]
        return self._process.returncode

    def kill(self) -> None:
        """End the script if it still runs, because the test has failed."""
        if self._process.poll() is None:
            self.end(signal.SIGTERM)


@pytest.fixture(name="folder")
def fixture_folder() -> Iterator[Path]:
    """Return an empty folder with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="cl-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("engines", [1, pytest.param(3, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_two_nodes_are_one_room_and_one_signal_ends_everything(
    folder: Path, engines: int, end: signal.Signals
) -> None:
    """A killed engine is started again. A killed node is not."""
    program("nats-server")
    (folder / "chatroom-cluster-1").mkdir()  # what a killed script leaves
    port = free_port("127.0.0.2")
    cluster = Cluster(folder, "2", "--engines", str(engines), "--port", str(port))
    try:
        cluster.read_until("Ctrl-C ends everything")
        assert f"nc 127.0.0.1 {port} " in cluster.output
        processes = cluster.processes()
        with (
            Client("127.0.0.1", port, "127.0.0.8") as alice,
            Client("127.0.0.2", port, "127.0.0.9") as bob,
        ):
            alice.expect("Welcome to socket practice\n")
            bob.expect("Welcome to socket practice\n")
            alice.send("one\n")
            bob.expect("<127.0.0.8>one\n")
            engine = int(cluster.read_until(r"kill -9 (\d+) +# engine1")[1])
            os.kill(engine, signal.SIGKILL)
            cluster.read_until(r"engine1 has ended \(SIGKILL\); it is started again")
            alice.send("two\n")
            bob.receive_until("<127.0.0.8>two\n")  # perhaps after a notice
            processes += cluster.processes()
            node = int(cluster.read_until(r"kill -9 (\d+) +# node 127\.0\.0\.2")[1])
            os.kill(node, signal.SIGKILL)
            cluster.read_until(r"127\.0\.0\.2:\d+ has ended \(SIGKILL\)\n")
        assert cluster.end(end) == 0
        until(
            lambda: not any(map(psutil.Process.is_running, processes)), "all processes have ended"
        )
        assert [*folder.rglob("*")] == []
    finally:
        cluster.kill()


def test_a_node_that_can_t_start_ends_the_cluster_with_its_reason(folder: Path) -> None:
    program("nats-server")
    cluster = Cluster(folder, "1", "--port", str(free_port()), "--", "--max-clients", "many")
    try:
        cluster.read_until(r"argument --max-clients: ")
        cluster.read_until(r"scripts/cluster: 127\.0\.0\.1:\d+ has ended \(exit status 2\)\n")
        assert cluster.end() == 1
        assert [*folder.rglob("*")] == []
    finally:
        cluster.kill()


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("nats-server", "apt-get install nats-server, or with pip install '.[cluster-test]'"),
        ("nats-py", "pip install '.[cluster]'"),
    ],
)
def test_one_line_says_what_to_install(
    missing: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = None if missing == "nats-server" else "/usr/sbin/nats-server"
    monkeypatch.setattr(shutil, "which", lambda *_, **__: found)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    line: Any = ended.value.code
    assert line.startswith(f"scripts/cluster: {missing} is not installed; install it with ")
    assert line.endswith(says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["10"], "NODES must be 1 to 9"),
        (["2", "--listen", "127.0.0.1:4000"], "without --listen"),
        (["--listen", "nowhere"], "argument --listen: must be HOST:PORT"),
        (["--engines", "2"], "argument --engines: invalid choice: 2"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], says: str) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert says in done.stderr
