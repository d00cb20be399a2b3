"""The plain form: the real program in a pipe, and at a terminal without the window.

What the screen shows is judged by pyte, which interprets what was written as a terminal does.
"""

import contextlib
import errno
import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from chatroom.client import session as session_module
from chatroom.client.session import FULL, Ending, Session
from chatroom.client.signals import Signals
from chatroom.client.streams import CHUNK, Piped
from tests.client.drivers import (
    CLIENT,
    ENDINGS,
    LINES,
    Peer,
    Room,
    Sit,
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
from chatroom.client import main
sys.exit(main())
"""


#: What is said to be missing, where it is.
HINT = "prompt_toolkit"


@pytest.mark.parametrize(
    ("command", "env"),
    [
        (CLIENT, {"TERM": "dumb"}),
        ([sys.executable, "-c", WITHOUT, "termios"], {}),
        ([sys.executable, "-c", WITHOUT, "prompt_toolkit"], {}),
    ],
    ids=["a dumb terminal", "without termios", "without the extra"],
)
def test_where_there_is_no_window_the_terminal_edits_the_line(
    room: Room, sit: Sit, command: list[str], env: dict[str, str]
) -> None:
    typist = sit([*command, *room.address], env=env)
    peer = room.accept()
    typist.wait(lambda: HINT not in command or b"keeps it whole" in typist.written)
    peer.say("Welcome\n")
    typist.wait(lambda: typist.screen.rows[-2:] == ["Welcome", ""])
    typist.type("one\n")
    assert peer.hear(4) == b"one\n"
    typist.wait(lambda: typist.screen.rows[-3:] == ["Welcome", "one", ""])
    assert (b"keeps it whole" in typist.written) == (HINT in command)
    assert b"\x1b" not in typist.written
    typist.type("\x04")
    assert peer.hear_all() == b""
    peer.close()
    assert typist.end() == 0


@pytest.mark.sample(1)
@pytest.mark.parametrize(("number", "code"), ENDINGS)
def test_a_signal_ends_it_though_nobody_reads_the_terminal_it_is_piped_to(
    room: Room, sit: Sit, number: signal.Signals, code: int
) -> None:
    typist = sit([*CLIENT, *room.address], stdin=subprocess.DEVNULL)
    fill(typist, room.accept())
    typist.process.send_signal(number)
    assert typist.end() == code


def test_a_signal_ends_it_though_the_terminal_does_not_take_why_it_ended(
    room: Room, sit: Sit
) -> None:
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    typist = sit([*CLIENT, *room.address], **streams)
    typist.type("\x13")  # Ctrl-S
    until(typist.is_stuck, "Ctrl-S stops the terminal")
    peer = room.accept()
    peer.socket.shutdown(socket.SHUT_WR)
    assert peer.hear_all() == b""

    # Again and again: one that comes while its handlers are being taken down is not heeded.
    def ended() -> bool:
        typist.process.send_signal(signal.SIGTERM)
        return typist.process.poll() is not None

    until(ended, "it ends")


def test_what_arrives_can_be_kept_while_one_types(room: Room, sit: Sit, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    with path.open("wb") as file:
        typist = sit([*CLIENT, *room.address], stdout=file)
    peer = room.accept()
    peer.say("Welcome\n")
    until(lambda: path.read_bytes() == b"Welcome\n", "the welcome is in the file")
    typist.type("one\n")
    assert peer.hear(4) == b"one\n"
    typist.type("\x04")
    # The room does not close: who leaves a terminal waits for it only so long.
    assert peer.hear_all() == b""
    assert typist.end() == 0
    assert typist.screen.rows == ["one", ""]
    assert path.read_bytes() == b"Welcome\n"


def test_who_pipes_something_in_sees_no_prompt(room: Room, sit: Sit) -> None:
    typist = sit([*CLIENT, *room.address], stdin=subprocess.DEVNULL)
    peer = room.accept()
    assert peer.hear_all() == b""
    peer.say("Welcome\n")
    peer.close()
    assert typist.end() == 0
    assert typist.written == b"Welcome\r\n"


# --- the program in a pipe -----------------------------------------------------------------------


@contextlib.contextmanager
def piped(
    room: Room, command: Sequence[str] = (), **options: Any
) -> Iterator[tuple[subprocess.Popen[bytes], Peer]]:
    """The client, started by `command` if need be, and the room's end of its connection."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running([*command, *CLIENT, *room.address], **(streams | options)) as process:
        yield process, room.accept()


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    """The exit code, what is left to read of standard output, and standard error."""
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


def test_what_is_piped_in_is_sent_as_it_is(room: Room) -> None:
    with piped(room) as (process, peer):
        put(process, b"one\r\n\xff\x1b\n")
        assert peer.hear(7) == b"one\r\n\xff\x1b"[:7]
        put(process, b"no end", last=True)
        assert peer.hear_all() == b"\nno end"
        peer.say("<::1>still there\n")
        peer.close()
        assert end(process) == (0, b"<::1>still there\n", "")


@pytest.mark.parametrize("content", [b"", b"one\ntwo\n"], ids=["empty", "lines"])
def test_a_file_is_sent(room: Room, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(content)
    with path.open("rb") as file, piped(room, stdin=file) as (process, peer):
        assert peer.hear_all() == content
        peer.say("answer\n")
        peer.close()
        assert end(process) == (0, b"answer\n", "")


def test_without_input_it_listens(room: Room) -> None:
    with piped(room, stdin=subprocess.DEVNULL) as (process, peer):
        assert peer.hear_all() == b""
        peer.say("one\n")
        assert read_until(process, b"\n") == b"one\n"
        peer.close()
        assert end(process) == (0, b"", "")


def test_what_arrives_is_shown_as_it_comes(room: Room) -> None:
    with piped(room) as (process, peer):
        peer.say("one")
        assert read_until(process, b"one") == b"one"
        peer.say("\ntwo\n")
        assert read_until(process, b"two\n") == b"\ntwo\n"


def test_what_arrives_is_safe_to_show(room: Room) -> None:
    with piped(room, stdin=subprocess.DEVNULL) as (process, peer):
        peer.hear_all()
        peer.say("a\x00\x1b[2Jb\x7f\x85\u202e\u2028\r\n\tx".encode() + b"\xff\xe4\xbd")
        peer.close()
        shown = "a␀␛[2Jb␡\ufffd\ufffd\ufffd␍\n\tx\ufffd\ufffd"
        assert end(process) == (0, shown.encode(), "")


def test_a_slow_room_gets_all_of_it(room: Room, tmp_path: Path) -> None:
    lines = b"".join(b"%063d\n" % number for number in range(80_000))
    path = tmp_path / "lines"
    path.write_bytes(lines)
    room.narrow()
    with path.open("rb") as file, piped(room, stdin=file) as (process, peer):
        # It shows what arrives though what it sends is not taken.
        peer.say("one\n")
        assert read_until(process, b"\n") == b"one\n"
        heard = hashlib.sha256(peer.hear_all())
        assert heard.hexdigest() == hashlib.sha256(lines).hexdigest()
        peer.close()
        assert end(process) == (0, b"", "")


@pytest.mark.parametrize(
    ("cut", "why"),
    [(Peer.close, "closed by the server"), (Peer.reset, "Connection reset by peer")],
    ids=["closed", "reset"],
)
def test_a_connection_that_is_lost_before_all_was_sent_is_an_error(
    room: Room, cut: Callable[[Peer], None], why: str
) -> None:
    with piped(room) as (process, peer):
        peer.say("The room is full\n")
        assert read_until(process, b"\n") == b"The room is full\n"
        cut(peer)
        assert end(process) == (1, b"", f"chatroom.client: connection lost: {why}\n")


def test_a_connection_that_is_cut_after_all_was_sent_is_an_error(room: Room) -> None:
    with piped(room, stdin=subprocess.DEVNULL) as (process, peer):
        assert peer.hear_all() == b""
        peer.reset()
        why = "Connection reset by peer"
        assert end(process) == (1, b"", f"chatroom.client: connection lost: {why}\n")


def test_when_nobody_reads_its_output_it_ends_quietly(room: Room) -> None:
    with piped(room) as (process, peer):
        assert process.stdout is not None
        peer.say("one\n")
        assert read_until(process, b"\n") == b"one\n"
        process.stdout.close()
        peer.say("two\n")
        assert end(process) == (141, b"", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux")
def test_an_output_that_is_full_is_an_error(room: Room) -> None:
    with open("/dev/full", "wb") as full, piped(room, stdout=full) as (process, peer):
        peer.say("one\n")
        assert process.wait(PATIENCE) == 1
        assert process.stderr is not None
        said = process.stderr.read()
        assert said == b"chatroom.client: standard output: No space left on device\n"


def test_an_input_that_cannot_be_read_is_an_error(room: Room, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, piped(room, stdin=file) as (process, _):
        said = "chatroom.client: standard input: Bad file descriptor\n"
        assert end(process) == (1, b"", said)


def test_an_input_that_does_not_block_is_waited_for(room: Room) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        with piped(room, stdin=reader) as (process, peer):
            peer.say("one\n")
            assert read_until(process, b"\n") == b"one\n"
            os.write(writer, b"two\n")
            assert peer.hear(4) == b"two\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_an_output_that_is_closed_gets_nothing(room: Room) -> None:
    with piped(room, ["sh", "-c", 'exec "$@" >&-', "sh"]) as (process, peer):
        peer.say("for standard output\n")
        put(process, b"for the room\n", last=True)
        assert peer.hear_all() == b"for the room\n"
        peer.close()
        assert end(process) == (0, b"", "")


def test_an_output_that_nobody_reads_stops_nothing_else(room: Room) -> None:
    with piped(room) as (process, peer):
        peer.say("one\n")
        until(lambda: unread(process.stdout) > 0, "it shows the first line")
        # More than the pipe holds, and than is left in it: who wrote that at once would wait.
        peer.say(LINES * 2)
        until(lambda: unread(process.stdout) > 4, "it shows more")
        put(process, b"two\n")
        assert peer.hear(4) == b"two\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_a_signal_that_was_ignored_stays_so(room: Room) -> None:
    with piped(room, ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]) as (process, peer):
        peer.say("one\n")
        assert read_until(process, b"\n") == b"one\n"
        process.send_signal(signal.SIGHUP)
        put(process, b"two\n", last=True)
        assert peer.hear_all() == b"two\n"
        peer.close()
        assert end(process) == (0, b"", "")


# --- the session: what a real program can't be brought to do at will -----------------------------


class Ready:
    """Something that can always be read: input that brings this and then ends, or signals."""

    def __init__(self, *reads: bytes) -> None:
        self.left = [*reads, b""]
        self._socket, other = socket.socketpair()
        other.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes:
        return self.left.pop(0)

    take = read

    def close(self) -> None:
        self._socket.close()


class Never:
    """Something that can never be read."""

    def __init__(self) -> None:
        self._socket, self._other = socket.socketpair()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes:
        raise AssertionError

    take = read

    def close(self) -> None:
        self._socket.close()
        self._other.close()


class Asked(Never):
    """A signal, once it is asked for."""

    def ask(self, number: signal.Signals) -> None:
        self._other.send(bytes([number]))

    def take(self) -> bytes:
        return self._socket.recv(1)


class Enough(Exception):
    """The test has seen what it wanted to."""


class Refusing:
    """Is not ready after all when it is said to be, `refusals` times; then it is, or gives up."""

    refusals = 0
    gives_up = False

    def refuses(self) -> bool:
        if not self.refusals:
            return False
        self.refusals -= 1
        if self.gives_up and not self.refusals:
            raise Enough
        return True


class Connection(Refusing, socket.socket):
    """A connection to a room, which brings this before anything else.

    To ask it again after it has ended would be to ask for ever.
    """

    is_gone = False
    takes = CHUNK

    def __init__(self, *, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.brings: list[bytes] = []
        self.can_recv = self.can_send = True

    def recv(self, *arguments: int) -> bytes:
        assert self.can_recv
        if self.refuses():
            raise BlockingIOError
        data = self.brings.pop(0) if self.brings else super().recv(*arguments)
        self.can_recv = bool(data)
        return data

    def send(self, data: Any, *flags: int) -> int:
        assert self.can_send
        if self.refuses():
            raise BlockingIOError
        self.can_send = False
        taken = super().send(data[: self.takes], *flags)
        self.can_send = True
        return taken

    def shutdown(self, how: int) -> None:
        if self.is_gone:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        super().shutdown(how)


class Output(Refusing, io.FileIO):
    can_be_waited_for = True

    def fileno(self) -> int:
        assert self.can_be_waited_for
        return super().fileno()

    def write(self, data: Any) -> int:
        # None is what a raw file returns, though its type does not say so.
        return cast("int", None) if self.refuses() else super().write(data)


class Bench:
    """A session whose every part is in reach."""

    def __init__(self, path: Path) -> None:
        ours, theirs = socket.socketpair()
        self.peer = Peer(theirs)
        self.room = Connection(fileno=ours.detach())
        self.room.setblocking(False)
        self._path = path
        self.output = Output(path, "w")

    def run(
        self, source: Ready | Never, signals: Ready | Never, patience: float | None = None
    ) -> Ending:
        with contextlib.closing(source), contextlib.closing(signals):
            return Session(
                self.room,
                cast("Piped", source),
                self.output,
                cast("Signals", signals),
                patience=patience,
            ).run()

    @property
    def shown(self) -> bytes:
        return self._path.read_bytes()

    def close(self) -> None:
        self.output.close()
        self.room.close()
        self.peer.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with contextlib.closing(Bench(tmp_path / "output")) as bench:
        yield bench


@pytest.mark.parametrize("waits", [True, False], ids=["posix", "Windows"])
def test_what_is_not_ready_after_all_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    monkeypatch.setattr(session_module, "WAITS_FOR_FILES", waits)
    bench.output.can_be_waited_for = waits
    bench.room.refusals = bench.output.refusals = 5
    bench.peer.say(LINES)
    bench.peer.socket.shutdown(socket.SHUT_WR)
    assert bench.run(Never(), Never()) == Ending(1, "connection lost: closed by the server")
    assert bench.shown == LINES


def test_what_is_taken_in_part_is_sent_whole(bench: Bench) -> None:
    bench.room.takes = 5000
    assert bench.run(Ready(LINES[:16_000]), Never(), patience=0.0) == Ending(0)
    assert bench.peer.hear_all() == LINES[:16_000]


def test_no_more_is_read_from_the_user_than_the_room_takes(bench: Bench) -> None:
    source = Ready(*[LINES] * 10)
    bench.room.refusals, bench.room.gives_up = 100, True
    with pytest.raises(Enough):
        bench.run(source, Never())
    assert 11 - len(source.left) == FULL // CHUNK


def test_no_more_is_read_from_the_room_than_is_shown(bench: Bench) -> None:
    bench.room.brings = [LINES] * 10
    bench.peer.socket.shutdown(socket.SHUT_WR)
    bench.output.refusals, bench.output.gives_up = 100, True
    with pytest.raises(Enough):
        bench.run(Never(), Never())
    assert 10 - len(bench.room.brings) == FULL // CHUNK


def test_what_the_room_said_last_is_shown_though_it_takes_no_more(bench: Bench) -> None:
    bench.room.brings = [LINES, LINES, b"The room is full\n"]
    bench.peer.socket.shutdown(socket.SHUT_RDWR)
    assert bench.run(Ready(b"hello\n"), Never()) == Ending(1, "connection lost: Broken pipe")
    assert bench.shown == LINES + LINES + b"The room is full\n"


def test_a_room_that_is_gone_when_all_is_sent_may_not_have_got_it(bench: Bench) -> None:
    bench.room.brings = [LINES, LINES]
    bench.room.is_gone = True
    bench.peer.socket.shutdown(socket.SHUT_WR)
    why = os.strerror(errno.ENOTCONN)
    assert bench.run(Ready(), Never()) == Ending(1, f"connection lost: {why}")


def test_who_ends_what_has_ended_does_not_wait_for_the_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = Asked()

    def refused(_data: object) -> None:
        signals.ask(signal.SIGINT)

    monkeypatch.setattr(bench.output, "write", refused)
    bench.room.brings = [b"The room is full\n"]
    bench.peer.socket.shutdown(socket.SHUT_WR)
    assert bench.run(Never(), signals) == Ending(1)


def test_a_second_signal_ends_it_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "LAST_WORDS", 3600.0)
    bench.room.brings = [LINES]
    bench.peer.socket.shutdown(socket.SHUT_WR)
    bench.output.refusals = 1000
    signals = Ready(bytes([signal.SIGTERM]), bytes([signal.SIGINT]))
    assert bench.run(Never(), signals) == Ending(128 + signal.SIGTERM)
