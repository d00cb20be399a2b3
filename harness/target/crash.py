"""Find the message of a crash in a server's output. Pure.

A runtime writes several lines when a program crashes, and the last line seldom gives the
reason: Go's is `exit status 2`, Node's is its version. `find` knows the messages of Python,
Go, Node, Java, Rust, Ruby, Perl and C++, and those of C's library and of sanitizers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LINES = 10
"""Maximum number of lines to show of a crash: its message, and the calls next to it."""

SEEN = 2000
"""Number of characters, from the end of an earlier output, to search for in a later output."""
LONGEST = 500
"""Maximum number of characters of a line; the rest of the line is ignored."""


@dataclass(frozen=True)
class Crash:
    """A crash. says: its message, in one line. lines: the lines to show. begin: index of its first
    character in the output. end: index after its last character."""

    says: str
    lines: tuple[str, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Form:
    """The form of a runtime's message.

    begins: pattern of its first line. goes_on: pattern of its further lines. says: pattern of the
    line that contains the message, in group 1; the first line that matches is used. least: minimum
    number of its lines. ends: true if the message is the line after all these, as in Python; `says`
    is then unused.
    """

    begins: re.Pattern[str]
    goes_on: re.Pattern[str]
    says: re.Pattern[str]
    least: int
    ends: bool


def _form(
    begins: str, goes_on: str = "(?!)", says: str = "(.+)", *, least: int = 1, ends: bool = False
) -> Form:
    return Form(re.compile(begins), re.compile(goes_on), re.compile(says), least, ends)


_ERROR = r"(?:[\w$]+[.:]+)*(?:[A-Z]\w*)?(?:Error|Exception)"

_STACK = r"\s+at |\s+\.\.\. |Caused by: "

FORMS = {
    "Python": _form(r"Traceback \(most recent call last\):$", r"\s|$", least=2, ends=True),
    "Go": _form(r"(panic|fatal error): ", r"$|\t|\[signal |goroutine \d|created by |\S+\(.*\)$"),
    "Node": _form(r"(node:|file:|/)\S+:\d+$", r"(?!Node\.js v)", rf"^({_ERROR}\b.*)"),
    "Java": _form(r"Exception in thread \"", _STACK, r"^Exception in thread \".*?\" (.+)"),
    "a printed stack": _form(rf"{_ERROR}(: .*)?$", _STACK, least=2),  # of Java or Node
    "Rust": _form(r"thread '.*' .*panicked at ", r"(?!note: )", r"^(?!thread |stack |\s)(.+)"),
    "Ruby": _form(r"\S+:\d+:in [`'].*: .* \([A-Z]\S*\)$", r"$|\s|\S.*\(.*\)$"),
    "Perl": _form(r"\S.* at \S+\.p[lm] line \d+\.$"),
    "C++": _form(r"terminate called ", r"  what\(\)", r"what\(\): *(.+)"),
    "sanitizer": _form(r"==\d+== ?ERROR: ", r"(?!SUMMARY: )", r"ERROR: (.+)"),
    "undefined behaviour": _form(r"\S+:\d+:\d+: runtime error: "),
    "assert": _form(r"\S.*: Assertion `.*' failed\.$"),
    "C's library": _form(
        r"\*\*\* .* \*\*\*: terminated|(free|malloc|realloc|munmap_chunk)\(\): "
        r"|double free or |corrupted "
    ),
}
"""The known forms by name. If several forms match a line, the first one is used."""


def find(output: str) -> Crash | None:
    """Return the last crash in an output; None if there is none."""
    whole = output.splitlines(keepends=True)
    lines = [line[:LONGEST].rstrip() for line in whole]
    found = None
    number = begin = 0
    while number < len(lines):
        form = next((form for form in FORMS.values() if form.begins.match(lines[number])), None)
        end = number + 1
        if form is not None:
            while end < len(lines) and form.goes_on.match(lines[end]):
                end += 1
            end = min(end + form.ends, len(lines))
        behind = begin + sum(map(len, whole[number:end]))
        if form is not None:
            found = _crash(form, lines[number:end], begin, behind) or found
        begin, number = behind, end
    return found


def _crash(form: Form, block: list[str], begin: int, end: int) -> Crash | None:
    block = [line for line in block if line]
    if len(block) < form.least:
        return None
    if form.ends:  # the innermost calls are at the end
        shown, says = [block[0], *block[1:][1 - LINES :]], block[-1]
    else:
        shown = block[:LINES]
        says = next((match[1] for line in block if (match := form.says.search(line))), "")
    return Crash(says.strip(), tuple(shown), begin, end) if says else None


def since(before: str, output: str) -> str:
    """Return the part of `output` that was printed after `before`, an earlier output.

    If the beginning of the output has been dropped since then, the end of `before` is searched for
    in `output`.
    """
    if output.startswith(before):
        return output[len(before) :]
    known = before[-SEEN:]
    return output.partition(known)[2] if known and known in output else output


def tail(output: str, most: int) -> str:
    """Return the last `most` characters of an output. If a crash begins before them, put the lines
    of the crash in front."""
    crash = find(output)
    last = output[-most:]
    if crash is None or crash.begin >= len(output) - len(last):
        return last
    return "\n".join((*crash.lines, "…", last))
