"""Entry point of `python -m harness COMMAND`: parse the command line and run a sub-command.

A sub-command is a module with a docstring, `add_arguments(parser)`, and `run(options, parser)`,
which returns the exit status. `COMMANDS` lists the sub-commands.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from harness.cli import (
    bench,
    check,
    clause_help,
    conform,
    limit,
    matrix,
    probe,
    scale,
    scenarios,
    shrink,
    simulate,
)
from harness.cli.streams import discard, say
from harness.encoding import escape_output
from harness.errors import CannotJudge
from harness.target.interrupts import interrupt_on_signals


class Command(Protocol):
    """The interface of a sub-command's module."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace, parser: argparse.ArgumentParser) -> int: ...


COMMANDS: dict[str, Command] = {
    "conform": conform,
    "probe": probe,
    "explain": clause_help,
    "matrix": matrix,
    "simulate": simulate,
    "scenarios": scenarios,
    "check": check,
    "limit": limit,
    "shrink": shrink,
    "bench": bench,
    "scale": scale,
}


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line, without the usage.

    An unknown option is reported before any other error, because argparse may have taken the value
    of this option for a positional argument.
    """

    _words: Sequence[str] = ()
    """The arguments that are parsed; `error` searches them for unknown options."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = sys.argv[1:] if args is None else args
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and self._subparsers is None:  # the main parser does not know the options
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        known = self._option_string_actions
        for word in itertools.takewhile("--".__ne__, self._words):
            name = word.partition("=")[0]
            # As in argparse, a text that contains a blank is not an option.
            if re.fullmatch(r"--?[A-Za-z][^ ]*", word) and name not in known:
                near = difflib.get_close_matches(name, known, 1)
                message = f"unknown option {name}" + "".join(f"; did you mean {n}?" for n in near)
                break
        self.exit(2, f"{self.prog}: {' '.join(message.splitlines())}\n")


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m harness",
        description="Judge chat servers from outside.",
        epilog="bench, check, scale, scenarios, and matrix without --out need only Python; the"
        ' other commands need the packages of the extra "harness": pip install'
        ' "chatroom[harness]", or ".[harness]" in a clone.',
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        text = command.__doc__ or name
        sub = commands.add_parser(
            name,
            help=text.split("\n", 1)[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run, parser=sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    escape_output()
    options = build_parser().parse_args(argv)
    try:
        with interrupt_on_signals():
            status: int = options.run(options, options.parser)
            sys.stdout.flush()
    except KeyboardInterrupt:
        say("interrupted")  # `print` would raise an exception if the terminal was closed
        return 128 + signal.SIGINT
    except CannotJudge as error:
        print(f"{options.parser.prog}: the harness could not judge: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        discard(sys.stdout)
        return 128 + signal.SIGPIPE
    return status
