"""Find out the dialect of a server, and write it as a profile.

    python -m harness probe --command "python3 server.py {host} {port}" > server.toml

A few clients join, send lines and leave. If they do not receive each other's lines,
they try to log in, with a name or with a command that the server's output shows, and
with other line ends. The text that a new client receives before any client has sent
is the welcome; the text before a client's line is the prefix; whole lines that no
client has sent are notices. In these texts, addresses, ports, names and numbers
become patterns. If the server seems to keep LINE-2, LINE-3, LINE-5 or LINE-6, the
profile claims this clause. `conform --profile FILE` then judges all clauses.

Exit status: 0 if a profile was written; 2 for wrong arguments; 3 if the target did
not start, did not deliver the lines, or sent too much while no client sent.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from harness.cli.arguments import add_shared, add_target, started, write
from harness.cli.optional_deps import needs_extra
from harness.encoding import print_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    add_shared(parser, "--timeout-scale")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="write the profile to FILE, not to standard output"
    )


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    needs_extra(parser)
    from harness.clients.client import Clock
    from harness.errors import CannotJudge, Undecided, Violation
    from harness.probe.findings import as_toml
    from harness.probe.listen import listen
    from harness.probe.login import ProbeError

    with started(parser, options, options.timeout_scale) as target:
        try:
            findings = asyncio.run(listen(target, Clock(options.timeout_scale)))
        except (Undecided, CannotJudge, Violation, ProbeError) as error:
            how = target.death()
            parser.exit(3, f"{parser.prog}: {error}{f'; the server {how}' if how else ''}\n")
    name = options.out.stem if options.out else "the server"
    text = as_toml(name, findings)
    if options.out:
        write(parser, options.out, text)
    else:
        print_file(text)
    return 0
