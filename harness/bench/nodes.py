"""A cluster: an engine, and several nodes that are connected through it.

    python -m harness.bench.nodes NODES HOST:PORT ENGINE... -- NODE...

The program starts the command ENGINE, and waits until the engine listens at HOST:PORT. Then it
starts the command NODE as many times as NODES says. A node must print "listening on HOST:PORT".
When all nodes listen, the program prints their addresses in one line. When the program is
terminated, or one of the processes ends, it ends the nodes and then the engine.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from harness.bench.servers import find_program
from harness.target.listeners import listening
from harness.target.processes import STEP

ENGINE_WITHIN = 10.0
"""Seconds within which the engine must listen."""

ENDS_WITHIN = 2.0
"""Seconds after which a process that was terminated is killed."""

_LISTENS = re.compile(r"listening on (\S+:\d+)")


class Cluster:
    """The processes of a cluster."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        """Process of the engine, followed by those of the nodes."""

    def start_engine(self, port: int, command: Sequence[str]) -> None:
        """Start the engine, and wait until it listens. Its output is dropped."""
        engine = self._start(command, subprocess.DEVNULL)
        deadline = time.monotonic() + ENGINE_WITHIN
        while not listening(port):
            if engine.poll() is not None or time.monotonic() >= deadline:
                sys.exit(f"the engine does not listen: {' '.join(command)}")
            time.sleep(STEP)

    def start_nodes(self, count: int, command: Sequence[str]) -> list[str]:
        """Start the nodes at the same time; return their addresses."""
        nodes = [self._start(command, subprocess.PIPE) for _ in range(count)]
        return [self._address(node) for node in nodes]

    def _address(self, node: subprocess.Popen[str]) -> str:
        """Return the address that a node prints; copy the rest of its output to standard output."""
        assert node.stdout is not None
        printed = ""
        for line in node.stdout:
            if found := _LISTENS.search(line):
                output = node.stdout, sys.stdout
                threading.Thread(target=shutil.copyfileobj, args=output, daemon=True).start()
                return found[1]
            printed = line
        sys.exit(printed.strip() or "a node has ended")

    def _start(self, command: Sequence[str], output: int) -> subprocess.Popen[str]:
        program, *arguments = command
        process = subprocess.Popen(
            [find_program(program) or program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """End the nodes, then the engine: a node needs the engine until it has ended."""
        engine, nodes = self._processes[:1], self._processes[1:]
        for processes in (nodes, engine):
            for process in processes:
                process.terminate()
            for process in processes:
                try:
                    process.wait(ENDS_WITHIN)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def main(count: str, engine_at: str, *commands: str) -> None:
    separator = commands.index("--")
    engine, node = commands[:separator], commands[separator + 1 :]
    cluster = Cluster()
    # The handlers raise SystemExit, which ends `pause` below, and then the cluster.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        cluster.start_engine(int(engine_at.rpartition(":")[2]), engine)
        endpoints = cluster.start_nodes(int(count), node)
        print(f"listening on {', '.join(endpoints)}", flush=True)
        signal.signal(signal.SIGCHLD, lambda *_: sys.exit("a process of the cluster has ended"))
        signal.pause()
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        cluster.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
