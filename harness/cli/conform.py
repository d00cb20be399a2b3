"""Judge a chat server by the clauses of PROTOCOL.md.

Give the address of a running server with --target, or the command that starts a
server with --command; an address and a port replace {host} and {port} in the command.
If the server's room has several addresses, the clients are spread over them. With a
command, several instances of the server are judged at once. A broken MUST clause
fails the run. A broken SHOULD clause fails it only with --strict, or if the profile
given with --profile lists the clause under `claims`. A clause that could not be
judged is "unknown". --seed determines the points at which the test of LINE-2 cuts its
lines. If the room has several addresses, --seed also determines which address each
test uses first. With --ws, the harness judges a gateway by the clauses on WebSockets,
not by the others. --report writes results.json, junit.xml and report.html.

Exit status: 0 if the server passed; 1 if it broke a clause that counts; 2 for wrong
arguments, or if the harness could not judge; 3 if the server did not start; 4 if it
passed, but a MUST clause was judged in the form that it takes in the profile's
dialect, not as PROTOCOL.md states it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import profile as profiles
from harness.clauses import all_clauses, clauses_of_kind
from harness.cli.arguments import (
    add,
    add_shared,
    add_target,
    clause_id,
    load_profile,
    make_folder,
    started,
    whole,
    write,
    write_json,
)
from harness.cli.optional_deps import needs_extra
from harness.errors import CannotJudge

if TYPE_CHECKING:  # `bench` must run without the packages of the extra
    from rich.console import Console

    from harness.conformance.runner import Check, Options, Outcome
    from harness.conformance.verdicts import Rules
    from harness.report.terminal import Line

JOBS = 4
"""Maximum number of servers to judge at once by default. There are up to two for each core, because
a test mostly waits."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    add_shared(parser, "--profile", "--seed", "--repeat", "--report", "--timeout-scale")
    parser.add_argument(
        "--ws",
        metavar="URL",
        help="judge the gateway at ws://HOST:PORT/PATH by the clauses on WebSockets; with"
        " --command, write ws://{host}:{port}/PATH",
    )
    parser.add_argument("--strict", action="store_true", help="fail on a broken SHOULD clause, too")
    parser.add_argument(
        "--known-failures",
        metavar="FILE",
        type=_text,
        help="file of clauses whose failures are reported but do not count, one id per line; #"
        " begins a comment",
    )
    parser.add_argument(
        "--only",
        metavar="CLAUSE",
        type=clause_id,
        nargs="+",
        default=[],
        help="judge only these clauses",
    )
    parser.add_argument("--list", action="store_true", help="list the clauses and their tests")
    jobs = "number of servers to judge at once, with --command"
    add(parser, "--jobs", "N", whole(1), min(JOBS, 2 * (os.cpu_count() or 1)), jobs)


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    needs_extra(parser)
    from harness.conformance import runner
    from harness.probe.framing import require_lines

    if options.ws:
        _check_gateway(options, parser)
    chosen = _options(options)
    try:
        checks = runner.collect(chosen)
    except runner.CollectError as error:
        parser.error(str(error))
    if not checks:
        other = "without" if options.ws else "with"
        parser.error(f"argument --only: {', '.join(options.only)} can only be judged {other} --ws")
    # Start no more processes than there are tests: the start of each process takes a second.
    chosen = dataclasses.replace(chosen, jobs=min(chosen.jobs, len(checks)))
    if options.list:
        _print(_listed(checks))
        return 0
    rules = _rules(options, parser)
    if options.report:
        make_folder(parser, options.report)

    def unjudged(why: str) -> None:
        outcome = runner.Outcome(troubles=[why])
        _conclude(options, chosen, checks, outcome, rules, parser, shown=False)

    # Start and stop the server once, so that a failed start is reported early.
    with started(parser, options, options.timeout_scale, unjudged) as target:
        try:
            # The check could harm a server that fails when clients leave, and the harness can't
            # restart a running server.
            if target.ours and not options.ws:
                require_lines(target, load_profile(parser, options), options.timeout_scale)
        except CannotJudge as error:
            unjudged(str(error))
            raise
    print(
        f"judging {options.command or ', '.join(options.target)}, "
        f"{_dialect(options)}, seed {chosen.seed}",
        file=sys.stderr,
        flush=True,
    )
    outcome = _run(chosen, checks)
    if outcome.interrupted:  # pytest catches KeyboardInterrupt
        raise KeyboardInterrupt
    return _conclude(options, chosen, checks, outcome, rules, parser)


def _check_gateway(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Take the target's address from --ws, unless a command starts the target. Exit with an error
    if other arguments contradict --ws."""
    from harness.clients.websocket import parse_url

    for name, given in (("--target", options.target), ("--profile", options.profile)):
        if given:
            parser.error(f"argument --ws: not allowed with argument {name}")
    if ("{port}" in options.ws) != bool(options.command):
        parser.error("argument --ws: write {host}:{port} with --command, and only then")
    try:
        address, _ = parse_url(options.ws)
    except ValueError as error:
        parser.error(f"argument --ws: {error}")
    if not options.command:
        options.target = [address]


def _dialect(options: argparse.Namespace) -> str:
    """Return the profile, or the URL of a gateway, as text."""
    return options.ws or f"profile {options.profile or profiles.DEFAULT}"


def _options(options: argparse.Namespace) -> Options:
    from harness.conformance.runner import Options

    # The path is absolute, because the tests run in another folder.
    profile = str(profiles.find(options.profile or profiles.DEFAULT).resolve())
    return Options(
        command=options.command,
        addresses=tuple(options.target),
        ws=options.ws,
        profile=profile,
        clauses=tuple(options.only),
        repeat=options.repeat,
        seed=options.seed,
        timeout_scale=options.timeout_scale,
        jobs=options.jobs,
        junit=options.report and options.report.resolve() / "junit.xml",
    )


def _rules(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Rules:
    """Return the rules of the verdict. Claims of the default profile do not count."""
    from harness.conformance.verdicts import Rules, parse_known_failures

    profile = load_profile(parser, options)
    claims = profile.claims if options.profile else frozenset()
    known = parse_known_failures(options.known_failures or "")
    return Rules(options.strict, claims, known, profile.forms())


def _run(chosen: Options, checks: Sequence[Check]) -> Outcome:
    from harness.conformance import runner
    from harness.report.progress import progress

    with runner.unsilenced(sys.stderr) as stream, progress(checks, stream) as on_result:
        outcome = runner.run(chosen, on_result)
    missing = len(checks) - len({result.test for result in outcome.results})
    if missing > 0 and not (outcome.troubles or outcome.interrupted):
        outcome.troubles.append(f"{missing} of {len(checks)} tests did not run")
    return outcome


def _conclude(
    options: argparse.Namespace,
    chosen: Options,
    checks: Sequence[Check],
    outcome: Outcome,
    rules: Rules,
    parser: argparse.ArgumentParser,
    shown: bool = True,
) -> int:
    """Judge the outcome, print the summary if `shown`, and write the report."""
    from harness.conformance.diagnosis.diagnose import explain
    from harness.conformance.verdicts import judge, record
    from harness.report.terminal import summary

    results = [explain(result) for result in outcome.results]
    verdict = judge(
        clauses_of_kind(on_websockets=bool(options.ws)), results, rules, outcome.troubles
    )
    about: dict[str, Any] = {
        "target": {"command": options.command}
        if options.command
        else {"address": ", ".join(options.target)},
        "ws": options.ws,
        "profile": options.profile or profiles.DEFAULT,
        "dialect": load_profile(parser, options).dialect(),
        "strict": options.strict,
        "seed": chosen.seed,
        "repeat": options.repeat,
        "timeout_scale": options.timeout_scale,
    }
    asked = None
    if options.only:  # tests of other clauses may report that JOIN-1 or LEAVE-1 is broken
        asked = {check.clause for check in checks} | {result.clause for result in outcome.results}
    if shown:
        _print(summary(verdict, asked, about["dialect"]))
        if failed := [broken.clause.id for broken in verdict.failed()]:
            again = f"--only {' '.join(failed)} --seed {chosen.seed}"
            print(f"to repeat the failed tests, add {again}", file=sys.stderr)
    if options.report:
        from harness.report import page

        docs = {check.name: check.about for check in checks}
        write_json(parser, options.report / "results.json", record(verdict, about))
        write(parser, options.report / "report.html", page.report(verdict, about, docs))
    return verdict.exit_status


def _print(lines: Iterable[Line]) -> None:
    """Print lines, on a terminal with their styles."""
    from harness.report.terminal import plain

    if sys.stdout.isatty():
        from rich.console import Console

        show_on(Console(highlight=False), lines)
    else:
        sys.stdout.write(plain(lines))


def show_on(console: Console, lines: Iterable[Line]) -> None:
    """Print lines on a terminal, wrapped between words."""
    from rich.text import Text

    from harness.report.terminal import STYLES

    for line in lines:
        parts = ((text, STYLES[style]) for text, style in line if text)
        console.print(Text.assemble(*parts))


def _listed(checks: Sequence[Check]) -> Iterable[Line]:
    """Yield the lines of --list: the clauses that the tests judge, each with its tests."""
    from harness.conformance.evidence import label
    from harness.report.terminal import quote

    for clause in all_clauses().values():
        of_it = [check for check in checks if check.clause == clause.id]
        if of_it:
            yield from quote(clause)
        for check in of_it:
            yield [(f"  {check.name}", "plain"), (f"  {label(check.evidence)}", "faint")]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise argparse.ArgumentTypeError(f"can't read {path!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{path!r} is not UTF-8") from None
