"""The command line of the server: from arguments to settings, from errors to exit codes.

Exit codes: 0 stopped by SIGINT or SIGTERM, 1 it can't run here, 2 wrong
arguments, variables or configuration file (sources.py). Errors are one line on
standard error, behind what was logged there.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from chatroom import __version__
from chatroom.arguments import Parser, argument_type, path, port, seconds, whole
from chatroom.config import sources
from chatroom.config.settings import MAX_WORKERS, Settings, format_size, size
from chatroom.errors import ChatroomError, ConfigError
from chatroom.logs import FORMATS, Event, Formatter
from chatroom.supervisor import supervisor
from chatroom.supervisor.console import Console, descriptor
from chatroom.system.doorbell import Doorbell
from chatroom.system.endpoint import Endpoint
from chatroom.system.networks import parse_network
from chatroom.system.systemd import SystemdNotifier, inherited

logger = logging.getLogger(__name__)


def usable_cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m chatroom",
        description="A chatroom over TCP: anyone with nc can join.",
        epilog="SIZE is in bytes and may end in K, M or G. Ctrl-C, or SIGTERM, stops the room.",
        allow_abbrev=False,
    )
    add = made.add_argument
    default = Settings()
    add("host", metavar="HOST", nargs="?", help="name or address to listen on, IPv4 or IPv6")
    add("port", metavar="PORT", nargs="?", help="port to listen on; 0 picks a free one")
    add(
        "--listen",
        type=argument_type(Endpoint.parse),
        metavar="ADDRESS",
        action="append",
        default=[],
        help="listen there, too: HOST:PORT, [IPV6]:PORT or unix:PATH; may be given again, and then"
        " HOST PORT may be left out, as where a service manager hands sockets over",
    )
    add(
        "--workers",
        type=whole,
        metavar="N",
        default=min(usable_cores(), MAX_WORKERS),
        help="processes that serve members (default: one for each usable core, here %(default)s)",
    )
    add(
        "--welcome",
        metavar="TEXT",
        default=default.welcome,
        help="the line that greets a newcomer (default: %(default)s)",
    )
    add(
        "--prefix",
        metavar="FORMAT",
        default=default.prefix,
        help="what stands before each message; {ip}, {port} and {id} are the sender's"
        " (default: %(default)s)",
    )
    add(
        "--max-clients",
        type=whole,
        metavar="N",
        default=default.max_clients,
        help="members that the room holds, if descriptors allow (default: %(default)s)",
    )
    add(
        "--max-clients-per-address",
        type=whole,
        metavar="N",
        default=default.max_clients_per_address,
        help="of those, from one address (default: 0, as many as the room holds)",
    )
    add(
        "--max-line",
        type=argument_type(size),
        metavar="SIZE",
        default=default.max_line,
        help=f"longest line; a longer one is cut (default: {format_size(default.max_line)})",
    )
    add(
        "--flush-after",
        type=seconds,
        metavar="SECONDS",
        default=default.flush_after,
        help="silence after which text without line end is delivered (default: %(default)s)",
    )
    add(
        "--max-lag",
        type=argument_type(size),
        metavar="SIZE",
        default=default.max_lag,
        help="how far a slow reader may lag before it is disconnected"
        f" (default: {format_size(default.max_lag)}); very many tiny messages count too"
        f" ({default.max_lag_entries:,} runs of messages by default)",
    )
    add(
        "--log-size",
        type=argument_type(size),
        metavar="SIZE",
        default=default.log_size,
        help=f"memory for messages on their way (default: {format_size(default.log_size)})",
    )
    add(
        "--rate",
        type=argument_type(size),
        metavar="SIZE",
        default=default.rate,
        help="how much is read from a member in a second, in the long run; who sends more is read"
        f" from more slowly, and 0 is no limit (default: {format_size(default.rate)})",
    )
    add(
        "--burst",
        type=argument_type(size),
        metavar="SIZE",
        default=default.burst,
        help="how much a member may send before that counts"
        f" (default: {format_size(default.burst)})",
    )
    add(
        "--peer-timeout",
        type=whole,
        metavar="SECONDS",
        default=default.peer_timeout,
        help="a member whose machine shows no sign of life for so long, or whose window stays full,"
        " is disconnected; 0: as the system has it (default: %(default)s)",
    )
    add(
        "--watchdog",
        type=seconds,
        metavar="SECONDS",
        default=default.watchdog,
        help="a worker, or the process that writes a transcript, that makes no progress for so long"
        " is replaced; 0: it is waited for"
        " (default: %(default)g)",
    )
    add(
        "--proxy-protocol",
        action="store_true",
        help="who comes from the addresses of --proxy-from is a proxy (HAProxy, nginx, stunnel),"
        " and says first for whom it comes, by the PROXY protocol, version 1 or 2",
    )
    add(
        "--proxy-from",
        type=argument_type(parse_network),
        metavar="NETWORK",
        action="append",
        default=[],
        help="an address, a network such as 10.0.0.0/8, or unix: who comes by a Unix socket; may be"
        " given again",
    )
    add(
        "--run-dir",
        type=path,
        metavar="FOLDER",
        help="where `python -m chatroom.status` and `.admin` find the room; it has to be this"
        " user's alone (default: a folder of $XDG_RUNTIME_DIR, or of the one for temporary files)",
    )
    add(
        "--config",
        type=path,
        metavar="FILE",
        help="a file of TOML that says the rest, such as: max-clients = 100. What is said here goes"
        " before it, and so do variables such as CHATROOM_MAX_CLIENTS; SIGHUP reads it again",
    )
    add(
        "--keep-bans",
        action="store_true",
        help="keep bans, in the run-dir, for the next start at the same address",
    )
    add(
        "--transcript",
        type=path,
        metavar="FILE",
        help="append every message to FILE, a line of JSON each; SIGUSR1 opens it anew",
    )
    add(
        "--metrics",
        type=argument_type(Endpoint.parse),
        metavar="HOST:PORT",
        help="serve there, by HTTP, what Prometheus reads; needs chatroom[metrics]",
    )
    add("--quiet", action="store_true", help="do not print the conversation")
    add("--verbose", action="store_true", help="log what happens, and not just what is wrong")
    add(
        "--log-format",
        choices=FORMATS,
        default=default.log_format,
        help="of the log, on standard error: a line of key=value, or an object of JSON, for each"
        " event (default: %(default)s)",
    )
    add("--version", action="version", version=f"chatroom {__version__}")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a room until it is told to stop; ends the process with an exit code."""
    command = parser()
    given, file = _given(command, arguments)
    known = sources.options(command)

    def read() -> Settings:
        settings = sources.read(known, given, os.environ, file)
        logging.getLogger().setLevel(logging.INFO if settings.verbose else logging.WARNING)
        return settings

    try:
        sockets = inherited()
        settings = read()
        if not (settings.listen or sockets):
            command.error("say where to listen: HOST PORT, or --listen ADDRESS")
        errors = Console(None, Doorbell.new(), descriptor(sys.stderr))
    except ConfigError as error:
        command.error(str(error))
    except ChatroomError as error:
        command.exit(error.exit_code, f"{command.prog}: {error}\n")
    logged = _Logged(errors)
    logged.setFormatter(Formatter(settings.log_format))
    logging.basicConfig(handlers=[logged])
    for name, near in sources.strange(os.environ, known).items():
        says = f"it is no variable of a room; {near} is one"
        logger.warning(Event("strange-variable", says, name=name))
    code = 0
    try:
        supervisor.run(settings, sockets, SystemdNotifier(), read)
    except ChatroomError as error:
        if settings.log_format == "json":
            logger.critical(Event("ended", exit=error.exit_code, error=error))
        else:
            errors.say(f"{command.prog}: {error}")
        code = error.exit_code
    finally:
        errors.close()
    sys.exit(code)


def _given(
    command: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[sources.Layer, Path | None]:
    """What the command line says, and nothing of what it leaves open; and the file."""
    unsaid = dict.fromkeys(action.dest for action in command._actions)
    options = vars(command.parse_args(arguments, argparse.Namespace(**unsaid)))
    host, number = options["host"], options["port"]
    if host is not None and number is None:
        command.error("PORT is missing: say HOST PORT, or --listen HOST:PORT")
    if host is not None:
        try:
            # Not earlier: argparse would complain of a bad port before an unknown option.
            here = Endpoint(host, port(number, least=0))
        except argparse.ArgumentTypeError as error:
            command.error(f"argument PORT: {error}")
        options["listen"] = [here, *(options["listen"] or ())]
    said = {
        action.dest: sources.SourcedValue(options[action.dest], f"argument --{name}")
        for name, action in sources.options(command).items()
        if options[action.dest] is not None
    }
    file = options["config"] or os.environ.get(sources.CONFIG)
    return said, Path(file) if file else None


class _Logged(logging.Handler):
    """Prints what is logged on a console: nobody has to read standard error for the room to go on.

    Only the main thread may log, as only it may tell a console to `say` something.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.say(self.format(record))
