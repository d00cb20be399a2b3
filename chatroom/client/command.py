"""The command line: parse the arguments, run the client, and return an exit code."""

import argparse
import asyncio
import importlib.util
import os
import re
import signal
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from typing import TextIO

import chatroom
from chatroom.arguments import Parser, argument_type, port_number
from chatroom.client.address import UNCHECKED, RoomAddress, reason, tls_context
from chatroom.client.connection import Connection
from chatroom.client.session import PATIENCE, Ending, Session
from chatroom.client.signals import ENDING, handle_signals
from chatroom.client.streams import STDIN, STDOUT, Input, Output, open_closed_streams
from chatroom.client.text import at_terminal
from chatroom.protocol.text import printable

NAME = "python -m chatroom.client"

WITHOUT_EXTRA = "messages will interrupt the line you type; to prevent this, install prompt_toolkit"

#: Options that need the window.
WINDOW_OPTIONS = ("time", "bell", "mouse", "name", "log")

#: Seconds after which a client at a terminal shows that it is still connecting.
CONNECTING_AFTER = 1.0

EPILOG = """\
At a terminal, with prompt_toolkit (pip install prompt_toolkit):
  Enter               send the line; each line of a paste is a message
  Up, Down            recall lines that you sent
  PageUp, PageDown    scroll; to return, send a line, or press End at the end of the typed line
  Ctrl-R              find the last line that contains the typed text; again: find an earlier line
  Ctrl-C              leave; also Ctrl-D on an empty line
  /help               list the commands; //text sends /text
Other editing keys of Emacs and shells work, except Ctrl-O and Esc-#. NO_COLOR in the environment
disables colours. If the connection is lost, the client reconnects after about 1, 2, 4 … 30 seconds,
or at Enter; after a kick or a ban it ends.

Otherwise, the client sends standard input, and prints messages until the server closes:
  echo hello | python -m chatroom.client 127.0.0.1 4000
With --listen, it only prints messages, until the server closes or you press Ctrl-C.

Exit code: 0 if you left or the input ended; 1 if the connection failed or was lost; 2 if an
argument is invalid.
"""


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog=NAME,
        usage=f"{NAME} [options] HOST PORT",
        description="Join the chatroom at HOST:PORT.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("host", metavar="HOST", type=_host, help="name or address of the server")
    port = argument_type(partial(port_number, least=1))
    made.add_argument("port", metavar="PORT", type=port, help="port of the server, 1 to 65535")
    made.add_argument("--version", action="version", version=f"chatroom {chatroom.__version__}")
    made.add_argument(
        "--listen",
        action="store_true",
        help="only print messages, without a window; standard input is not read",
    )
    window = made.add_argument_group("at a terminal, with prompt_toolkit")
    window.add_argument("--time", action="store_true", help="show the time of each line")
    window.add_argument(
        "--bell", action="store_true", help="ring the terminal bell for each message"
    )
    window.add_argument(
        "--mouse",
        action="store_true",
        help="scroll with the wheel; to select text, hold Shift",
    )
    window.add_argument(
        "--name", metavar="NAME", default="", help="highlight lines that contain NAME"
    )
    window.add_argument("--log", metavar="FILE", help="append the conversation to FILE")
    window.add_argument(
        "--no-reconnect", action="store_true", help="exit when the connection is lost"
    )
    encrypted = made.add_argument_group("for a room behind a TLS proxy")
    encrypted.add_argument("--tls", action="store_true", help="use TLS")
    encrypted.add_argument(
        "--cafile",
        metavar="FILE",
        help="trust the certificates in FILE (PEM) instead of the system's",
    )
    encrypted.add_argument(
        "--insecure",
        action="store_true",
        help="do not verify the server's certificate, and warn about it",
    )
    return made


def _host(text: str) -> str:
    """Convert a host name or an address, which may be in brackets as in URLs.

    Raises ArgumentTypeError if a port follows.
    """
    found = re.fullmatch(r"(?:\[(?P<bracketed>.+)\]|(?P<plain>[^:]+))(?::(?P<port>\d+))?", text)
    if not found:
        return text
    host: str = found["bracketed"] or found["plain"]
    if found["port"]:
        raise argparse.ArgumentTypeError(f"put a space before the port: {host} {found['port']}")
    return host


def _room_address(command: argparse.ArgumentParser, options: argparse.Namespace) -> RoomAddress:
    for name in "cafile", "insecure":
        if getattr(options, name) and not options.tls:
            command.error(f"argument --{name}: requires --tls")
    if options.cafile and options.insecure:
        command.error("argument --cafile: not allowed with --insecure")
    if not options.tls:
        return RoomAddress(options.host, options.port)
    try:
        context = tls_context(options.cafile, insecure=options.insecure)
    except OSError as error:
        no_pem = isinstance(error, ssl.SSLError)
        why = "it contains no certificate" if no_pem else reason(error)
        command.error(f"argument --cafile: {options.cafile}: {why}")
    return RoomAddress(options.host, options.port, context)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the client and return its exit code.

    `arguments`: arguments of the command line; None for the arguments of this process.
    """
    command = parser()
    options = command.parse_args(arguments)
    open_closed_streams()
    address = _room_address(command, options)
    try:
        if address.unchecked:
            _print_message(UNCHECKED)
        window = _has_window() and not options.listen
        with _open_log(command, options.log if window else None) as log:
            ending = asyncio.run(_chat(address, options, window=window, log=log))
    except KeyboardInterrupt:  # Ctrl-C while connecting.
        return 0
    if ending.message:
        _print_at_exit(ending.message)
    return ending.code


@contextmanager
def _open_log(command: argparse.ArgumentParser, name: str | None) -> Iterator[TextIO | None]:
    """Open the file of --log, if there is one. If that fails, end the process with exit code 2."""
    if name is None:
        yield None
        return
    try:
        log = open(name, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a null character.
        command.error(f"argument --log: {name}: {reason(error)}")
    try:
        yield log
    finally:
        with suppress(OSError):  # `close` repeats a write whose failure was reported already.
            log.close()


def _has_terminal() -> bool:
    return os.isatty(STDIN) and os.isatty(STDOUT)


def _has_window() -> bool:
    """Return True if a window can be shown.

    Windows has no termios, and a dumb terminal can't erase text.
    """
    return (
        _has_terminal()
        and os.environ.get("TERM") != "dumb"
        and all(importlib.util.find_spec(name) for name in ("termios", "prompt_toolkit"))
    )


async def _chat(
    address: RoomAddress, options: argparse.Namespace, *, window: bool, log: TextIO | None
) -> Ending:
    loop = asyncio.get_running_loop()
    if window:
        text = f"connecting to {address} …"
        waiting = loop.call_later(CONNECTING_AFTER, _print_message, text)
    elif idle := [f"--{name}" for name in WINDOW_OPTIONS if getattr(options, name)]:
        where = "without --listen" if options.listen else "at a terminal, with prompt_toolkit"
        _print_message(f"{', '.join(idle)}: only {where}")
    try:
        room = await address.connect()
    except (OSError, UnicodeError) as error:  # UnicodeError: an invalid host name.
        return Ending(1, f"cannot connect to {address}: {reason(error)}")
    finally:
        if window:
            waiting.cancel()
    if not window:
        return await _plain(room, listen=options.listen)

    from chatroom.client.view.run import run

    return await run(
        address,
        room,
        clock=options.time,
        bell=options.bell,
        mouse=options.mouse,
        reconnect=not options.no_reconnect,
        nickname=options.name,
        log=log,
    )


async def _plain(room: Connection, *, listen: bool) -> Ending:
    if _has_terminal() and not listen and not importlib.util.find_spec("prompt_toolkit"):
        _print_message(WITHOUT_EXTRA)
    # A user at a terminal leaves with Ctrl-D and must not wait for a room that hangs.
    patience = PATIENCE if os.isatty(STDIN) else None
    with closing(room), closing(Output()) as output, ExitStack() as stack:
        source = None if listen else stack.enter_context(closing(Input()))
        show = at_terminal() if os.isatty(STDOUT) else printable
        session = Session(room, source, output, patience=patience, show=show)
        handle_signals({number: partial(session.on_signal, number) for number in ENDING})
        return await session.run()


def _print_at_exit(message: str) -> None:
    # Writing may block if the terminal is not read. Nothing is left to clean up, so from now on a
    # signal ends the process.
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    _print_message(message)


def _print_message(message: str) -> None:
    # If standard error or its terminal is closed, the message is dropped.
    if sys.stderr:
        with suppress(OSError):
            print(f"{NAME}: {message}", file=sys.stderr, flush=True)
