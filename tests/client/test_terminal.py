"""Tests of the window at a terminal: the terminal's modes at the end, and an unread terminal.

The test acts as the room and as the terminal. The test may stop reading the terminal, or hang up.
"""

import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from tests.client.drivers import (
    CLIENT,
    ENDINGS,
    Peer,
    Room,
    StartTypist,
    Typist,
    fill,
    without_connecting_line,
)
from tests.integration.waiting import PATIENCE

#: Index of the local flags in the result of tcgetattr: line editing and echo.
LOCAL_FLAGS = 3


def shows(typist: Typist, text: str) -> None:
    typist.wait(lambda: any(text in row for row in typist.screen.rows))


@pytest.fixture
def typist(room: Room, start_typist: StartTypist) -> Typist:
    """Start a client and wait for its prompt; the screen is large, so each frame has many bytes."""
    typist = start_typist([*CLIENT, *room.address], columns=200, rows=60)
    shows(typist, "<You>")
    return typist


@pytest.fixture
def peer(room: Room, typist: Typist) -> Peer:
    return room.accept()


@pytest.mark.sample(2)
@pytest.mark.parametrize(("number", "code"), ENDINGS)
def test_a_signal_ends_the_client_and_restores_the_terminal(
    typist: Typist, number: signal.Signals, code: int
) -> None:
    assert typist.modes() != typist.found
    typist.process.send_signal(number)
    assert typist.end() == code
    assert typist.modes() == typist.found


def test_ctrl_d_leaves_after_the_sent_text_has_arrived(typist: Typist, peer: Peer) -> None:
    typist.type("last\r\x04")
    assert peer.receive_all() == b"last\n"
    peer.send("<::1>goodbye\n")
    peer.close()
    assert typist.end() == 0
    assert b"goodbye" in typist.written
    assert typist.modes() == typist.found


def test_ctrl_d_in_a_line_does_not_leave(typist: Typist, peer: Peer) -> None:
    typist.type("ab\x01\x04\r")
    assert peer.receive(2) == b"b\n"


def test_leaving_waits_for_the_room_only_for_a_limited_time(typist: Typist, peer: Peer) -> None:
    typist.type("\x04")
    assert typist.end() == 0
    assert peer.receive_all() == b""


def test_a_reset_while_leaving_is_not_an_error(typist: Typist, peer: Peer) -> None:
    typist.type("\x03")
    assert peer.receive_all() == b""
    peer.reset()
    assert typist.end() == 0


def test_a_terminal_that_hangs_up_ends_the_client(typist: Typist, peer: Peer) -> None:
    typist.hang_up()
    assert peer.receive_all() == b""
    assert typist.process.wait(PATIENCE) == 129


@pytest.mark.sample(1)
@pytest.mark.parametrize(("number", "code"), ENDINGS)
def test_a_signal_ends_the_client_while_the_terminal_is_not_read(
    typist: Typist, peer: Peer, number: signal.Signals, code: int
) -> None:
    fill(typist, peer)
    typist.process.send_signal(number)
    assert typist.end() == code
    assert typist.modes() == typist.found


@pytest.mark.sample(1)
@pytest.mark.parametrize("key", ["\x04", "\x03"], ids=["Ctrl-D", "Ctrl-C"])
def test_a_key_ends_the_client_while_the_terminal_is_not_read(
    typist: Typist, peer: Peer, key: str
) -> None:
    fill(typist, peer)
    typist.type(key)
    assert typist.end() == 0
    assert typist.modes() == typist.found


def test_a_terminal_that_is_read_again_shows_the_latest_state(typist: Typist, peer: Peer) -> None:
    fill(typist, peer)
    peer.send("<::1>the last\n")
    typist.type("typed\r")
    assert peer.receive(6) == b"typed\n"
    shows(typist, "<::1>the last")
    typist.type("more\r")
    shows(typist, "<You>more")


# After `su`, the terminal belongs to another user, and the client can't open it by its name. If the
# terminal is also not the controlling one, the client can write only to the open file that it
# shares with other programs.
NAMELESS = """
import os, sys
def refused(_descriptor):
    raise PermissionError
for name in sys.argv.pop(1).split():
    setattr(os, name, refused)
from chatroom.client.command import main
sys.exit(main())
"""


def test_an_unread_terminal_without_a_name_does_not_block_leaving(
    room: Room, start_typist: StartTypist
) -> None:
    command = [sys.executable, "-c", NAMELESS, "ttyname", *room.address]
    typist = start_typist(command, columns=200, rows=60)
    shows(typist, "<You>")
    fill(typist, room.accept())
    typist.type("\x04")
    assert typist.end() == 0
    assert typist.modes() == typist.found


def test_a_terminal_that_cannot_be_opened_is_still_written_to(
    room: Room, start_typist: StartTypist
) -> None:
    typist = start_typist([sys.executable, "-c", NAMELESS, "ttyname tcgetpgrp", *room.address])
    shows(typist, "<You>")
    room.accept().send("one\n")
    shows(typist, "one")
    typist.type("\x04")
    assert typist.end() == 0


def test_the_terminal_stays_blocking_for_other_programs(typist: Typist, peer: Peer) -> None:
    peer.send("one\n")
    shows(typist, "one")
    assert typist.is_blocking()


def test_a_terminal_without_a_size_counts_as_80_by_24(
    room: Room, start_typist: StartTypist
) -> None:
    typist = start_typist([*CLIENT, *room.address], columns=80, rows=24, says_size=False)
    shows(typist, "<You>")
    room.accept().send("a" * 79 + " " + "b" * 10 + "\n")
    typist.wait(lambda: {"a" * 79, "  " + "b" * 10} <= set(typist.screen.rows))
    assert typist.screen.rows[-1] == "<You>"


def test_a_character_in_two_pieces_is_shown_whole(typist: Typist, peer: Peer) -> None:
    peer.send(b"<::1>a\xe4\xbd")
    shows(typist, "<::1>a")
    peer.send(b"\xa0b \xff")
    shows(typist, "a你b �")
    peer.send(" end")
    shows(typist, "<::1>a你b � end")


def test_control_characters_do_not_reach_the_terminal(typist: Typist, peer: Peer) -> None:
    """Prove TEXT-3 in the client, for a room that sends control characters."""
    peer.send("<::1>a\x1b]0;evil\x07\rb\x9b2J\u202e\u2066c\n")
    shows(typist, "<::1>a␛]0;evil␇␍b\ufffd2J\ufffd\ufffdc")
    assert b"\x1b]0;evil" not in typist.written


def has_link(typist: Typist, text: str, url: str) -> bool:
    """Return True if the text was written as a link (OSC 8) to the URL."""
    written = re.sub(rb"\x1b\[[0-9;]*m", b"", typist.written)
    return f"\x1b]8;id=1;{url}\x1b\\{text}\x1b]8;;\x1b\\".encode() in written


@pytest.mark.parametrize(("term", "linked"), [("xterm", True), ("linux", False)])
def test_a_url_is_a_link_where_the_terminal_has_links(
    room: Room, start_typist: StartTypist, term: str, linked: bool
) -> None:
    typist = start_typist([*CLIENT, *room.address], columns=30, env={"TERM": term})
    peer = room.accept()
    peer.send("Welcome\n<::1>see http://a.example/b, or\n")
    shows(typist, "<::1>see http://a.example/b,")
    typist.wait(lambda: b"<You>" in typist.written)
    assert has_link(typist, "http://a.example/b", "http://a.example/b") == linked


def test_each_row_of_a_url_links_to_the_whole_url(room: Room, start_typist: StartTypist) -> None:
    typist = start_typist([*CLIENT, *room.address], columns=30)
    peer = room.accept()
    url = "http://a.example/" + "b" * 13 + "c" * 5
    peer.send(f"Welcome\n<::1>{url}\n")
    shows(typist, "c" * 5)
    assert has_link(typist, "http://a.example/bbbbbbbb", url)
    assert has_link(typist, "bbbbbccccc", url)
    assert typist.screen.rows[-3] == "bbbbbccccc"


@pytest.mark.parametrize(
    ("cut", "why"),
    [(Peer.close, "closed by the server"), (Peer.reset, "Connection reset by peer")],
    ids=["closed", "reset"],
)
def test_a_lost_connection_is_reported(
    room: Room, start_typist: StartTypist, cut: Callable[[Peer], None], why: str
) -> None:
    typist = start_typist([*CLIENT, "--no-reconnect", *room.address])
    peer = room.accept()
    peer.send("Welcome\n")
    shows(typist, "Welcome")
    cut(peer)
    assert typist.end() == 1
    rows = [row.rstrip() for row in typist.screen.rows]
    assert f"python -m chatroom.client: connection lost: {why}" in "".join(rows), rows
    assert typist.modes() == typist.found


def test_a_refused_connection_is_reported_in_one_line(start_typist: StartTypist) -> None:
    with socket.socket() as silent:  # This socket is bound but does not listen.
        silent.bind(("127.0.0.1", 0))
        port = str(silent.getsockname()[1])
        typist = start_typist([*CLIENT, "localhost", port], columns=100)
        assert typist.end() == 1
    said = f"python -m chatroom.client: cannot connect to localhost:{port}: Connection refused"
    assert without_connecting_line("\n".join(typist.screen.rows)) == f"{said}\n"


# A client whose name server answers the first request and no other.
UNRESOLVED = """
import socket, sys, threading
answer = [socket.getaddrinfo]
def getaddrinfo(*arguments, **options):
    if answer:
        return answer.pop()(*arguments, **options)
    threading.Event().wait()
socket.getaddrinfo = getaddrinfo
from chatroom.client.command import main
sys.exit(main())
"""


def test_leaving_does_not_wait_for_a_name_server(room: Room, start_typist: StartTypist) -> None:
    typist = start_typist([sys.executable, "-c", UNRESOLVED, *room.address])
    room.accept().close()
    shows(typist, "trying again now")
    typist.type("\x03")
    assert typist.end() == 0


def test_a_slow_connection_attempt_is_announced(start_typist: StartTypist) -> None:
    program = UNRESOLVED.replace("[socket.getaddrinfo]", "[]")
    typist = start_typist([sys.executable, "-c", program, "localhost", "4000"])
    shows(typist, "python -m chatroom.client: connecting to localhost:4000 …")
    typist.type("\x03")
    assert typist.end() == 0


# A shell that runs one job. When the job stops, the shell sets the terminal's modes, waits for
# Enter and continues the job. Like other shells, this one does not set the job's modes again.
SHELL = """
import os, signal, subprocess, sys, termios
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
modes = termios.tcgetattr(0)
job = subprocess.Popen(sys.argv[1:], process_group=0)
while True:
    os.tcsetpgrp(0, job.pid)
    _, status = os.waitpid(job.pid, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        os._exit(os.waitstatus_to_exitcode(status))
    termios.tcsetattr(0, termios.TCSADRAIN, modes)
    input(" stopped ")
    os.tcsetpgrp(0, job.pid)
    os.killpg(job.pid, signal.SIGCONT)
"""


def stopped(typist: Typist, times: int) -> None:
    typist.wait(lambda: typist.written.count(b" stopped ") == times)


def job(typist: Typist) -> int:
    """Return the id of the process that the shell runs."""
    shell = typist.process.pid
    return int(Path(f"/proc/{shell}/task/{shell}/children").read_text())


@pytest.mark.sample(2)
@pytest.mark.parametrize("how", ["Ctrl-Z", signal.SIGTSTP, signal.SIGSTOP], ids=str)
def test_the_client_can_be_stopped_and_continued(
    room: Room, start_typist: StartTypist, how: Literal["Ctrl-Z"] | signal.Signals
) -> None:
    typist = start_typist([sys.executable, "-c", SHELL, *CLIENT, *room.address])
    shows(typist, "<You>")
    peer = room.accept()
    typist.type("half")
    shows(typist, "<You>half")
    for number in range(2):
        if how == "Ctrl-Z":
            typist.type("\x1a")
        else:
            os.kill(job(typist), how)
        stopped(typist, number + 1)
        # Only the local flags are compared, because prompt_toolkit does not restore all modes.
        assert typist.modes()[LOCAL_FLAGS] == typist.found[LOCAL_FLAGS]
        typist.type("\n")
        peer.send(f"<::1>{number}\n")
        shows(typist, f"<::1>{number}")
        typist.wait(lambda: not any("stopped" in row for row in typist.screen.rows))
        assert typist.modes()[LOCAL_FLAGS] != typist.found[LOCAL_FLAGS]
    typist.type(" a line\r\x04")
    assert peer.receive_all() == b"half a line\n"
    peer.close()
    assert typist.end() == 0
    assert typist.modes() == typist.found
