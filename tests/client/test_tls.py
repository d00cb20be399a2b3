"""Tests of rooms behind a TLS proxy, with a self-signed certificate."""

import asyncio
import contextlib
import hashlib
import select
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from chatroom.client import address as module
from chatroom.client.address import RoomAddress, reason, tls_context
from chatroom.client.connection import CHUNK, TlsConnection
from tests.client.drivers import CLIENT, Peer, Room, running
from tests.client.panes import pane
from tests.integration.rooms import room as real_room
from tests.integration.waiting import PATIENCE
from tests.programs import program
from tests.system.ports import free_port

WELCOME = "Welcome to socket practice"


class Certificate:
    """A certificate for `localhost` only."""

    def __init__(self, folder: Path) -> None:
        key, self.file = folder / "key.pem", folder / "certificate.pem"
        request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        files = ["-nodes", "-keyout", str(key), "-out", str(self.file)]
        subprocess.run(
            [program("openssl"), *request, *names, *files],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.file, key)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


@contextlib.contextmanager
def joined(
    room: Room, certificate: Certificate, *arguments: str, **options: Any
) -> Iterator[tuple[subprocess.Popen[bytes], Peer]]:
    """Run the client without its window; yield the process and the room's end of its TLS
    connection."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [*CLIENT, "--tls", *arguments, "localhost", room.address[1]]
    with running(command, **(streams | options)) as process:
        raw = room.accept()
        with certificate.context.wrap_socket(raw.socket, server_side=True) as encrypted:
            yield process, Peer(encrypted)


def ends(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors.decode()


def test_piped_input_is_sent_and_later_messages_are_received(
    room: Room, certificate: Certificate
) -> None:
    with joined(room, certificate, "--cafile", str(certificate.file)) as (process, peer):
        peer.send("Welcome\n")
        assert process.stdin is not None
        process.stdin.write("one\n你\n".encode())
        process.stdin.close()
        process.stdin = None
        # receive_all returns when the client has closed its side of TLS and TCP. The room's side is
        # still open.
        assert peer.receive_all() == "one\n你\n".encode()
        peer.send("<::1>still there\n")
        peer.close()
        assert ends(process) == (0, b"Welcome\n<::1>still there\n", "")


def test_messages_that_arrive_while_the_client_closes_are_not_lost(
    room: Room, certificate: Certificate
) -> None:
    with joined(room, certificate, "--cafile", str(certificate.file)) as (process, peer):
        assert process.stdin is not None
        said = b"".join(b"%063d\n" % number for number in range(20_000))
        process.stdin.close()
        process.stdin = None
        peer.send(said)
        assert peer.receive_all() == b""
        peer.close()
        assert ends(process) == (0, said, "")


def test_a_slow_room_receives_all_input(
    room: Room, certificate: Certificate, tmp_path: Path
) -> None:
    lines = b"".join(b"%063d\n" % number for number in range(80_000))
    path = tmp_path / "lines"
    path.write_bytes(lines)
    room.use_small_buffers()
    trust = ["--cafile", str(certificate.file)]
    with (
        path.open("rb") as file,
        joined(room, certificate, *trust, stdin=file) as (process, peer),
    ):
        heard = hashlib.sha256(peer.receive_all())
        assert heard.hexdigest() == hashlib.sha256(lines).hexdigest()
        peer.close()
        assert ends(process) == (0, b"", "")


def test_a_reset_is_an_error(room: Room, certificate: Certificate) -> None:
    with joined(room, certificate, "--cafile", str(certificate.file)) as (process, peer):
        peer.reset()
        assert ends(process) == (
            1,
            b"",
            "python -m chatroom.client: connection lost: Connection reset by peer\n",
        )


def test_a_close_notify_ends_the_connection_without_a_close(
    room: Room, certificate: Certificate
) -> None:
    with joined(room, certificate, "--cafile", str(certificate.file)) as (process, peer):
        peer.send("the last\n")
        peer.socket.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            cast("ssl.SSLSocket", peer.socket).unwrap()
        process.wait(PATIENCE)  # The client's input is still open.
        said = "python -m chatroom.client: connection lost: closed by the server\n"
        assert ends(process) == (1, b"the last\n", said)


def test_the_insecure_option_prints_a_warning(room: Room, certificate: Certificate) -> None:
    with joined(room, certificate, "--insecure") as (process, peer):
        peer.send("Welcome\n")
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        assert peer.receive_all() == b""
        peer.close()
        warning = (
            "python -m chatroom.client: --insecure: the server is not verified; "
            "others may read and change all messages\n"
        )
        assert ends(process) == (0, b"Welcome\n", warning)


class Terminator:
    """The server's side of a TLS connection, which the test controls step by step."""

    def __init__(self, context: ssl.SSLContext, connection: socket.socket) -> None:
        self._socket = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def shake_hands(self, *, then: bytes = b"") -> None:
        """Do the handshake; send `then` together with its last bytes."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(self._socket.recv(CHUNK))
            else:
                self._tls.write(then)
                self._flush()
                return

    def end(self, words: bytes) -> None:
        """Send `words`, and close the sending side of TLS."""
        self._tls.write(words)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._outgoing.read())


@pytest.fixture
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield both ends of a connection: the client's non-blocking end, and the server's end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0] as theirs,
    ):
        theirs.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )  # otherwise a reset drops unsent data
        ours.setblocking(False)
        yield ours, theirs


def test_the_last_text_before_a_reset_is_received(
    certificate: Certificate, connected: tuple[socket.socket, socket.socket]
) -> None:
    """A TLS proxy that closes its socket with unread input causes such a reset."""
    ours, theirs = connected
    terminator = Terminator(certificate.context, theirs)
    trust = tls_context(str(certificate.file), insecure=False)

    def reset_after_last_words() -> None:
        terminator.end(b"last words")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        hung_up = select.poll()
        hung_up.register(ours, select.POLLHUP)
        assert hung_up.poll(PATIENCE * 1000)

    async def receive() -> list[bytes]:
        room = TlsConnection(ours, trust, "localhost")
        await asyncio.gather(room.shake_hands(), asyncio.to_thread(terminator.shake_hands))
        reset_after_last_words()
        return [await room.receive() for _ in range(2)]

    assert asyncio.run(receive()) == [b"last words", b""]


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves at once"])
def test_a_greeting_with_the_last_handshake_message_is_received(
    certificate: Certificate, connected: tuple[socket.socket, socket.socket], leaves: bool
) -> None:
    """In TLS 1.2, the last message of the handshake is the server's. A greeting may come with
    it."""
    ours, theirs = connected
    terminator = Terminator(certificate.context, theirs)
    trust = tls_context(str(certificate.file), insecure=False)
    trust.maximum_version = ssl.TLSVersion.TLSv1_2

    async def receive() -> bytes:
        room = TlsConnection(ours, trust, "localhost")
        greet = asyncio.to_thread(terminator.shake_hands, then=b"Welcome\n")
        await asyncio.gather(room.shake_hands(), greet)
        if leaves:
            await room.send_eof()
        async with asyncio.timeout(PATIENCE):
            return await room.receive()

    assert asyncio.run(receive()) == b"Welcome\n"


def fails(room: Room, certificate: Certificate | None, *arguments: str) -> tuple[int, str]:
    """Run the client; return its exit code and its message without the prefix."""
    command = [*CLIENT, "--tls", *arguments, room.address[1]]
    with running(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        serve(room, certificate)
        code = process.wait(PATIENCE)
        assert process.stderr is not None
        return code, process.stderr.read().decode().strip().removeprefix(
            "python -m chatroom.client: "
        )


def serve(room: Room, certificate: Certificate | None) -> None:
    peer = room.accept()
    if certificate is None:
        peer.send(WELCOME + "\n")
        return
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        certificate.context.wrap_socket(peer.socket, server_side=True) as encrypted,
    ):
        encrypted.recv(1)


def test_a_self_signed_certificate_is_not_accepted(room: Room, certificate: Certificate) -> None:
    assert fails(room, certificate, "localhost") == (
        1,
        f"cannot connect to localhost:{room.address[1]}: "
        "its certificate is not accepted: self-signed certificate",
    )


def test_a_certificate_for_another_name_is_not_accepted(
    room: Room, certificate: Certificate
) -> None:
    code, said = fails(room, certificate, "--cafile", str(certificate.file), "127.0.0.1")
    assert code == 1
    assert "its certificate is not accepted: IP address mismatch" in said
    assert "\n" not in said


def test_a_server_that_does_not_speak_tls_is_reported(room: Room) -> None:
    code, said = fails(room, None, "localhost")
    assert code == 1
    assert said == f"cannot connect to localhost:{room.address[1]}: the server does not speak TLS"


def test_a_server_that_does_not_answer_is_reported(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.01)
    address = RoomAddress("127.0.0.1", int(room.address[1]), tls_context(None, insecure=True))
    with pytest.raises(TimeoutError) as failed:
        asyncio.run(address.connect())
    assert reason(failed.value) == "no answer for 0.01 s"


def test_a_room_s_name_shows_whether_tls_is_verified(certificate: Certificate) -> None:
    checked = tls_context(str(certificate.file), insecure=False)
    unchecked = tls_context(None, insecure=True)
    names = [RoomAddress("localhost", 4000, how).name for how in (None, checked, unchecked)]
    assert names == ["localhost:4000", "localhost:4000 (TLS)", "localhost:4000 (TLS, unchecked)"]


def test_a_server_that_closes_during_the_handshake_is_reported(room: Room) -> None:
    command = [*CLIENT, "--tls", "localhost", room.address[1]]
    with running(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        peer = room.accept()
        peer.receive(1)
        peer.socket.shutdown(socket.SHUT_WR)
        peer.receive_all()
        assert process.wait(PATIENCE) == 1
        assert process.stderr is not None
        said = f"python -m chatroom.client: cannot connect to localhost:{room.address[1]}: "
        assert process.stderr.read().decode() == said + "closed by the server\n"


class Proxy:
    """A TLS proxy in front of a room, like stunnel; one thread serves all connections."""

    def __init__(self, certificate: Certificate, port: int) -> None:
        self._context = certificate.context
        self._room = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = str(self._listener.getsockname()[1])
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        pairs: dict[socket.socket, socket.socket] = {}
        with contextlib.ExitStack() as stack:
            while True:
                ready, _, _ = select.select([self._listener, self._stopped, *pairs], [], [])
                if self._stopped in ready:
                    return
                for source in ready:
                    if source is self._listener:
                        try:
                            room = stack.enter_context(socket.create_connection(self._room))
                        except ConnectionRefusedError:
                            self._listener.accept()[0].close()
                            continue
                        raw, _ = self._listener.accept()
                        client = stack.enter_context(
                            self._context.wrap_socket(raw, server_side=True)
                        )
                        pairs |= {room: client, client: room}
                    elif source in pairs:
                        # One recv returns a whole TLS record, which has at most 16 KiB.
                        data = source.recv(1 << 16)
                        pairs[source].sendall(data)
                        if not data:
                            other = pairs.pop(source)
                            del pairs[other]
                            source.close()
                            other.close()

    def close(self) -> None:
        self._stop.close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._stopped.close()
        self._listener.close()


def test_people_talk_through_a_tls_proxy_and_reconnect(certificate: Certificate) -> None:
    port = free_port()
    with real_room("--workers", 1, port=port) as there, contextlib.ExitStack() as stack:
        terminator = stack.enter_context(contextlib.closing(Proxy(certificate, port)))
        arguments = ["--tls", "--cafile", str(certificate.file), "localhost", terminator.port]
        anna = stack.enter_context(pane(*arguments))
        anna.shows(WELCOME)
        assert f"localhost:{terminator.port} (TLS)  connected" in anna.status
        ben = there.join("127.0.0.2")
        anna.type("hello 你好")
        anna.press("Enter")
        ben.expect("<127.0.0.1>hello 你好\n")
        ben.send("hello yourself\n")
        anna.shows("<You>hello 你好", "<127.0.0.2>hello yourself")
        there.stop()
        anna.wait(lambda: "not connected" in anna.status)
        again = stack.enter_context(real_room("--workers", 1, port=port))
        anna.shows("── connected again", WELCOME)
        again.read_until("127.0.0.1 connected\n")
        anna.press("C-d")
        again.read_until("127.0.0.1 disconnected\n")
        assert anna.end() == 0
