"""The proxy process. Each test has a client socket and a server socket, and a proxy between them.

A test waits at most PATIENCE seconds for something that must happen. To check that something does
not happen, it watches for WINDOW seconds.
"""

import asyncio
import contextlib
import json
import os
import pickle
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psutil
import pytest

from harness.errors import CannotJudge
from harness.simulation.run import proxy as proxy_module
from harness.simulation.run.direction import Direction
from harness.simulation.run.gates import Gate, draw
from harness.simulation.run.proxy import MODULE, Proxy
from harness.simulation.scenario.scenario import Link, Range

PATIENCE = 20.0
WINDOW = 0.3
ADDRESS = "127.0.3.7"

#: Address at which no server listens.
NOBODY = ("127.0.0.1", 9)

#: A link whose fault would begin long after the end of the test.
FAITHFUL = Link("half-close", after=(1e6, 1e6))


def link_of(fault: str, bytes_per_second: float = 1024.0, **ranges: float | Range) -> Link:
    """Return a link. Instead of a range, a single number may be given."""
    pairs = {
        key: value if isinstance(value, tuple) else (value, value) for key, value in ranges.items()
    }
    return Link(fault, bytes_per_second=bytes_per_second, **pairs)


@dataclass
class Line:
    """A connection through a proxy: the proxy, and the sockets at both ends."""

    proxy: Proxy
    client: socket.socket
    server: socket.socket
    events: list[dict[str, Any]] = field(default_factory=list)

    def told(self, number: int = 1) -> dict[str, Any]:
        """Wait for event number `number` of the proxy, counted from 1, and return it."""
        deadline = time.monotonic() + PATIENCE
        while len(self.events) < number:
            assert time.monotonic() < deadline, self.events
            self.events += self.proxy.events()
            time.sleep(0.005)  # the proxy gives no signal for a new event
        return self.events[number - 1]


@contextlib.contextmanager
def listening(buffer: int = 0) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.settimeout(PATIENCE)
        if buffer:
            for which in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                listener.setsockopt(socket.SOL_SOCKET, which, buffer)
        yield listener


def connect(port: int, address: str = ADDRESS, buffer: int = 0) -> socket.socket:
    client = socket.socket()
    client.settimeout(PATIENCE)
    if buffer:
        for which in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            client.setsockopt(socket.SOL_SOCKET, which, buffer)
    try:
        client.bind((address, 0))
        client.connect(("127.0.0.1", port))
    except OSError:
        client.close()
        raise
    return client


def process_of_the_proxy() -> psutil.Process:
    """Return the only child process that is a proxy."""
    (found,) = (child for child in psutil.Process().children() if MODULE in child.cmdline())
    return found


@contextlib.contextmanager
def line(link: Link, buffer: int = 0) -> Iterator[Line]:
    """Connect a client by a link. buffer: size of the kernel's buffers, or 0 for the default."""
    with listening(buffer) as listener, Proxy([listener.getsockname()], 1, [link]) as proxy:
        client = connect(proxy.ports[0], buffer=buffer)
        with client, listener.accept()[0] as server:
            server.settimeout(PATIENCE)
            yield Line(proxy, client, server)
        assert proxy.death() == ""


def heard(connection: socket.socket, size: int) -> bytes:
    """Return `size` bytes, or fewer if the connection ends."""
    found = b""
    while len(found) < size and (data := connection.recv(size - len(found))):
        found += data
    return found


def hear_to_the_end(connection: socket.socket) -> None:
    """Read and discard everything until the connection ends."""
    while connection.recv(1 << 16):
        pass


def silent(connection: socket.socket) -> bool:
    """Return True if neither bytes nor the end arrive within WINDOW seconds."""
    return not select.select([connection], [], [], WINDOW)[0]


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def taken(connection: socket.socket, most: int = 64 << 20) -> int:
    """Send until the connection accepts no more bytes; return the number of bytes sent."""
    connection.setblocking(False)
    total = 0
    while total < most and select.select([], [connection], [], WINDOW)[1]:
        with contextlib.suppress(BlockingIOError):
            total += connection.send(bytes(1 << 14))
    connection.settimeout(PATIENCE)
    return total


# --- links without a fault -----------------------------------------------------------------------


def test_the_server_sees_the_client_s_address() -> None:
    with listening() as listener, Proxy([listener.getsockname()], 1, [FAITHFUL, FAITHFUL]) as proxy:
        assert len(set(proxy.ports)) == 2
        for port in proxy.ports:
            for address in ("127.0.3.7", "127.9.8.7"):
                with connect(port, address) as client, listener.accept()[0] as server:
                    assert server.getpeername()[0] == address
                    server.sendall(b"hi")
                    assert heard(client, 2) == b"hi"
        assert proxy.events() == []


@pytest.mark.parametrize("link", [FAITHFUL, link_of("delay", held=0)])
def test_all_bytes_are_carried_both_ways(link: Link) -> None:
    said = os.urandom(3 << 20)
    with line(link) as wire:
        for speaker, listener in ((wire.client, wire.server), (wire.server, wire.client)):
            speaking = threading.Thread(target=speaker.sendall, args=[said])
            speaking.start()
            assert heard(listener, len(said)) == said
            speaking.join()


@pytest.mark.parametrize(
    "link", [FAITHFUL, link_of("drip", pause=0.001), link_of("delay", held=0.02)]
)
def test_a_client_that_half_closes_still_receives(link: Link) -> None:
    with line(link) as wire:
        wire.client.sendall(b"bye")
        wire.client.shutdown(socket.SHUT_WR)
        assert heard(wire.server, 99) == b"bye"
        assert silent(wire.client)
        wire.server.sendall(b"so long")
        wire.server.close()
        assert heard(wire.client, 99) == b"so long"


def test_a_server_that_half_closes_still_receives() -> None:
    with line(FAITHFUL) as wire:
        wire.server.sendall(b"full")
        wire.server.shutdown(socket.SHUT_WR)
        assert heard(wire.client, 99) == b"full"
        wire.client.sendall(b"why")
        wire.client.close()
        assert heard(wire.server, 99) == b"why"


@pytest.mark.parametrize("speaker", ["client", "server"])
def test_a_reset_is_passed_on_after_the_bytes_before_it(speaker: str) -> None:
    with line(FAITHFUL) as wire:
        wire.server.sendall(b"hi")  # shows that the proxy has connected both ends
        assert heard(wire.client, 2) == b"hi"
        speaks, hears = wire.client, wire.server
        if speaker == "server":
            speaks, hears = hears, speaks
        speaks.sendall(b"last")
        assert heard(hears, 4) == b"last"
        reset(speaks)
        with pytest.raises(ConnectionResetError):
            hears.recv(99)


def test_a_reset_is_passed_on_while_the_other_side_speaks() -> None:
    with line(FAITHFUL) as wire:
        wire.server.sendall(bytes(1 << 16))
        assert heard(wire.client, 1 << 16)
        reset(wire.client)
        with pytest.raises(ConnectionError):
            wire.server.sendall(bytes(64 << 20))


def test_a_sender_must_wait_if_the_other_side_does_not_read() -> None:
    """There are four kernel buffers on the path, each of twice the requested size."""
    with line(FAITHFUL, buffer=1 << 16) as wire:
        for speaker, listener in ((wire.server, wire.client), (wire.client, wire.server)):
            total = taken(speaker)
            assert (1 << 16) < total < (1 << 20)
            assert heard(listener, total) == bytes(total)
            speaker.sendall(b"on")
            assert heard(listener, 2) == b"on"


def test_a_refusal_of_the_target_resets_the_client() -> None:
    with socket.socket() as taken_port:
        taken_port.bind(("127.0.0.1", 0))
        with Proxy([taken_port.getsockname()], 1, [FAITHFUL]) as proxy:
            for _ in range(3):
                with pytest.raises(ConnectionResetError), connect(proxy.ports[0]) as client:
                    client.recv(1)


def test_a_proxy_carries_300_connections() -> None:
    links: list[Link] = [FAITHFUL, link_of("delay"), link_of("slow")]
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening())
        proxy = stack.enter_context(Proxy([listener.getsockname()], 1, links))
        clients = [
            stack.enter_context(connect(proxy.ports[number % 3], f"127.0.4.{number % 250 + 1}"))
            for number in range(300)
        ]
        servers = [stack.enter_context(listener.accept()[0]) for _ in clients]
        for number, client in enumerate(clients):
            client.sendall(b"%3d" % number)
        for server in servers:
            server.settimeout(PATIENCE)
            number = int(heard(server, 3))
            assert server.getpeername()[0] == f"127.0.4.{number % 250 + 1}"
            server.sendall(b"%3d" % number)
        for number, client in enumerate(clients):
            assert heard(client, 3) == b"%3d" % number


# --- faults --------------------------------------------------------------------------------------


def test_the_proxy_reports_when_a_fault_begins_and_ends() -> None:
    began = time.monotonic()
    with line(link_of("stall", after=0.1, seconds=(0.1, 0.2))) as wire:
        begins, ends = wire.told(1), wire.told(2)
        port = wire.client.getsockname()[1]
        common = {"address": ADDRESS, "port": port, "fault": "stall"}
        assert begins == {**common, "t": begins["t"], "what": "begins"}
        assert ends == {**common, "t": ends["t"], "what": "ends"}
        assert began + 0.1 <= begins["t"] <= ends["t"] - 0.1 < time.monotonic()


def test_a_late_report_has_the_times_of_the_fault() -> None:
    with line(link_of("stall", after=0.2, seconds=0.1)) as wire:
        process = process_of_the_proxy()
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)  # longer than the fault
        goes_on = time.monotonic()
        process.send_signal(signal.SIGCONT)
        begins, ends = wire.told(1), wire.told(2)
        assert ends["t"] < goes_on
        assert ends["t"] == pytest.approx(begins["t"] + 0.1)


def test_no_fault_ends_before_it_begins() -> None:
    with line(link_of("half-close", seconds=0)) as wire:
        assert wire.told(1)["t"] <= wire.told(2)["t"]


def test_a_fault_ends_with_its_connection() -> None:
    with line(link_of("slow")) as wire:
        assert wire.told()["what"] == "begins"
        wire.client.close()
        wire.server.close()
        assert wire.told(2)["what"] == "ends"


def test_a_fault_that_never_began_is_not_reported() -> None:
    with line(link_of("slow", after=100)) as wire:
        wire.server.sendall(bytes(1 << 16))  # would take 64 s at the slow rate
        assert len(heard(wire.client, 1 << 16)) == 1 << 16
    assert wire.proxy.events() == []


def test_a_connection_that_has_ended_has_no_fault() -> None:
    link = link_of("reset", after=0.5)
    with listening() as listener, Proxy([listener.getsockname()], 1, [link]) as proxy:
        connect(proxy.ports[0]).close()
        with listener.accept()[0] as server:
            assert server.recv(99) == b""
        with connect(proxy.ports[0]) as client, listener.accept()[0] as server:
            port = client.getsockname()[1]
            assert Line(proxy, client, server).told()["port"] == port


def test_each_connection_has_its_own_course() -> None:
    link = link_of("cut-off", after=(0, 2 * PATIENCE))

    def after(seed: int, connection: int) -> float:
        return draw(link, 0.0, seed, 1, connection).begins

    seed = next(seed for seed in count() if after(seed, 0) > PATIENCE and after(seed, 1) < 0.2)
    with (
        listening() as listener,
        Proxy([listener.getsockname()], seed, [FAITHFUL, link]) as proxy,
        connect(proxy.ports[1]) as first,
        listener.accept()[0],
        connect(proxy.ports[1]) as second,
        listener.accept()[0],
    ):
        assert second.recv(99) == b""
        assert silent(first)


def test_a_stall_delays_what_the_server_sends() -> None:
    with line(link_of("stall", seconds=0.5)) as wire:
        begins = wire.told()
        wire.server.sendall(b"hello")
        wire.client.sendall(b"anybody?")
        assert heard(wire.server, 8) == b"anybody?"
        assert heard(wire.client, 5) == b"hello"
        assert time.monotonic() >= begins["t"] + 0.5
        assert wire.told(2)["what"] == "ends"
        wire.server.sendall(b"on")
        assert heard(wire.client, 2) == b"on"


def test_a_stall_makes_the_server_wait() -> None:
    with line(link_of("stall"), buffer=1 << 13) as wire:
        wire.told()
        assert taken(wire.server) < 1 << 16
        assert silent(wire.client)


def test_a_slow_link_keeps_its_rate() -> None:
    with line(link_of("slow", bytes_per_second=20000)) as wire:
        begins = wire.told()
        wire.server.sendall(bytes(10000))
        wire.server.shutdown(socket.SHUT_WR)
        assert len(heard(wire.client, 1000)) == 1000
        assert time.monotonic() < begins["t"] + PATIENCE
        assert len(heard(wire.client, 99999)) == 9000
        assert time.monotonic() >= begins["t"] + 0.4  # a slow link may send 0.1 s too early


def test_a_slow_link_makes_the_server_wait() -> None:
    with line(link_of("slow", bytes_per_second=1000), buffer=1 << 13) as wire:
        wire.told()
        wire.server.setblocking(False)
        total = 0
        with contextlib.suppress(BlockingIOError):
            while total < 8 << 20:
                total += wire.server.send(bytes(1 << 12))
        assert total < 1 << 16


def test_a_drip_passes_one_byte_at_a_time_to_the_server() -> None:
    with line(link_of("drip", pause=100)) as wire:
        wire.client.sendall(b"hello")
        assert wire.server.recv(99) == b"h"
        assert silent(wire.server)
        wire.server.sendall(b"hi")
        assert heard(wire.client, 2) == b"hi"


def test_held_bytes_pass_when_a_drip_ends() -> None:
    with line(link_of("drip", pause=100, seconds=0.5)) as wire:
        begins = wire.told()
        wire.client.sendall(b"hello")
        assert heard(wire.server, 5) == b"hello"
        assert time.monotonic() >= begins["t"] + 0.5


def test_a_drip_continues_after_the_client_closes() -> None:
    with line(link_of("drip", pause=0.05)) as wire:
        began = time.monotonic()
        wire.client.sendall(b"hello")
        wire.client.close()
        assert heard(wire.server, 99) == b"hello"
        assert time.monotonic() >= began + 4 * 0.05


def test_a_delay_holds_bytes_and_a_reset() -> None:
    with line(link_of("delay", held=0.2)) as wire:
        for speaker, listener in ((wire.client, wire.server), (wire.server, wire.client)):
            began = time.monotonic()
            speaker.sendall(b"one ")
            speaker.sendall(b"two")
            assert heard(listener, 7) == b"one two"
            assert time.monotonic() >= began + 0.2
        began = time.monotonic()
        wire.client.sendall(b"last")
        reset(wire.client)
        with pytest.raises(ConnectionResetError):
            hear_to_the_end(wire.server)
        assert time.monotonic() >= began + 0.2


def test_a_delayed_reset_is_not_held_longer_while_the_server_speaks() -> None:
    def speak() -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            wire.server.sendall(b"are you there?\n")
            time.sleep(0.02)

    with line(link_of("delay", held=0.2)) as wire:
        leaving = threading.Timer(0.1, reset, [wire.client])
        leaving.start()
        with pytest.raises(ConnectionError):
            speak()
        leaving.join()


@pytest.mark.parametrize("said", [b"", b"unheard"])
def test_a_cut_off_ends_both_sides_of_a_connection(said: bytes) -> None:
    with line(link_of("cut-off", after=0.1)) as wire:
        wire.client.sendall(said)
        assert wire.client.recv(99) == b""
        with pytest.raises(ConnectionResetError):
            hear_to_the_end(wire.server)
        assert wire.told()["what"] == "begins"
    assert wire.proxy.events() == []


def test_a_cut_off_works_before_the_server_has_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        while True:  # until the backlog is full
            client = stack.enter_context(socket.socket())
            client.settimeout(WINDOW)
            try:
                client.connect(full.getsockname())
            except TimeoutError:
                break
        links: list[Link] = [link_of("cut-off", after=0.2), link_of("half-close")]
        with Proxy([full.getsockname()], 1, links) as proxy:
            with connect(proxy.ports[0]) as client:
                client.sendall(b"unread")
                assert client.recv(99) == b""
            with connect(proxy.ports[1]) as client:
                assert silent(client)
        assert [event["what"] for event in proxy.events()] == ["begins", "begins", "ends"]


def test_a_reset_fault_resets_both_sides() -> None:
    with line(link_of("reset", after=0.1)) as wire:
        for connection in (wire.client, wire.server):
            with pytest.raises(ConnectionResetError):
                connection.recv(99)
        assert wire.told()["what"] == "begins"
    assert wire.proxy.events() == []


def test_a_half_close_drops_what_the_client_sends_from_then_on() -> None:
    with line(link_of("half-close", after=2)) as wire:
        wire.client.sendall(b"hello")
        assert heard(wire.server, 99) == b"hello"
        wire.client.sendall(b"unheard")
        wire.server.sendall(b"we do not hear you")
        assert heard(wire.client, 18) == b"we do not hear you"
        wire.server.close()
        assert heard(wire.client, 99) == b""
        deadline = time.monotonic() + WINDOW
        while time.monotonic() < deadline:
            wire.client.sendall(b"still unheard")  # fails if the proxy has reset the connection
            time.sleep(0.01)
        wire.client.close()
        assert (wire.told(1)["what"], wire.told(2)["what"]) == ("begins", "ends")


def test_a_half_closed_client_is_read_while_the_server_does_not_read() -> None:
    with line(link_of("half-close", after=2), buffer=1 << 16) as wire:
        said = 8 << 20
        wire.client.sendall(bytes(said))
        assert 1 << 16 < len(heard(wire.server, said)) < 1 << 20


# --- the process ---------------------------------------------------------------------------------


def test_stop_closes_all_connections_and_ports() -> None:
    with listening() as listener:
        proxy = Proxy([listener.getsockname()], 1, [link_of("stall")])
        assert proxy.death() == ""
        proxy.stop()  # does nothing before the start
        with proxy, connect(proxy.ports[0]) as client, listener.accept()[0] as server:
            process = process_of_the_proxy()
            assert Line(proxy, client, server).told()["what"] == "begins"
            proxy.stop()
            proxy.stop()
            assert proxy.death() == "ended (exit status 0)"
            assert [event["what"] for event in proxy.events()] == ["ends"]
            for connection in (client, server):
                connection.settimeout(PATIENCE)
                assert connection.recv(99) == b""
            assert not process.is_running()
            with pytest.raises(ConnectionRefusedError):
                connect(proxy.ports[0])


def test_a_direction_reads_no_more_than_its_gate_has_room_for() -> None:
    class Narrow(Gate):
        def room(self) -> int:
            return 3

        def put(self, data: bytes) -> None:
            came.append(data)
            over.set()

    async def main() -> None:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(end) for end in socket.socketpair()]
            sockets[0].sendall(b"hello")
            direction = Direction(sockets[1], sockets[1], Narrow(), lambda: None, lambda: None)
            direction.start()
            await asyncio.wait_for(over.wait(), PATIENCE)
            direction.stop()

    over, came = asyncio.Event(), list[bytes]()
    asyncio.run(main())
    assert came[0] == b"hel"


def test_a_proxy_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "STOP_LIMIT", 0.1)
    with Proxy([NOBODY], 1, [FAITHFUL]) as proxy:
        process_of_the_proxy().send_signal(signal.SIGSTOP)
    assert proxy.death() == "ended (exit status -9)"


@pytest.mark.parametrize("how", ["input", "SIGTERM", "SIGINT"])
def test_the_process_ends_at_the_end_of_its_input_or_by_a_signal(how: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        pickle.dump(([NOBODY], 1, [FAITHFUL]), process.stdin)
        process.stdin.flush()
        assert len(json.loads(process.stdout.readline())["ports"]) == 1
        process.stdin.write(b"the proxy ignores this\n")
        process.stdin.flush()
        if how != "input":
            process.send_signal(signal.Signals[how])
            process.wait(PATIENCE)
        assert process.communicate(timeout=PATIENCE) == (b"", b"")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_a_process_without_a_job_reports_an_error() -> None:
    process = subprocess.run(
        [sys.executable, "-m", MODULE],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        text=True,
        check=False,
    )
    assert process.stderr.startswith("the proxy failed: ")
    assert process.stderr.count("\n") == 1
    assert (process.stdout, process.returncode) == ("", 2)


def test_a_proxy_that_does_not_start_raises_cannot_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy([("::1", 9)], 1, [FAITHFUL])
    why = "the target must have an IPv4 address, but '::1' has none"
    with pytest.raises(
        CannotJudge, match=rf"the proxy ended \(exit status 2\); its last line: .*: {why}$"
    ):
        proxy.start()
    proxy.stop()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(
            CannotJudge, match="the proxy can't be started: No such file or directory"
        ):
            Proxy([NOBODY], 1, [FAITHFUL]).start()
    monkeypatch.setattr(proxy_module, "START_LIMIT", 0.0)
    slow = Proxy([NOBODY], 1, [FAITHFUL])
    with pytest.raises(CannotJudge, match="the proxy was not ready within 0 s"):
        slow.start()
    assert slow.death().startswith("ended")


@pytest.mark.parametrize("spare", [0, 1])
def test_a_proxy_without_descriptors_reports_an_error(spare: int) -> None:
    """A connection needs two descriptors. The proxy has only `spare` descriptors left."""
    with listening() as listener, Proxy([listener.getsockname()], 1, [FAITHFUL]) as proxy:
        pid = process_of_the_proxy().pid
        limit = len(os.listdir(f"/proc/{pid}/fd")) + spare
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
        with contextlib.suppress(ConnectionError), connect(proxy.ports[0]):
            proxy.death(PATIENCE)
        death = proxy.death(PATIENCE)
    assert death.startswith("ended (exit status 2); its last line: the proxy failed: ")
    assert "Too many open files" in death
