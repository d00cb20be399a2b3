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
import pprint
import sys
from pathlib import Path

from harness import profile as profiles
from harness.arguments import add_target, started, whole
from harness.extra import needs_extra
from harness.interruptible import interruptible
from harness.simulation import history, replay
from harness.simulation.checkers import Violation, judge
from harness.simulation.reduce import Script, people, reduce, script_of

BUDGET = 300
"""Scripts that are played, at most."""

_FILE = '''"""{about}

    python3 {name} HOST PORT

Shows it against the server that listens there: exit status 1 if it does, 0 if not.
Made from a longer run against: {target}
"""

SCRIPT = {script}

KIND = {kind!r}
WELCOME = {welcome!r}

# --- how it is played ----------------------------------------------------------------------------

{replay}

if __name__ == "__main__":
    import sys

    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        sys.exit(print("usage: python3 {name} HOST PORT", file=sys.stderr) or 2)
    try:
        found = play(sys.argv[1], int(sys.argv[2]), SCRIPT, WELCOME)
    except OSError as error:
        sys.exit(print(f"{{sys.argv[1]}}:{{sys.argv[2]}}: {{error}}", file=sys.stderr) or 2)
    print("\\n".join(found) or "nothing wrong")
    sys.exit(any(one.startswith(KIND) for one in found))
'''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("history", metavar="HISTORY", type=Path, help="a history.jsonl")
    add_target(parser)
    parser.add_argument("--profile", metavar="NAME|FILE", help="how it speaks (chatroom)")
    parser.add_argument(
        "--out", metavar="FILE.py", type=Path, help="where to (shrunk.py beside the history)"
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
    try:
        profile = profiles.load(options.profile or profiles.DEFAULT)
        recorded = history.read(options.history)
    except (history.HistoryError, profiles.ProfileError) as error:
        parser.error(str(error))
    out = options.out or options.history.parent / "shrunk.py"
    if out.exists():
        parser.error(f"{str(out)!r} is there already; name another with --out")
    violations = judge(recorded, profile).violations
    if not violations:
        parser.error(f"{str(options.history)!r} shows no violation")
    violation = violations[0]
    welcome = profile.welcome.pattern if profile.welcome else b""

    def shows(script: Script) -> bool:
        for _ in range(options.tries):
            with started(parser, options.server, options.target) as target:
                found = replay.play(target.host, target.port, script, welcome)
            if any(one.startswith(violation.kind) for one in found):
                print(described(script), file=sys.stderr, flush=True)
                return True
        return False

    with interruptible():
        try:
            script = script_of(recorded)
            if not shows(script):
                parser.error(
                    f"{violation.kind!r} does not show again when all is played without its times, "
                    "faults and bad networks"
                )
            script = reduce(script, shows, BUDGET)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
    target_of = options.server or options.target
    try:
        out.write_text(file_of(script, violation, target_of, welcome, out.name), encoding="utf-8")
    except OSError as error:
        parser.error(f"can't write {str(out)!r}: {error.strerror}")
    print(f"{described(script)}; to see it: python3 {out} HOST PORT")
    return 0


def described(script: Script) -> str:
    """How much of it there is."""
    said = sum(step[0] == "say" for step in script)
    return f"people: {len(people(script))}, lines that they say: {said}"


def file_of(script: Script, violation: Violation, target: str, welcome: bytes, name: str) -> str:
    """The file that shows the violation. Pure."""
    source = Path(replay.__file__).read_text(encoding="utf-8")
    about = f"{violation.kind} ({violation.clause}): {violation.says}"
    return _FILE.format(
        about=about.replace("\\", "\\\\").replace('"""', "'''"),
        name=name,
        target=target.replace("\\", "\\\\"),
        script=pprint.pformat(script, width=96),
        kind=violation.kind,
        welcome=welcome,
        replay=source.partition('"""\n\n')[2].rstrip() + "\n",
    )
