"""Shrink a failing history to the smallest script that still shows its violation.

The clients' actions are replayed again and again, with fewer and fewer actions, each
time against a fresh target. The remaining actions are written to a Python script that
needs only the standard library: `python3 shrunk.py HOST PORT`. The script contains no
times, no faults of the target and no faults of the network, so a violation that
depends on one of them does not recur. The script can't replay a dialect with a login,
an echo, a suffix, colours or CR LF.

Exit status: 0 if a script was written; 2 if the violation does not recur, or for
wrong arguments; 3 if the target did not start.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.cli.arguments import (
    add,
    add_shared,
    add_target,
    load_profile,
    read_history,
    started,
    whole,
    writable,
    write,
)
from harness.cli.optional_deps import needs_extra
from harness.descriptors import raise_descriptor_limit
from harness.profile import LF, Profile
from harness.simulation import history
from harness.simulation.judge import Violation, judge
from harness.simulation.scenario.vocabulary import numbers_of
from harness.simulation.shrink import replay
from harness.simulation.shrink.reduce import Script, left_out, lines, people, reduce, script_of

BUDGET = 400
"""Maximum number of shorter scripts to try."""

_FILE = '''"""{about}

    python3 {name} HOST PORT

replays the clients' actions against the server at HOST:PORT and prints the violations. Exit
status: 1 if the violation above occurred; 0 if it did not occur; 2 if there is no server. The
actions are a part of a run against:

    {target}
"""

import sys

KIND = {kind!r}
WELCOME = {welcome!r}
PREFIX = {prefix!r}
NOTICES = {notices!r}
HURRY = {hurry!r}

# After these actions, each client that is still connected sends a last line.
SCRIPT = [
{script}
]

# --- the player ----------------------------------------------------------------------------------

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
    print("\\n".join(found) or "no violation")
    return int(any(finding.startswith(f"{{KIND}}:") for finding in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
'''


@dataclass(frozen=True)
class Manner:
    """A way to play a script. hurry: true if the clients act without waits. tries: number of times
    to play the script before the script is discarded."""

    hurry: bool
    tries: int


Plays = Callable[[Script, bool], bool]
"""Function that plays a script once, in a hurry or not; returns whether the violation occurred."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    add_shared(parser, "history", "--profile")
    parser.add_argument(
        "--out",
        metavar="FILE.py",
        type=writable,
        help="file to write (default: shrunk.py beside the history)",
    )
    tries = "replay each shorter script up to N times; if no replay shows the violation, discard it"
    add(parser, "--tries", "N", whole(1), 3, tries)


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    needs_extra(parser)
    profile = load_profile(parser, options)
    recorded = read_history(parser, options)
    if unplayable := _unplayable(profile):
        parser.error(f"a script can't play the dialect of {profile.name!r}: {unplayable}")
    out = options.out or options.history.parent / "shrunk.py"
    if out.exists():
        parser.error(f"{str(out)!r} exists; name another file with --out")
    violations = judge(recorded, profile).violations
    if not violations:
        parser.error(f"{str(options.history)!r} shows no violation")
    found = _against(options, parser, recorded, violations[0], profile)
    about = options.command or options.target[0]
    text = file_of(*found, violations[0], about, profile, out.name)
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
    """Return the smallest script found, and whether to play it in a hurry."""
    from harness.probe.framing import require_lines

    raise_descriptor_limit()
    welcome, prefix, notices = _dialect(profile)

    with started(parser, options) as target:
        if target.others:
            parser.error(
                "the script connects to one address only: use one port in --command, or --target"
                " once"
            )
        if target.ours:
            require_lines(target, profile, 1.0)

        def plays(script: Script, hurry: bool) -> bool:
            target.fresh()
            host, port = target.address
            try:
                found = replay.play(host, port, script, welcome, prefix, notices, hurry=hurry)
            except OSError:  # the server accepts no connection
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
    """Return the smallest script found, and whether to play it in a hurry."""
    whole_script = script_of(recorded)
    print(f"{violation.kind}, of {described(whole_script)}", file=sys.stderr, flush=True)
    manner = manner_of(lambda hurry: plays(whole_script, hurry), tries)
    if manner is None:
        without = ", ".join(["times", *left_out(recorded)])
        parser.error(
            f"{violation.kind!r} does not recur with --tries {tries}, with or without waits; "
            f"the script leaves out: {without}"
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
    """Return the two clients that probably suffice: the affected client and the sender. If the
    sender is unknown, return any other client in its place."""
    sender = [numbers_of(violation.message)[0]] if violation.message else []
    first = [violation.who, *sender, *everyone]
    return list(dict.fromkeys(first))[:2]


def manner_of(shows: Callable[[bool], bool], tries: int) -> Manner | None:
    """Return how to play the whole script so that the violation occurs; None if it never occurs.

    If the violation occurs every time, each shorter script needs only one try.
    """
    for hurry in (False, True):
        shown = [shows(hurry) for _ in range(tries)]
        if any(shown):
            return Manner(hurry, 1 if all(shown) else tries)
    return None


def described(script: Script) -> str:
    """Return the size of a script, in clients and lines."""
    return f"clients: {len(people(script))}, lines: {lines(script)}"


def _unplayable(profile: Profile) -> str:
    """Return in words the parts of a dialect that a script can't replay; empty if there are
    none."""
    found = {
        "a login": bool(profile.login),
        "own messages come back": profile.echo is not None,
        "text behind each message": profile.suffix is not None,
        "colours": profile.colours,
        "CR LF": {profile.input_line_end, profile.output_line_end} != {LF},
    }
    return ", ".join(name for name, is_so in found.items() if is_so)


def _dialect(profile: Profile) -> tuple[bytes, bytes, list[bytes]]:
    """Return welcome, prefix and notices for `replay.play`. An empty prefix stands for the prefix
    of PROTOCOL.md."""
    return (
        profile.welcome.pattern if profile.welcome else b"",
        b"" if profile.prefix.pattern == Profile("").prefix.pattern else profile.prefix.pattern,
        [notice.pattern for notice in profile.notices],
    )


def file_of(
    script: Script, hurry: bool, violation: Violation, target: str, profile: Profile, name: str
) -> str:
    """Return the text of the file that shows the violation. Pure."""
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
    """Escape a text for a docstring."""
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return shown.replace("\\", "\\\\").replace('"', '\\"')
