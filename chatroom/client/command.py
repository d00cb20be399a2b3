"""The command line: arguments in; an exit code, and at most one line of error, out."""

import argparse
import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial

import chatroom
from chatroom.arguments import Parser, port
from chatroom.client.front import Plain, Prompt
from chatroom.client.session import Ending, Handlers, Session, reason
from chatroom.client.signals import ENDING, Signals
from chatroom.client.streams import STDIN, STDOUT, Piped, hold_places, output

NAME = "chatroom.client"

#: Seconds for each of a host's addresses to answer.
CONNECT_TIMEOUT = 10.0
#: Seconds that the room has to close after a user at a terminal left.
PATIENCE = 1.0

EPILOG = """\
At a terminal:
  Enter             send the line
  Backspace         take back a character; Ctrl-W: a word; Ctrl-U: the line
  Ctrl-D, Ctrl-C    leave

What is piped in is sent, and what arrives is shown until the server closes:
  echo hello | python -m chatroom.client 127.0.0.1 4000

Exit code: 0 after you left; 1 if there is no connection, or it was lost; 2 for wrong arguments.
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=NAME,
        usage=f"python -m {NAME} [--help] [--version] HOST PORT",
        description="Join the chatroom at HOST:PORT.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("host", metavar="HOST", help="name or address of the server")
    parser.add_argument(
        "port", metavar="PORT", type=partial(port, least=1), help="its port, 1 to 65535"
    )
    parser.add_argument("--version", action="version", version=f"chatroom {chatroom.__version__}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the client with these arguments, or those of the command line; return its exit code."""
    options = _parser().parse_args(arguments)
    hold_places()
    try:
        ending = _join(options.host, options.port)
    except KeyboardInterrupt:  # While it was connecting.
        return 0
    if ending.words and sys.stderr:
        _complain(ending.words)
    return ending.code


def _join(host: str, port: int) -> Ending:
    try:
        room = socket.create_connection((host, port), CONNECT_TIMEOUT)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host looks like this.
        return Ending(1, f"cannot connect to {host}:{port}: {reason(error)}")
    with room:
        room.setblocking(False)
        # A line is sent when Enter is pressed, not when the one before it was acknowledged.
        room.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _at_terminal(room) if _has_terminal() else _off_terminal(room)


def _has_terminal() -> bool:
    """Whether a line can be edited here. (Windows has no termios; a dumb terminal can't erase.)"""
    return (
        importlib.util.find_spec("termios") is not None
        and os.isatty(STDIN)
        and os.isatty(STDOUT)
        and os.environ.get("TERM") != "dumb"
    )


def _at_terminal(room: socket.socket) -> Ending:
    from chatroom.client.terminal import Terminal

    terminal = Terminal()
    prompt = Prompt(*terminal.size())

    def resized() -> str:
        return prompt.resized(*terminal.size())

    def stopped() -> str:
        terminal.suspend()
        return ""

    def continued() -> str:
        terminal.enter()
        return prompt.resumed(*terminal.size())

    handlers: Handlers = {
        signal.SIGWINCH: resized,
        signal.SIGTSTP: stopped,
        signal.SIGCONT: continued,
    }
    # In this order: a signal must find its handler in place before it finds the terminal changed.
    with output() as shown, Signals([*ENDING, *handlers]) as signals, terminal:
        session = Session(room, terminal, shown, prompt, signals, handlers, patience=PATIENCE)
        return session.run()


def _off_terminal(room: socket.socket) -> Ending:
    # At a terminal that can't be edited on, one leaves with Ctrl-D all the same.
    patience = PATIENCE if os.isatty(STDIN) else None
    with output() as shown, Signals(ENDING) as signals, closing(Piped()) as piped:
        session = Session(room, piped, shown, Plain(), signals, {}, patience=patience)
        return session.run()


def _complain(words: str) -> None:
    # It may have to wait for its reader. Nothing is left to be put in order by then: a signal ends
    # us as it would any program.
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    # Standard error may be closed, or the terminal behind it gone: then there is nobody to tell.
    with suppress(OSError):
        print(f"{NAME}: {words}", file=sys.stderr, flush=True)
