"""Shrink a failing history to the smallest script that still shows its violation.

What people did is played again and again, each time with less of it, against a
fresh target; what is left becomes a file of Python that needs nothing but its
standard library: `python3 shrunk.py HOST PORT`. Times, faults of the target and
bad networks are left out of it: a violation that needs them does not show again.

Exit status: 0 if a script was written; 2 if the violation does not show again,
or an argument is wrong; 3 if the target did not start.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.cli.arguments import (
    add_shared,
    add_target,
    load_profile,
    started,
    whole,
    writable,
    write,
)
from harness.cli.optional_deps import needs_extra
from harness.profile import Profile
from harness.simulation import history
from harness.simulation.judge import Violation, judge
from harness.simulation.shrink import replay
from harness.simulation.shrink.reduce import Script, left_out, lines, people, reduce, script_of
from harness.target.processes import raise_descriptor_limit

BUDGET = 400
"""Scripts that are tried, at most."""

_FILE = '''"""{about}

    python3 {name} HOST PORT

plays it against the server that listens there, says what went wrong, and exits with 1 if this
did, with 0 if it did not, and with 2 if there is no server. Made from a longer run against:

    {target}
"""

import sys

KIND = {kind!r}
WELCOME = {welcome!r}
PREFIX = {prefix!r}
NOTICES = {notices!r}
HURRY = {hurry!r}

# Who is still there at the end says a last word, too.
SCRIPT = [
{script}
]

# --- how it is played ----------------------------------------------------------------------------

{replay}

def main(arguments: list[str]) -> int:
    host, port = arguments if len(arguments) == 2 else ("", "")
    if not port.isdecimal() or int(port) > 65535:
        print("usage: python3", sys.argv[0], "HOST PORT", file=sys.stderr)
        return 2
    try:
        found = play(host, int(port), SCRIPT, WELCOME, PREFIX, NOTICES, hurry=HURRY)
    except OSError as error:
        print(f"{{host}}:{{port}}: {{error}}", file=sys.stderr)
        return 2
    print("\\n".join(found) or "nothing went wrong")
    return int(any(one.startswith(f"{{KIND}}:") for one in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
'''


@dataclass(frozen=True)
class Manner:
    """How a script is played. tries: how often, before it does not show it."""

    hurry: bool
    tries: int


Plays = Callable[[Script, bool], bool]
"""Whether a script shows it when it is played once, hurried or not."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    add_shared(parser, "history", "--profile")
    parser.add_argument(
        "--out", metavar="FILE.py", type=writable, help="where to (shrunk.py beside the history)"
    )
    parser.add_argument(
        "--tries",
        metavar="N",
        type=whole(1),
        default=3,
        help="how often a script is played before it does not show it (%(default)s)",
    )


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    needs_extra(parser)
    profile = load_profile(parser, options)
    try:
        recorded = history.read(options.history)
    except history.HistoryError as error:
        parser.error(str(error))
    out = options.out or options.history.parent / "shrunk.py"
    if out.exists():
        parser.error(f"{str(out)!r} is there already; name another with --out")
    violations = judge(recorded, profile).violations
    if not violations:
        parser.error(f"{str(options.history)!r} shows no violation")
    found = _against(options, parser, recorded, violations[0], profile)
    text = file_of(*found, violations[0], options.command or options.target, profile, out.name)
    write(parser, out, text, "x")
    print(f"{described(found[0])}; to see it: python3 {out} HOST PORT")
    return 0


def _against(
    options: argparse.Namespace,
    parser: argparse.ArgumentParser,
    recorded: history.History,
    violation: Violation,
    profile: Profile,
) -> tuple[Script, bool]:
    """The smallest script, and whether it has to be hurried."""
    raise_descriptor_limit()
    welcome, prefix, notices = _dialect(profile)

    with started(parser, options) as target:

        def plays(script: Script, hurry: bool) -> bool:
            target.fresh()
            host, port = target.address
            try:
                found = replay.play(host, port, script, welcome, prefix, notices, hurry=hurry)
            except OSError:  # it lets in nobody
                return False
            return any(finding.startswith(f"{violation.kind}:") for finding in found)

        return _shrunk(recorded, violation, plays, options.tries, parser)


def _shrunk(
    recorded: history.History,
    violation: Violation,
    plays: Plays,
    tries: int,
    parser: argparse.ArgumentParser,
) -> tuple[Script, bool]:
    """The smallest script, and whether it has to be hurried."""
    whole_script = script_of(recorded)
    print(f"{violation.kind}, of {described(whole_script)}", file=sys.stderr, flush=True)
    manner = manner_of(lambda hurry: plays(whole_script, hurry), tries)
    if manner is None:
        without = ", ".join(["times", *left_out(recorded)])
        parser.error(
            f"{violation.kind!r} does not show again, played patiently and in a hurry, with "
            f"--tries {tries}; left out are {without}"
        )
    tried = 0

    def shows(script: Script) -> bool:
        nonlocal tried
        tried += 1
        shown = any(plays(script, manner.hurry) for _ in range(manner.tries))
        if shown:
            print(f"{described(script)}; tried: {tried}", file=sys.stderr, flush=True)
        return shown

    likely = _concerned(violation, people(whole_script))
    return reduce(whole_script, shows, BUDGET, likely), manner.hurry


def _concerned(violation: Violation, everyone: list[int]) -> list[int]:
    """Two people who may be enough: who was wronged, and who spoke."""
    sender = violation.message.partition(".")[0]
    first = [violation.who, *([int(sender)] if sender else []), *everyone]
    return list(dict.fromkeys(first))[:2]


def manner_of(shows: Callable[[bool], bool], tries: int) -> Manner | None:
    """How the whole script shows it: patiently, or else hurried; None where it does neither.

    What shows each time is played but once from then on.
    """
    for hurry in (False, True):
        shown = [shows(hurry) for _ in range(tries)]
        if any(shown):
            return Manner(hurry, 1 if all(shown) else tries)
    return None


def described(script: Script) -> str:
    """How much of it there is."""
    return f"people: {len(people(script))}, lines that they say: {lines(script)}"


def _dialect(profile: Profile) -> tuple[bytes, bytes, list[bytes]]:
    """Welcome, prefix and notices as `play` wants them; no prefix where it is as in PROTOCOL.md."""
    return (
        profile.welcome.pattern if profile.welcome else b"",
        b"" if profile.prefix.pattern == Profile("").prefix.pattern else profile.prefix.pattern,
        [notice.pattern for notice in profile.notices],
    )


def file_of(
    script: Script, hurry: bool, violation: Violation, target: str, profile: Profile, name: str
) -> str:
    """The file that shows the violation. Pure."""
    source = Path(replay.__file__).read_text(encoding="utf-8")
    welcome, prefix, notices = _dialect(profile)
    return _FILE.format(
        about=_quoted(f"{violation.kind} ({violation.clause}): {violation.says}"),
        name=_quoted(name),
        target=_quoted(target),
        kind=violation.kind,
        hurry=hurry,
        script="\n".join(f"    {step!r}," for step in script),
        replay=source.partition('"""\n\n')[2].rstrip() + "\n",
        welcome=welcome,
        prefix=prefix,
        notices=notices,
    )


def _quoted(text: str) -> str:
    """As it stands in a docstring."""
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return shown.replace("\\", "\\\\").replace('"', '\\"')
