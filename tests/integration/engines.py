"""NATS servers with JetStream, for rooms in a cluster.

with engine(tmp_path) as nats, node(nats) as here, node(nats) as there:
    ...
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from chatroom.sidecars.cluster.bridge import DISCONNECTED_NOTICE, RECONNECTED_NOTICE
from tests.integration.rooms import NEVER_SILENT, UNLIMITED, Room, room
from tests.integration.waiting import until
from tests.programs import program

#: Options of a room in a cluster: a small log, which wraps, and no rate limits.
SMALL = ("--quiet", "--log-size", "4M", "--max-lag", "1M", *UNLIMITED, *NEVER_SILENT)

#: Lines that members receive when the engine is out of reach, and when it is in reach again.
NOTICES = (f"<room>{DISCONNECTED_NOTICE}\n".encode(), f"<room>{RECONNECTED_NOTICE}\n".encode())

#: Pattern of the log lines about a killed bridge. On a busy machine, the next bridge may start so
#: late that the room reports an engine out of reach.
BRIDGE_DIED = r" level=warning event=(bridge-died|cluster-down) "

#: Pattern of the log lines about an engine that the room can't reach.
ENGINE_DOWN = r" level=warning event=cluster-down "


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _is_stopped(pid: int) -> bool:
    states = [
        (task / "stat").read_text().rpartition(")")[2].split()[0]
        for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return {*states} == {"T"}


class Engine:
    """The NATS servers of one cluster. Each server has a number."""

    def __init__(
        self, folder: Path, servers: int = 1, jetstream: bool = True, settings: str = ""
    ) -> None:
        """`settings`: further lines of the servers' configuration."""
        self._settings = settings
        self._folder = folder
        self._program = program("nats-server")
        self._jetstream = jetstream
        ports = free_ports(2 * servers)
        self.ports, self._routes = ports[:servers], ports[servers:]
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * servers

    def url(self, name: str = "room") -> str:
        """Return the URL with which a room joins the cluster."""
        servers = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"nats://{servers}/{name}"

    def start(self, number: int = 0) -> None:
        """Start a server, and wait until it listens."""
        at = self._folder / f"nats-{number}"
        config = [f"server_name: n{number}", f"listen: 127.0.0.1:{self.ports[number]}"]
        config.append(self._settings)
        if self._jetstream:
            config.append(f'jetstream: {{store_dir: "{at}"}}')
        if len(self.ports) > 1:
            routes = ", ".join(f"nats://127.0.0.1:{port}" for port in self._routes)
            listen = f"listen: 127.0.0.1:{self._routes[number]}"
            config.append(f"cluster: {{name: c, {listen}, routes: [{routes}]}}")
        file = self._folder / f"nats-{number}.conf"
        file.write_text("\n".join(config) + "\n")
        with (self._folder / f"nats-{number}.log").open("ab") as log:
            self.processes[number] = subprocess.Popen(
                [self._program, "-c", str(file)], stdin=subprocess.DEVNULL, stderr=log
            )

        def listens() -> bool:
            with contextlib.suppress(OSError), self._connect(number) as connection:
                return connection.recv(4) == b"INFO"
            return False

        until(listens, "the engine listens")

    def _connect(self, number: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[number]), timeout=1.0)

    def ask(self, subject: str, request: object) -> dict[str, object]:
        """Send a request to JetStream's API; return the answer."""
        data = json.dumps(request).encode()
        with self._connect(0) as connection, connection.makefile("rb") as file:
            file.readline()
            connection.sendall(
                b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n'
                + b"PUB $JS.API.%s answer %d\r\n%s\r\n" % (subject.encode(), len(data), data)
            )
            while not (head := file.readline()).startswith(b"MSG"):
                assert head
            answer: dict[str, object] = json.loads(file.read(int(head.split()[-1])))
        return answer

    def limit(self, messages: int) -> None:
        """Limit the stream of the room `room` to this number of publications."""
        info = self.ask("STREAM.INFO.CHATROOM_room", {})
        assert isinstance(info["config"], dict)
        answer = self.ask("STREAM.UPDATE.CHATROOM_room", info["config"] | {"max_msgs": messages})
        assert "error" not in answer, answer

    def leader(self) -> int:
        """Return the number of the server that leads the stream of the room `room`."""

        def find() -> str:
            cluster = self.ask("STREAM.INFO.CHATROOM_room", {}).get("cluster")
            return str(cluster["leader"]) if isinstance(cluster, dict) else ""

        return int(until(find, "the stream has a leader").removeprefix("n"))

    def signal(self, number: signal.Signals, server: int = 0) -> None:
        """Send a signal to a server."""
        process = self.processes[server]
        assert process is not None
        os.kill(process.pid, number)
        if number is signal.SIGSTOP:
            until(lambda: _is_stopped(process.pid), "all threads of the engine are stopped")

    def copy(self, name: str) -> None:
        """Copy the data folder of a killed engine."""
        shutil.copytree(self._folder / "nats-0", self._folder / name)

    def restore(self, name: str) -> None:
        """Replace the data folder of a killed engine with a copy. Newer data is lost, as after a
        power failure."""
        shutil.rmtree(self._folder / "nats-0")
        shutil.copytree(self._folder / name, self._folder / "nats-0")

    def kill(self, number: int = 0) -> None:
        """Kill a server (SIGKILL)."""
        process, self.processes[number] = self.processes[number], None
        assert process is not None
        process.kill()
        process.wait()

    def end(self) -> None:
        for number, process in enumerate(self.processes):
            if process is not None:
                self.kill(number)


@contextlib.contextmanager
def engine(
    folder: Path, servers: int = 1, jetstream: bool = True, settings: str = ""
) -> Iterator[Engine]:
    """Yield running servers, and kill them at the end of the block."""
    here = Engine(folder, servers, jetstream, settings)
    try:
        for number in range(servers):
            here.start(number)
        yield here
    finally:
        here.end()


@contextlib.contextmanager
def node(
    nats: Engine, *options: object, name: str = "room", logs: str = "", port: int = 0
) -> Iterator[Room]:
    """Yield a room of the cluster. Its options are SMALL, and then `options`. `port` replaces the
    engine's own port, for a test that forwards connections."""
    url = f"nats://127.0.0.1:{port}/{name}" if port else nats.url(name)
    with room("--workers", 2, *SMALL, "--cluster", url, *options, logs=logs) as here:
        yield here
