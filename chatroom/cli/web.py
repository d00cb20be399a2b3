"""`python -m chatroom.web`: serve a page on which browsers can join a room, or several rooms.

Exit codes: 0 stopped by SIGINT or SIGTERM, 1 the gateway can't run, 2 wrong arguments.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from chatroom.arguments import Parser, argument_type, path
from chatroom.config.options import OPTIONS
from chatroom.errors import ChatroomError, WebError
from chatroom.logs import Formatter
from chatroom.system.endpoint import Endpoint
from chatroom.system.networks import parse_network

KEEP = next(option for option in OPTIONS if option.name == "web_keep")
"""The room's option --web-keep. --keep has the same default and the same bounds."""
PROCESSES = next(option for option in OPTIONS if option.name == "web_processes")
"""The room's option --web-processes. --processes has the same default and the same bounds."""


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m chatroom.web",
        description="Serve a page on which browsers can join a room.",
        epilog="Ctrl-C or SIGTERM stops the gateway. SIGHUP reads the certificate again. A room"
        " can also serve the page itself: python -m chatroom --web HOST:PORT.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add(
        "--room",
        type=argument_type(_rooms),
        metavar="HOST:PORT[,…]",
        required=True,
        help="room; if several are given, the first that answers is used for new members",
    )
    add(
        "--listen",
        type=argument_type(_address),
        metavar="HOST:PORT",
        help="serve the page at this address",
    )
    add(
        "--tls",
        type=argument_type(_address),
        metavar="HOST:PORT",
        help="serve line clients over TLS at this address",
    )
    add("--cert", type=argument_type(path), metavar="FILE", help="certificate (PEM)")
    add("--key", type=argument_type(path), metavar="FILE", help="private key (PEM)")
    add(
        "--origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="another site whose pages may join, such as https://example.org; repeatable",
    )
    add(
        "--proxy-from",
        type=argument_type(parse_network),
        action="append",
        default=[],
        metavar="NETWORK",
        help="address or network of a trusted reverse proxy; the proxy names the browser's address"
        " in X-Forwarded-For or Forwarded; repeatable",
    )
    add(
        "--proxy-protocol",
        action="store_true",
        help="send the browser's address to the room in a PROXY header; the room needs"
        " --proxy-protocol and --proxy-from",
    )
    add(
        "--keep",
        type=argument_type(_keep),
        default=KEEP.default,
        metavar="SECONDS",
        help="time for which a browser without a connection remains a member (default: 60)",
    )
    add(
        "--processes",
        type=argument_type(_processes),
        default=PROCESSES.default,
        metavar="N",
        help="number of processes that serve the page and line clients over TLS (default: 1)",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a gateway until it is stopped, then end the process with an exit code."""
    command = parser()
    options = command.parse_args(arguments)
    if not (options.listen or options.tls):
        command.error("give --listen HOST:PORT, the address of the page, or --tls HOST:PORT")
    if bool(options.cert) != bool(options.key):
        command.error("--cert and --key must be given together")
    if options.tls and not options.cert:
        command.error("--tls needs --cert and --key")
    try:
        _validate_origins(options.origin)
    except ValueError as error:
        command.error(f"argument --origin: must be {error}")
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("text"))
    logging.basicConfig(handlers=[handler])
    try:
        _run(options)
    except ChatroomError as error:
        command.exit(error.exit_code, f"{command.prog}: {error}\n")
    sys.exit(0)


def _run(options: argparse.Namespace) -> None:
    """Listen, then serve. Raises ChatroomError."""
    if find_spec("websockets") is None:
        raise WebError("websockets is not installed: pip install 'chatroom[web]'")
    from chatroom.config.settings import Settings
    from chatroom.sidecars.web.process import Rooms
    from chatroom.supervisor.web import Addresses
    from chatroom.supervisor.web_alone import run

    settings = Settings(
        web=options.listen,
        web_cert=options.cert,
        web_key=options.key,
        web_origin=tuple(options.origin),
        web_proxy_from=tuple(options.proxy_from),
        web_keep=options.keep,
        web_processes=options.processes,
    )

    def on_listening(where: list[str]) -> None:
        print(*where, sep="\n", flush=True)

    rooms = Rooms(tuple(options.room), options.proxy_protocol)
    run(settings, Addresses(options.listen, options.tls), rooms, on_listening)


def _address(text: str) -> Endpoint:
    found = Endpoint.parse(text)
    if found.path:
        raise ValueError("HOST:PORT")
    return found


def _rooms(text: str) -> list[Endpoint]:
    return [_address(part) for part in text.split(",")]


def _keep(text: str) -> float:
    value: float = KEEP.parse(text)
    KEEP.check(value)
    return value


def _processes(text: str) -> int:
    value: int = PROCESSES.parse(text)
    PROCESSES.check(value)
    return value


def _validate_origins(origins: Sequence[str]) -> None:
    row = next(option for option in OPTIONS if option.name == "web_origin")
    row.check(tuple(origins))
