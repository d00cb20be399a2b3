"""Tests of the client without its window: the real program with pipes, and at a terminal.

pyte interprets the output as a terminal does.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from chatroom.client import session as session_module
from chatroom.client.connection import Connection
from chatroom.client.session import Ending, Session
from chatroom.client.streams import Input, Output
from tests.client.drivers import (
    CLIENT,
    ENDINGS,
    LINES,
    Peer,
    Room,
    StartTypist,
    fill,
    read_until,
    running,
    unread,
)
from tests.integration.waiting import PATIENCE, until

# --- the program at a terminal -------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None
from chatroom.client.command import main
sys.exit(main())
"""


#: Module whose absence makes the client print a hint.
HINT = "prompt_toolkit"


@pytest.mark.parametrize(
    ("command", "env"),
    [
        (CLIENT, {"TERM": "dumb"}),
        ([sys.executable, "-c", WITHOUT, "termios"], {}),
        ([sys.executable, "-c", WITHOUT, "prompt_toolkit"], {}),
    ],
    ids=["a dumb terminal", "without termios", "without prompt_toolkit"],
)
def test_without_a_window_the_terminal_edits_the_line(
    room: Room, start_typist: StartTypist, command: list[str], env: dict[str, str]
) -> None:
    typist = start_typist([*command, *room.address], env=env)
    peer = room.accept()
    typist.wait(lambda: HINT not in command or b"to prevent this" in typist.written)
    peer.send("Welcome\n")
    typist.wait(lambda: typist.screen.rows[-2:] == ["Welcome", ""])
    typist.type("one\n")
    assert peer.receive(4) == b"one\n"
    typist.wait(lambda: typist.screen.rows[-3:] == ["Welcome", "one", ""])
    assert (b"to prevent this" in typist.written) == (HINT in command)
    assert b"\x1b" not in typist.written
    typist.type("\x04")
    assert peer.receive_all() == b""
    peer.close()
    assert typist.end() == 0


@pytest.mark.sample(1)
@pytest.mark.parametrize(("number", "code"), ENDINGS)
def test_a_signal_ends_the_client_while_its_output_is_not_read(
    room: Room, start_typist: StartTypist, number: signal.Signals, code: int
) -> None:
    typist = start_typist([*CLIENT, *room.address], stdin=subprocess.DEVNULL)
    fill(typist, room.accept())
    typist.process.send_signal(number)
    assert typist.end() == code


def test_a_signal_ends_the_client_while_its_error_is_not_read(
    room: Room, start_typist: StartTypist
) -> None:
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    typist = start_typist([*CLIENT, *room.address], **streams)
    typist.type("\x13")  # Ctrl-S
    until(typist.is_stuck, "Ctrl-S stops the terminal")
    peer = room.accept()
    peer.socket.shutdown(socket.SHUT_WR)
    assert peer.receive_all() == b""

    # Send the signal several times, because the client ignores it while its loop is being closed.
    def ended() -> bool:
        typist.process.send_signal(signal.SIGTERM)
        return typist.process.poll() is not None

    until(ended, "the client ends")


def test_output_can_go_to_a_file_while_the_user_types(
    room: Room, start_typist: StartTypist, tmp_path: Path
) -> None:
    path = tmp_path / "kept"
    with path.open("wb") as file:
        typist = start_typist([*CLIENT, *room.address], stdout=file)
    peer = room.accept()
    peer.send("Welcome\n")
    until(lambda: path.read_bytes() == b"Welcome\n", "the welcome is in the file")
    typist.type("one\n")
    assert peer.receive(4) == b"one\n"
    typist.type("\x04")
    # The room does not close its side. A client at a terminal waits PATIENCE seconds for the close,
    # and then ends.
    assert peer.receive_all() == b""
    assert typist.end() == 0
    assert typist.screen.rows == ["one", ""]
    assert path.read_bytes() == b"Welcome\n"


def test_piped_input_shows_no_prompt(room: Room, start_typist: StartTypist) -> None:
    typist = start_typist([*CLIENT, *room.address], stdin=subprocess.DEVNULL)
    peer = room.accept()
    assert peer.receive_all() == b""
    peer.send("Welcome\n")
    peer.close()
    assert typist.end() == 0
    assert typist.written == b"Welcome\r\n"


def test_text_piped_to_a_terminal_keeps_its_direction(
    room: Room, start_typist: StartTypist
) -> None:
    """Prove PREFIX-4 in the client, at a terminal that detects the direction of each line."""
    typist = start_typist([*CLIENT, *room.address], stdin=subprocess.DEVNULL)
    peer = room.accept()
    peer.send("<127.0.0.5>\u05d0\u3164<10.0.0.1>hello \u05d1\n\u05d0\n")
    typist.wait(lambda: typist.written.count(b"\n") == 2)
    shown = "<127.0.0.5>\u200e\u05d0\ufffd<10.0.0.1>hello \u05d1\r\n\u200e\u05d0\r\n"
    assert typist.written.decode() == shown


# --- the program in a pipe -----------------------------------------------------------------------


@contextlib.contextmanager
def piped(
    room: Room, command: Sequence[str] = (), **options: Any
) -> Iterator[tuple[subprocess.Popen[bytes], Peer]]:
    """Run the client, through `command` if given; yield the process and the room's end of its
    connection."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running([*command, *CLIENT, *room.address], **(streams | options)) as process:
        yield process, room.accept()


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    """Return the exit code, the rest of standard output, and standard error."""
    assert process.stdout is not None
    assert process.stderr is not None
    output = b"" if process.stdout.closed else process.stdout.read()
    return process.wait(PATIENCE), output, process.stderr.read().decode()


def put(process: subprocess.Popen[bytes], data: bytes, *, last: bool = False) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()
    if last:
        process.stdin.close()


def test_piped_input_is_sent_unchanged(room: Room) -> None:
    with piped(room) as (process, peer):
        put(process, b"one\r\n\xff\x1b\n")
        assert peer.receive(7) == b"one\r\n\xff\x1b"[:7]
        put(process, b"no end", last=True)
        assert peer.receive_all() == b"\nno end"
        peer.send("<::1>still there\n")
        peer.close()
        assert end(process) == (0, b"<::1>still there\n", "")


@pytest.mark.parametrize("content", [b"", b"one\ntwo\n"], ids=["empty", "lines"])
def test_a_file_is_sent(room: Room, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(content)
    with path.open("rb") as file, piped(room, stdin=file) as (process, peer):
        assert peer.receive_all() == content
        peer.send("answer\n")
        peer.close()
        assert end(process) == (0, b"answer\n", "")


def test_a_client_without_input_still_shows_messages(room: Room) -> None:
    with piped(room, stdin=subprocess.DEVNULL) as (process, peer):
        assert peer.receive_all() == b""
        peer.send("one\n")
        assert read_until(process, b"\n") == b"one\n"
        peer.close()
        assert end(process) == (0, b"", "")


def test_a_listener_stays_connected_after_the_end_of_its_input(room: Room) -> None:
    with running(
        [*CLIENT, "--listen", *room.address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        peer = room.accept()
        peer.send("one\n")
        assert read_until(process, b"one\n") == b"one\n"
        # The client has not closed its side of the connection.
        peer.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.socket.recv(1)
        peer.send("two\n")
        assert read_until(process, b"two\n") == b"two\n"
        process.send_signal(signal.SIGINT)
        assert end(process) == (0, b"", "")


def test_a_listener_at_a_terminal_has_no_window(room: Room, start_typist: StartTypist) -> None:
    typist = start_typist([*CLIENT, "--listen", *room.address])
    peer = room.accept()
    typist.type("not sent\n")
    peer.send("one\n")
    typist.wait(lambda: typist.screen.rows[-2:] == ["one", ""])
    typist.type("\x03")
    assert peer.receive_all() == b""
    assert typist.end() == 0


def test_text_is_shown_as_soon_as_it_arrives(room: Room) -> None:
    with piped(room) as (process, peer):
        peer.send("one")
        assert read_until(process, b"one") == b"one"
        peer.send("\ntwo\n")
        assert read_until(process, b"two\n") == b"\ntwo\n"


def test_received_text_is_made_safe_to_show(room: Room) -> None:
    with piped(room, stdin=subprocess.DEVNULL) as (process, peer):
        peer.receive_all()
        peer.send("a\x00\x1b[2Jb\x7f\x85\u202e\u2028\r\n\tx\u3164\u05d0".encode() + b"\xff\xe4\xbd")
        peer.close()
        # Characters that are harmful only at a terminal are kept, because another program may read
        # them.
        shown = "a␀␛[2Jb␡\ufffd\ufffd\ufffd␍\n\tx\ufffd\u05d0\ufffd\ufffd"
        assert end(process) == (0, shown.encode(), "")


def test_a_slow_room_receives_all_input(room: Room, tmp_path: Path) -> None:
    lines = b"".join(b"%063d\n" % number for number in range(80_000))
    path = tmp_path / "lines"
    path.write_bytes(lines)
    room.use_small_buffers()
    with path.open("rb") as file, piped(room, stdin=file) as (process, peer):
        # The client shows arriving text although the room does not read.
        peer.send("one\n")
        assert read_until(process, b"\n") == b"one\n"
        heard = hashlib.sha256(peer.receive_all())
        assert heard.hexdigest() == hashlib.sha256(lines).hexdigest()
        peer.close()
        assert end(process) == (0, b"", "")


@pytest.mark.parametrize(
    ("cut", "why"),
    [(Peer.close, "closed by the server"), (Peer.reset, "Connection reset by peer")],
    ids=["closed", "reset"],
)
def test_a_connection_lost_before_the_end_of_input_is_an_error(
    room: Room, cut: Callable[[Peer], None], why: str
) -> None:
    with piped(room) as (process, peer):
        peer.send("The room is full\n")
        assert read_until(process, b"\n") == b"The room is full\n"
        cut(peer)
        assert end(process) == (1, b"", f"python -m chatroom.client: connection lost: {why}\n")


def test_a_reset_after_the_end_of_input_is_an_error(room: Room) -> None:
    with piped(room, stdin=subprocess.DEVNULL) as (process, peer):
        assert peer.receive_all() == b""
        peer.reset()
        why = "Connection reset by peer"
        assert end(process) == (1, b"", f"python -m chatroom.client: connection lost: {why}\n")


def test_a_closed_output_pipe_ends_the_client_quietly(room: Room) -> None:
    with piped(room) as (process, peer):
        assert process.stdout is not None
        peer.send("one\n")
        assert read_until(process, b"\n") == b"one\n"
        process.stdout.close()
        peer.send("two\n")
        assert end(process) == (141, b"", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_an_output_that_is_full_is_an_error(room: Room) -> None:
    with open("/dev/full", "wb") as full, piped(room, stdout=full) as (process, peer):
        peer.send("one\n")
        assert process.wait(PATIENCE) == 1
        assert process.stderr is not None
        said = process.stderr.read()
        assert said == b"python -m chatroom.client: standard output: No space left on device\n"


def test_an_input_that_cannot_be_read_is_an_error(room: Room, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, piped(room, stdin=file) as (process, _):
        said = "python -m chatroom.client: standard input: Bad file descriptor\n"
        assert end(process) == (1, b"", said)


def test_a_non_blocking_input_is_waited_for(room: Room) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        with piped(room, stdin=reader) as (process, peer):
            peer.send("one\n")
            assert read_until(process, b"\n") == b"one\n"
            os.write(writer, b"two\n")
            assert peer.receive(4) == b"two\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_non_blocking_output_is_waited_for(room: Room) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with (
        open(reader, "rb") as shown,
        open(writer, "wb") as output,
        piped(room, stdin=subprocess.DEVNULL, stdout=output) as (process, peer),
    ):
        output.close()
        assert peer.receive_all() == b""
        peer.send(LINES * 2)
        peer.close()
        until(lambda: unread(shown) > 60_000, "the pipe is full")
        assert shown.read() == LINES * 2
        assert process.wait(PATIENCE) == 0


def test_a_client_without_standard_output_still_sends(room: Room) -> None:
    with piped(room, ["sh", "-c", 'exec "$@" >&-', "sh"]) as (process, peer):
        peer.send("for standard output\n")
        put(process, b"for the room\n", last=True)
        assert peer.receive_all() == b"for the room\n"
        peer.close()
        assert end(process) == (0, b"", "")


def test_an_unread_output_stops_neither_sending_nor_signals(room: Room) -> None:
    with piped(room) as (process, peer):
        peer.send("one\n")
        until(lambda: unread(process.stdout) > 0, "the client shows the first line")
        # This is more than the pipe holds, so a blocking write would not return.
        peer.send(LINES * 2)
        until(lambda: unread(process.stdout) > 4, "the client shows more")
        put(process, b"two\n")
        assert peer.receive(4) == b"two\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_a_signal_ignored_at_the_start_stays_ignored(room: Room) -> None:
    with piped(room, ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]) as (process, peer):
        peer.send("one\n")
        assert read_until(process, b"\n") == b"one\n"
        process.send_signal(signal.SIGHUP)
        put(process, b"two\n", last=True)
        assert peer.receive_all() == b"two\n"
        peer.close()
        assert end(process) == (0, b"", "")


# --- the session: cases that can't be produced at will with a real program -----------------------


class FakeInput:
    """Input that returns `reads` and then ends, or blocks if it is `endless`."""

    error = None

    def __init__(self, *reads: bytes, endless: bool = False) -> None:
        self.left = [*reads]
        self._endless = endless

    async def read(self) -> bytes:
        if self.left:
            return self.left.pop(0)
        if self._endless:
            await asyncio.Event().wait()
        return b""


class FakeRoom(Connection):
    """A connection on which the room sends `says` and then closes."""

    def __init__(self, *says: bytes) -> None:
        self.left = [*says]
        self.closes = asyncio.Event()
        self.closes.set()
        self.refusal: OSError | None = None
        """Error to raise from sending, or None."""

    async def receive(self) -> bytes:
        await self.closes.wait()
        return self.left.pop(0) if self.left else b""

    async def send(self, _data: bytes) -> None:
        if self.refusal:
            raise self.refusal
        self.closes.set()
        await asyncio.Event().wait()

    async def send_eof(self) -> None:
        if self.refusal:
            raise self.refusal


class FakeOutput:
    """Output that shows everything at once, or blocks while it is `stuck`."""

    error = None

    def __init__(self) -> None:
        self.shown = b""
        self.stuck = False
        self.on_wait: Callable[[], None] = lambda: None
        """Called when a write blocks."""

    async def write(self, data: bytes) -> None:
        self.shown += data
        await self._wait()

    async def finish(self) -> None:
        await self._wait()

    async def wait_closed(self) -> None:
        await asyncio.Event().wait()

    async def _wait(self) -> None:
        if self.stuck:
            asyncio.get_running_loop().call_soon(self.on_wait)
            await asyncio.Event().wait()


def session(room: FakeRoom, source: FakeInput, output: FakeOutput) -> Session:
    return Session(room, cast("Input", source), cast("Output", output), patience=None)


def test_input_is_read_no_faster_than_the_room_takes_it() -> None:
    source = FakeInput(*[LINES] * 10)

    async def run() -> Ending:
        room = FakeRoom()
        room.closes.clear()
        return await session(room, source, FakeOutput()).run()

    assert asyncio.run(run()) == Ending(1, "connection lost: closed by the server")
    assert len(source.left) == 9


def test_the_room_is_read_no_faster_than_its_text_is_shown() -> None:
    output = FakeOutput()
    output.stuck = True

    async def run() -> tuple[Ending, int]:
        room = FakeRoom(*[LINES] * 10)
        running = session(room, FakeInput(endless=True), output)
        output.on_wait = partial(running.on_signal, signal.SIGINT)
        return await running.run(), len(room.left)

    assert asyncio.run(run()) == (Ending(0), 9)
    assert output.shown == LINES


@pytest.mark.parametrize("said", [[], [b"hello\n"]], ids=["nothing to send", "a line to send"])
def test_the_last_messages_are_shown_after_a_failed_send(said: list[bytes]) -> None:
    """The error is reported, because the room may not have received everything."""
    output = FakeOutput()

    async def run() -> Ending:
        room = FakeRoom(LINES, LINES, b"The room is full\n")
        room.refusal = OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return await session(room, FakeInput(*said), output).run()

    assert asyncio.run(run()) == Ending(1, f"connection lost: {os.strerror(errno.ENOTCONN)}")
    assert output.shown == LINES + LINES + b"The room is full\n"


def test_a_signal_after_the_connection_s_end_ends_the_client() -> None:
    output = FakeOutput()

    async def run() -> Ending:
        running = session(FakeRoom(), FakeInput(endless=True), output)
        output.stuck = True
        output.on_wait = partial(running.on_signal, signal.SIGINT)
        return await running.run()

    assert asyncio.run(run()) == Ending(1)


def test_a_second_signal_ends_the_client_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "OUTPUT_WITHIN", 3600.0)
    output = FakeOutput()
    output.stuck = True

    async def run() -> Ending:
        running = session(FakeRoom(LINES), FakeInput(endless=True), output)
        signals = iter([signal.SIGTERM, signal.SIGINT])
        output.on_wait = lambda: running.on_signal(next(signals))
        return await running.run()

    assert asyncio.run(run()) == Ending(128 + signal.SIGTERM)
