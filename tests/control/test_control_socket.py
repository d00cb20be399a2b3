"""Tests of the control socket: requests and answers. The tests run the room's event loop by
hand."""

import errno
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chatroom.control import control_socket as module
from chatroom.control.control_socket import (
    MAX_CONNECTIONS,
    MAX_REQUEST,
    ControlClient,
    ControlServer,
)
from chatroom.errors import ListenError
from chatroom.system.listening import listen
from tests.integration.waiting import PATIENCE
from tests.system.ends import Reluctant, has_ended
from tests.system.loops import ManualLoop


class Server:
    """A control socket, and its event loop."""

    def __init__(self, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = Path(folder) / "room.sock"
        self.loop = ManualLoop()
        self.asked: list[Any] = []
        self.answers: dict[str, Any] = {}
        self.failures: list[int] = []
        """Error numbers (errno) that the next calls of accept raise."""
        monkeypatch.setattr(
            module, "listen", lambda *where: Reluctant(listen(*where), self.failures)
        )
        self.control = self.open()
        self.ends: list[socket.socket] = []

    def open(self) -> ControlServer:
        control = ControlServer(self.loop, self.answer)
        control.listen(self.path)
        return control

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        return self.answers or request

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        end = socket.socket(socket.AF_UNIX)
        end.settimeout(PATIENCE)
        end.connect(str(self.path))
        self.ends.append(end)
        self.turn()
        return end

    def turn(self) -> bool:
        """Do one turn of the event loop; return True if a source was ready."""
        self.loop.turn()
        return self.loop.ready > 0

    def turns(self) -> int:
        """Do turns until no source is ready; return the number of turns."""
        number = 0
        while self.turn():
            number += 1
            assert number < 10_000, "a source stays ready forever"
        return number

    def receive(self, end: socket.socket, answers: int = 1) -> list[Any]:
        """Run the event loop until `answers` answers have arrived; return them."""
        heard = b""
        end.setblocking(False)
        while heard.count(b"\n") < answers:
            moved = self.turn()
            try:
                data = end.recv(1 << 16)
            except BlockingIOError:
                assert moved, f"no more answers after {heard[:100]!r}"
                continue
            assert data, "the connection has ended"
            heard += data
        assert heard.endswith(b"\n")
        return [json.loads(line) for line in heard.splitlines()]

    def ended(self, end: socket.socket) -> bool:
        """Return True if the room has closed the connection."""
        self.turns()
        return has_ended(end)

    def close(self) -> None:
        self.control.close()
        self.loop.close()
        for end in self.ends:
            end.close()


@pytest.fixture(name="server")
def fixture_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        server = Server(folder, monkeypatch)
        yield server
        server.close()
        assert os.listdir(folder) == []


# --- requests ------------------------------------------------------------------------------------


def test_each_request_is_answered(server: Server) -> None:
    end = server.connect()
    for number in range(3):
        end.sendall(b'{"ask": %d}\n' % number)
        assert server.receive(end) == [{"ask": number}]
    assert server.turns() == 0, "the server waits for the next request"


def test_a_request_may_come_in_pieces(server: Server) -> None:
    end = server.connect()
    for byte in b'{"ask": "status"}\n':
        assert server.asked == []
        end.sendall(bytes([byte]))
        server.turns()
    assert server.receive(end) == [{"ask": "status"}]


def test_queued_requests_are_answered_in_order_one_per_turn(server: Server) -> None:
    end, other = server.connect(), server.connect()
    end.sendall(b"".join(b'{"ask": %d}\n' % number for number in range(50)))
    other.sendall(b'{"ask": "other"}\n')
    server.turn()
    assert server.asked == [{"ask": 0}, {"ask": "other"}], (
        "the loop serves other connections between two answers"
    )
    assert server.receive(end, 50) == [{"ask": number} for number in range(50)]
    assert server.turns() == 0


def test_queued_requests_may_exceed_the_limit_of_one_request(server: Server) -> None:
    line = b'{"ask": "%s"}\n' % (b"x" * 1000)
    end, count = server.connect(), 3 * MAX_REQUEST // len(line)
    end.setblocking(True)
    thread = threading.Thread(target=end.sendall, args=(line * count,))
    thread.start()
    reader = end.dup()
    server.ends.append(reader)
    while len(server.asked) < count:
        server.turn()
        with suppress(BlockingIOError):  # the thread may not have sent a complete line yet
            assert reader.recv(1 << 16, socket.MSG_DONTWAIT), "the connection has ended"
    thread.join()
    assert server.asked == [json.loads(line)] * count


@pytest.mark.parametrize("line", [b"", b"x", b"[]", b"5", b"{", b"\xff", b"[" * 60_000, b'"ask"'])
def test_an_invalid_request_is_answered_with_an_error(line: bytes, server: Server) -> None:
    end = server.connect()
    end.sendall(line + b"\n")
    assert server.receive(end) == [{"error": "a request must be a JSON object"}]
    end.sendall(b'{"ask": 1}\n')
    assert server.receive(end) == [{"ask": 1}]
    assert server.asked == [{"ask": 1}]


def test_requests_before_a_half_close_are_answered(server: Server) -> None:
    end = server.connect()
    end.sendall(b'{"ask": 1}\n{"ask": 2}\n{"ask"')
    end.shutdown(socket.SHUT_WR)
    assert server.receive(end, 2) == [{"ask": 1}, {"ask": 2}]
    assert server.ended(end)


def test_closed_connections_are_removed(server: Server) -> None:
    silent, asked = server.connect(), server.connect()
    asked.sendall(b'{"ask": 1}\n{"ask": 2}\n')
    for end in (silent, asked):
        end.close()
    server.turns()
    assert server.loop.sources == 1


# --- slow and broken clients ---------------------------------------------------------------------


def test_a_line_that_is_too_long_ends_the_connection(server: Server) -> None:
    end = server.connect()
    end.setblocking(False)
    sent = 0
    while sent < 2 * MAX_REQUEST:
        try:
            sent += end.send(b"x" * 4096)
        except BlockingIOError:
            server.turn()
        except BrokenPipeError:
            break
    assert server.ended(end)
    assert sent < 2 * MAX_REQUEST + (1 << 20)
    assert server.asked == []


def test_a_line_of_the_maximum_length_is_answered(server: Server) -> None:
    end, line = server.connect(), b'{"ask": "%s"}' % (b"x" * (MAX_REQUEST - 11))
    assert len(line) == MAX_REQUEST
    thread = threading.Thread(target=end.sendall, args=(line + b"\n",))
    thread.start()
    while not server.asked:
        # Check this first: the thread may send the rest and end during the turn.
        sending = thread.is_alive()
        assert server.turn() or sending, "no source is ready"
    thread.join()
    assert server.receive(end) == [json.loads(line)]


def test_a_client_that_does_not_read_its_answer_delays_only_itself(server: Server) -> None:
    server.answers = {"members": ["x" * 100] * 50_000}
    end = server.connect()
    end.sendall(b'{"ask": 1}\n{"ask": 2}\n')
    server.turns()
    assert server.asked == [{"ask": 1}], "a second answer before the client has read the first"
    other = server.connect()
    other.sendall(b"{}\n")
    assert server.receive(other) == [server.answers]
    assert server.receive(end, 2) == [server.answers] * 2


def test_the_number_of_connections_is_limited(server: Server) -> None:
    ends = [server.connect() for _ in range(MAX_CONNECTIONS)]
    refused = server.connect()
    assert server.receive(refused) == [{"error": "too many connections"}]
    assert server.ended(refused)
    ends[0].sendall(b'{"ask": 1}\n')
    assert server.receive(ends[0]) == [{"ask": 1}]
    ends[1].close()
    server.turns()
    assert not server.ended(server.connect())


def test_the_control_socket_can_close_while_accepting_is_paused(server: Server) -> None:
    server.failures.append(errno.EMFILE)
    server.connect()
    assert server.loop.idle() is not None, "accepting is paused"
    server.control.close()
    assert server.loop.idle() is None, "accepting does not resume"


# --- other users ---------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="no SO_PEERCRED")
def test_another_user_is_disconnected(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root and the user who runs the room are accepted."""
    for user, heard in ((os.getuid() + 1, False), (0, True), (os.getuid(), True)):
        credentials = SimpleNamespace(size=12, unpack=lambda _, uid=user: (1, uid, 1))
        monkeypatch.setattr(module, "_CREDENTIALS", credentials)
        assert server.ended(server.connect()) != heard


def test_clients_are_accepted_where_peer_credentials_are_unknown(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED", raising=False)
    assert not server.ended(server.connect())


# --- the file ------------------------------------------------------------------------------------


def test_only_the_socket_of_a_killed_room_is_replaced(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="Address already in use"):
        server.open()
    server.control.close()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(server.path))  # The socket's file stays, as after a kill.
    server.control = server.open()
    server.connect().sendall(b"{}\n")
    assert server.receive(server.ends[-1]) == [{}]


def test_closing_keeps_the_socket_of_another_room(server: Server) -> None:
    server.path.unlink()
    another = server.open()
    server.control.close()
    assert server.path.exists()
    server.control = another


# --- ControlClient --------------------------------------------------------------------------------


def test_a_control_client_raises_an_error_once_the_room_has_ended(server: Server) -> None:
    client, done = ControlClient(server.path), threading.Event()

    def serve() -> None:
        while not done.is_set():
            server.turn()
        server.control.close()

    thread = threading.Thread(target=serve)
    thread.start()
    for number in range(3):
        assert client.ask({"ask": number}) == {"ask": number}
    done.set()
    thread.join()
    with pytest.raises((EOFError, BrokenPipeError, ConnectionResetError)):
        client.ask({})
    client.close()
    with pytest.raises(FileNotFoundError):
        ControlClient(server.path)
    server.control = server.open()


@contextmanager
def hung_up(answer: bytes) -> Iterator[ControlClient]:
    """Yield a client whose room has sent `answer` and closed the connection."""
    with (
        tempfile.TemporaryDirectory(prefix="run-") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{folder}/x")
        listener.listen()
        with closing(ControlClient(Path(folder) / "x")) as client:
            end, _ = listener.accept()
            end.sendall(answer)
            end.close()
            yield client


def test_an_incomplete_answer_is_an_error() -> None:
    with hung_up(b'{"half"') as client, pytest.raises(EOFError):
        client.ask({})


def test_an_error_that_was_sent_before_the_request_is_returned() -> None:
    with hung_up(b'{"error": "too many connections"}\n') as client:
        assert client.ask({"ask": "status"}) == {"error": "too many connections"}
