"""`python -m chatroom.status`: show the members and statistics of a local room, or of a cluster.

Exit codes: 0 the status was shown; 1 there is no such room, it has ended, or a node of the cluster
does not answer; 2 wrong arguments.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from chatroom.arguments import Parser, argument_type, path
from chatroom.cli.cluster import add_cluster, chosen_cluster
from chatroom.control.control_socket import ControlClient
from chatroom.control.run_dir import default, find
from chatroom.errors import RunDirError
from chatroom.protocol.text import printable
from chatroom.system.endpoint import Endpoint
from chatroom.wording import counted

CLEAR = "\x1b[H\x1b[2J"

Report = dict[str, Any]


class Source(NamedTuple):
    """A room or a cluster, whose status is shown."""

    look: Callable[[], Report]
    """Returns a report."""
    lines: Callable[[Report, Report | None], Iterator[str]]
    """Yields the lines of a report. Rates are averages since an earlier report, or since the
    start."""
    failed: Callable[[Report], str]
    """Returns a text that says what a report lacks; empty if it lacks nothing."""
    sleep: Callable[[float], None]
    close: Callable[[], None]


def add_room(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a room."""
    parser.add_argument(
        "--run-dir",
        type=argument_type(path),
        metavar="FOLDER",
        help=f"run-dir of the room (default: {str(default()).replace('%', '%%')})",
    )
    parser.add_argument(
        "--room",
        metavar="ADDRESS",
        help="first address of the room, or only its port; required if several rooms are running",
    )


def connect(options: argparse.Namespace, parser: argparse.ArgumentParser) -> ControlClient:
    """Connect to the chosen room; if that fails, end the process with exit code 1."""
    try:
        found = find(options.run_dir or default(), options.room)
    except RunDirError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    try:
        return ControlClient(found)
    except OSError as error:
        name = found.stem.replace("%", "/")
        why = error.strerror or error
        parser.exit(1, f"{parser.prog}: the room at {name} does not answer: {why}\n")


def ask(client: ControlClient, request: Mapping[str, Any], parser: argparse.ArgumentParser) -> Any:
    """Return the answer to a request; if it fails, end the process with exit code 1."""
    try:
        answer = client.ask(dict(request))
    except TimeoutError:
        parser.exit(1, f"{parser.prog}: the room does not answer\n")
    except (EOFError, OSError, ValueError):
        parser.exit(1, f"{parser.prog}: the room has ended\n")
    if "error" in answer:
        parser.exit(1, f"{parser.prog}: {printable(str(answer['error']))}\n")
    return answer


def tell(text: str, parser: argparse.ArgumentParser, before: str = "") -> None:
    """Print a text and flush it. If that fails, end the process.

    If the reader of the output has closed the pipe, the exit code is 0.
    """
    try:
        print(before + printable(text), flush=True)
    except OSError as error:
        # Otherwise Python would flush again at exit, and report the error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            parser.exit(1, f"{parser.prog}: can't write: {error.strerror}\n")
        sys.exit(0)


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m chatroom.status",
        description="Show the members and statistics of a local room, or of all nodes of a"
        " cluster.",
        allow_abbrev=False,
    )
    add_room(made)
    add_cluster(made)
    made.add_argument("--json", action="store_true", help="print JSON, one line per report")
    made.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=2.0,
        metavar="SECONDS",
        help="repeat every SECONDS (default: 2), with rates, until Ctrl-C",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser()
    options = command.parse_args(arguments)
    if options.watch is not None and not 0.1 <= options.watch <= 3600:
        command.error("argument --watch: must be seconds from 0.1 to 3600")
    url = chosen_cluster(options, command)
    if options.watch is not None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(0))  # `tell` has flushed all output
    if url is None:
        source = _room(options, command)
    else:
        from chatroom.cli import cluster_status

        source = cluster_status.source(url, options, command)
    before: Report | None = None
    with contextlib.closing(source):
        while True:
            found = source.look()
            if options.json:
                tell(json.dumps(found | {"at": time.time()}), command)
            else:
                clear = CLEAR if options.watch is not None and sys.stdout.isatty() else ""
                tell("\n".join(source.lines(found, before)), command, clear)
            if options.watch is None:
                break
            before = found
            source.sleep(options.watch)
    if why := source.failed(found):
        command.exit(1, f"{command.prog}: {why}\n")
    sys.exit(0)


def _room(options: argparse.Namespace, command: argparse.ArgumentParser) -> Source:
    client = connect(options, command)
    look = partial(ask, client, {"ask": "status"}, command)
    return Source(look, lines, lambda _: "", time.sleep, client.close)


def lines(found: Report, before: Report | None) -> Iterator[str]:
    """Yield the lines of a report. Rates are averages since `before`, or since the room's start."""
    room = found["room"]
    earlier = before["room"] if before else None
    up = format_time(room["up"])
    yield f"{room['listening']}, pid {room['pid']}, up {up}, {room['build']}"
    yield from totals(room, {name: rate(name, room, earlier) for name in RATES})
    if "cluster" in found:
        yield _engine(found["cluster"])
    yield ""
    yield from table(
        ("worker", "pid", "members", "messages", "deliveries", "restarts", "lag"), found["workers"]
    )
    if "gateways" in found:
        yield ""
        yield from table(("gateway", "pid", "restarts"), found["gateways"])
    if found["members"]:
        yield ""
        yield from members(found["members"])


RATES = {"messages": "message", "deliveries": "delivery", "bytes": "byte"}
"""Counters that are shown with their rates, each with its noun in the singular."""


def rate(name: str, room: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> float:
    """Return a counter's average rate since an earlier report, or since the room's start."""
    start = earlier or {"up": 0, name: 0}
    rate: float = (room[name] - start[name]) / max(0.001, room["up"] - start["up"])
    return rate


def totals(room: Mapping[str, Any], rates: Mapping[str, float]) -> Iterator[str]:
    """Yield the lines of a room's totals. `rates`: rate per second of each counter in RATES."""
    yield (
        f"{counted(room['members'], 'member')} of {room['capacity']:,}; {room['joins']:,} joined, "
        f"{_by_reason('left', room['leaves'])}, {_by_reason('refused', room['refusals'])}"
    )
    shown = (
        f"{counted(room[name], noun, name)} ({rates[name]:,.1f}/s)" for name, noun in RATES.items()
    )
    yield f"{', '.join(shown)}; lag {counted(room['lag'], 'byte')}"
    if room["worker_deaths"]:
        yield (
            f"{counted(room['worker_deaths'], 'worker')} replaced; the members waited "
            f"{1000 * room['longest_recovery']:.0f} ms at most"
        )


def _engine(cluster: Mapping[str, Any]) -> str:
    """Return the line about the engine of a cluster."""
    state = "in reach" if cluster["up"] else "out of reach"
    why = f" ({cluster['reason']})" if cluster["reason"] else ""
    trip = f", round trip {format_round_trip(cluster)}" if cluster["round_trip"] else ""
    pending = counted(cluster["pending"], "message")
    return (
        f"{cluster['url']}: {state} for {format_time(cluster['unchanged'])}{why}{trip}; {pending}"
        f" ({counted(cluster['pending_bytes'], 'byte')}) pending, {cluster['lost']:,} lost;"
        f" {counted(cluster['missed'], 'publication')} missed"
    )


def format_round_trip(cluster: Mapping[str, Any]) -> str:
    """Return the time that the last publication took; "-" if there was no publication."""
    return f"{1000 * cluster['round_trip']:.1f} ms" if cluster["round_trip"] else "-"


def members(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table of members."""
    rows = [
        {**member, "here": format_time(member["here"]), "from": _from(member)} for member in found
    ]
    yield from table(("id", "from", "here", "worker", "said", "heard", "lag"), rows)


def table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table, right-aligned, the first with the names of the columns."""
    cells = [["-" if row[name] is None else str(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for line in (names, *cells):
        yield "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))


def format_time(seconds: float) -> str:
    """Return a duration as 1:02:03, or 2d 1:02:03."""
    days, rest = divmod(max(0, int(seconds)), 86400)
    text = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}d {text}" if days else text


def _from(member: Mapping[str, Any]) -> str:
    address, port = member["address"], member["port"]
    return str(Endpoint(address, port) if port else address)


def _by_reason(what: str, counts: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(counts.items()))
    return f"{sum(counts.values()):,} {what}" + (f" ({reasons})" if reasons else "")
