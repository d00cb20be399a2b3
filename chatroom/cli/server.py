"""The command line of the server: from arguments to settings, from errors to exit codes.

Exit codes: 0 stopped by SIGINT or SIGTERM, 1 the room can't run, 2 wrong arguments, variables or
configuration file (config/sources.py). An error is one line on standard error, after the log.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from chatroom import __version__
from chatroom.arguments import Parser, argument_type, host_name, path, port_number
from chatroom.build import BUILD
from chatroom.config import sources
from chatroom.config.options import OPTIONS
from chatroom.config.settings import Settings
from chatroom.errors import ChatroomError, ConfigError
from chatroom.system.endpoint import SCHEME, Endpoint


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m chatroom",
        description="A chatroom over TCP: anyone with nc can join.",
        epilog="SIZE is in bytes and may end in K, M or G. Ctrl-C or SIGTERM stops the room.",
        argument_default=argparse.SUPPRESS,  # no defaults: a variable or the file may set a value
        allow_abbrev=False,
    )
    add = made.add_argument
    add("host", metavar="HOST", nargs="?", help="name or address to listen on, IPv4 or IPv6")
    add("port", metavar="PORT", nargs="?", help="port to listen on; 0 picks a free one")
    for option in OPTIONS:
        option.add_to(made)
    add(
        "--config",
        type=argument_type(path),
        metavar="FILE",
        help="TOML file of options, such as: max-clients = 100. The command line overrides the"
        " environment (variables such as CHATROOM_MAX_CLIENTS), which overrides the file. SIGHUP"
        " reads the file again",
    )
    add("--version", action="version", version=f"chatroom {__version__} ({BUILD})")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a room until it is stopped, then end the process with an exit code."""
    command = parser()
    given, file = _given(command, arguments)

    # Imported here, because `--help`, `--version` and wrong arguments do not need these modules.
    # Importing them takes as long as all other imports.
    import logging

    from chatroom.logs import Event, Formatter
    from chatroom.supervisor import supervisor
    from chatroom.supervisor.console import Console, ConsoleHandler, descriptor
    from chatroom.system.doorbell import Doorbell
    from chatroom.system.systemd import SystemdNotifier, inherited, passed_to_another

    def read() -> Settings:
        settings = sources.read(given, os.environ, file)
        logging.getLogger().setLevel(logging.INFO if settings.verbose else logging.WARNING)
        return settings

    try:
        sockets = inherited()
        settings = read()
        if not (settings.listen or sockets):
            nowhere = "no address to listen on: give HOST PORT, or --listen ADDRESS"
            command.error(passed_to_another() or nowhere)
        errors = Console(None, Doorbell.new(), descriptor(sys.stderr))
    except ConfigError as error:
        command.error(str(error))
    except ChatroomError as error:
        command.exit(error.exit_code, f"{command.prog}: {error}\n")
    logged = ConsoleHandler(errors)
    logged.setFormatter(Formatter(settings.log_format))
    logging.basicConfig(handlers=[logged])
    logger = logging.getLogger(__name__)
    for name, near in sources.misspelled_variables(os.environ).items():
        says = f"unknown variable; did you mean {near}?"
        logger.warning(Event("unknown-variable", says, name=name))
    code = 0
    try:
        supervisor.run(settings, sockets, SystemdNotifier(), read)
    except ChatroomError as error:
        if settings.log_format == "json":
            logger.critical(Event("ended", exit=error.exit_code, error=error))
        else:
            errors.print_line(f"{command.prog}: {error}")
        code = error.exit_code
    finally:
        errors.close()
    sys.exit(code)


def _given(
    command: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[sources.Layer, Path | None]:
    """Return the settings of the command line, and the path of the configuration file, if any."""
    given = vars(command.parse_args(arguments))
    if "host" in given:
        if given["host"].startswith(SCHEME):
            command.error(f"a Unix socket needs --listen: --listen {given['host']}")
        name = "HOST"
        try:
            # Not in the parser, which converts each argument separately.
            port = given.get("port", "")
            host = host_name(given["host"], port or given["host"].rpartition(":")[2])
            if not port:
                missing, example = "PORT is", f"{host} 4000"
                if host.isdigit():
                    missing, example = "HOST is", f"127.0.0.1 {host}"
                command.error(f"{missing} missing: give HOST PORT, such as {example}, or --listen")
            name = "PORT"
            here = Endpoint(host, port_number(port, least=0))
        except ValueError as error:
            command.error(f"argument {name}: must be {error}")
        given["listen"] = [here, *given.get("listen", ())]
    file = given.get("config") or os.environ.get(sources.CONFIG)
    return sources.from_arguments(given), Path(file) if file else None
