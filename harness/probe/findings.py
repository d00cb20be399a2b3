"""Make a profile from the bytes that a few clients received. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from harness.probe.patterns import TIME, common_begin, escaped, gathered, generalised, pattern
from harness.profile import ADDRESS, CRLF, LF, NAME, NOTHING, WRITTEN_PREFIX


@dataclass(frozen=True)
class Delivery:
    """One message, as another member or the sender itself received it.

    before: the text before the message on its line. name, address, port: those of the sender.
    """

    before: bytes
    name: bytes = b""
    address: bytes = b""
    port: int = 0


@dataclass
class Findings:
    """Observations of the clients. All texts are canonical (see `harness.clients.dialect`).

    login: for each step, the questions that the clients received, and their answer.
    own: deliveries of a message to its own sender.
    suffixes: texts between a message and its line end, and after the line end.
    """

    login: list[tuple[list[bytes], str]] = field(default_factory=list)
    welcomes: list[bytes] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    own: list[Delivery] = field(default_factory=list)
    suffixes: list[bytes] = field(default_factory=list)
    notices: list[bytes] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    commands: str = ""
    colours: bool = False
    input_line_end: str = LF
    output_line_end: str = LF


def prefix_of(deliveries: Sequence[Delivery]) -> tuple[str, str]:
    """Return the pattern of the prefix, and the profile's `identity`."""
    befores = [each.before for each in deliveries]
    if not any(befores):
        return "", NOTHING
    if all(map(WRITTEN_PREFIX.fullmatch, befores)) and all(
        _contains_address(each.before, each.address) or _V4.search(each.before)
        for each in deliveries
    ):
        return WRITTEN_PREFIX.pattern.decode(), ADDRESS
    if all(each.name and each.name.lower() in each.before.lower() for each in deliveries):
        return _with_group(deliveries, lambda each: each.name, "name"), NAME
    if all(_contains_address(each.before, each.address) for each in deliveries):
        made = _with_group(deliveries, lambda each: each.address, "ip")
        if all(b"%d" % each.port in each.before for each in deliveries):
            made = made.replace(_GROUPS["ip"] + r":\d+", _GROUPS["ip"] + r":(?P<port>\d+)")
        return made, NAME
    if share_prefix(deliveries):
        names = {each.name for each in deliveries if each.name}
        made = _with_times(pattern(_without_times(deliveries), names))
        is_identity = names or any(map(_LIKE_IDENTITY.search, befores))
        return made, NAME if is_identity else NOTHING
    return _with_assigned_names(deliveries)


def share_prefix(deliveries: Sequence[Delivery]) -> bool:
    """Return whether all senders have the same prefix, apart from times.

    Return False if this prefix contains each sender's address: then all senders have one address.
    """
    by_sender: dict[int, set[bytes]] = {}
    for each, text in zip(deliveries, _without_times(deliveries), strict=True):
        by_sender.setdefault(each.port, set()).add(text)
    return len({frozenset(found) for found in by_sender.values()}) == 1 and not all(
        _contains_address(each.before, each.address) for each in deliveries
    )


def _without_times(deliveries: Sequence[Delivery]) -> list[bytes]:
    """Return the texts before the messages, with `0:0` in place of each time of day."""
    return [TIME.sub(b"0:0", each.before) for each in deliveries]


_V4 = re.compile(rb"(?<![\w.])\d+\.\d+\.\d+\.\d+(?![\w.])")

_LIKE_IDENTITY = re.compile(
    rb"(?i)guest|user|client|member|visitor|stranger|player|person|peer|anon|unknown|nobody"
    rb"|some(?:one|body)|name|none|null|undefined|%b" % _V4.pattern
)
"""Pattern of an address, or of a word by which many servers name a sender. If all senders have the
same prefix, and the pattern matches, as for `guest: `, the prefix should identify the sender, but
does not. If the pattern does not match, as for `message: `, the dialect identifies no sender."""

_GROUPS = {"name": r"(?P<name>\w+)", "ip": r"(?P<ip>\d+\.\d+\.\d+\.\d+)"}
_MARK = b"\xffid\xff"


def _contains_address(before: bytes, address: bytes) -> bool:
    return bool(
        address and re.search(rb"(?<![\w.])(?:::ffff:)?%b(?![\w.])" % re.escape(address), before)
    )


def _with_group(
    deliveries: Sequence[Delivery], part: Callable[[Delivery], bytes], group: str
) -> str:
    """Return the pattern of the prefixes. The part that identifies the sender is a named group."""
    texts = []
    for each in deliveries:  # some servers capitalise names
        marked = re.sub(b"(?i)" + re.escape(part(each)), _MARK, each.before, count=1)
        texts.append(TIME.sub(b"0:0", marked))
    return _with_times(pattern(texts)).replace(escaped(_MARK), _GROUPS[group])


def _with_times(made: str) -> str:
    """Return a pattern in which the generalised `0:0`, a placeholder for a time of day, matches any
    time of day."""
    return made.replace(r"\d+:\d+", r"\d+(?::\d+){1,2}(?:\.\d+)?(?: ?[AP]M)?")


def _with_assigned_names(deliveries: Sequence[Delivery]) -> tuple[str, str]:
    """Return pattern and identity of prefixes with names that the server assigns. The name is the
    part in which the prefixes of different senders differ."""
    texts = _without_times(deliveries)
    begin = common_begin(texts)
    end = common_begin([text[::-1] for text in texts])[::-1]
    while begin and re.fullmatch(rb"\w", begin[-1:]):
        begin = begin[:-1]
    while end and re.fullmatch(rb"\w", end[:1]):
        end = end[1:]
    shortest = min(map(len, texts))
    end = end[max(0, len(begin) + len(end) - shortest + 1) :]
    names = [text[len(begin) : len(text) - len(end)] for text in texts]
    if all(re.fullmatch(rb"\w+", name) for name in names):
        kind = r"\w+"
    elif end:
        kind = rf"[^\n{escaped(end[:1])}]+"
    else:
        return _with_times(pattern(texts)), NAME
    before, behind = (_with_times(generalised(text)) for text in (begin, end))
    return f"{before}(?P<name>{kind}){behind}", NAME


def as_toml(name: str, findings: Findings) -> str:
    """Return the profile as the text of a file that `harness.profile` reads."""
    prefix, identity = prefix_of(findings.deliveries)
    notices = gathered({generalised(line, findings.names) for line in findings.notices})
    notices = [
        notice for notice in notices if notice != r"\n" and not _matches_messages(notice, findings)
    ]
    welcome = pattern(findings.welcomes, findings.names)
    if re.fullmatch(welcome.encode(), b"") or _is_arrival(welcome, findings):
        # Either the pattern matches anything, because each client received a different text, such
        # as a history; or the text is a notice about the new client, which all members receive.
        welcome = ""
    shown = "".join(char if char.isprintable() else "?" for char in name)
    lines = [
        f"# The dialect of {shown}, as `python -m harness probe` found it.",
        f"welcome = {_quoted(welcome)}",
        f"prefix = {_quoted(prefix)}",
    ]
    if identity != NOTHING and share_prefix(findings.deliveries):
        lines += _ONE_PREFIX
    lines.append(f"identity = {_quoted(identity)}")
    if findings.own:
        lines.append(f"echo = {_quoted(_echo_of(findings, prefix))}")
    if suffix := pattern([each for each in findings.suffixes if each]):
        lines.append(f"suffix = {_quoted(suffix)}")
    if findings.colours:
        lines.append("colours = true")
    if findings.commands:
        lines.append(f"commands = {_quoted(findings.commands)}")
    for key, value in (
        ("input_line_end", findings.input_line_end),
        ("output_line_end", findings.output_line_end),
    ):
        if value == CRLF:
            lines.append(f"{key} = {_quoted(value)}")
    lines += [
        f"notices = [{', '.join(map(_quoted, notices))}]",
        f"claims = [{', '.join(_quoted(claim) for claim in findings.claims)}]",
    ]
    for questions, answer in findings.login:
        lines += [
            "[[login]]",
            f"expects = {_quoted(question_of(questions, findings.names))}",
            f"sends = {_quoted(answer)}",
        ]
    return "\n".join(lines) + "\n"


_ONE_PREFIX = (
    "# All senders had the same prefix, so PREFIX-2 will fail. If the prefix need not identify the",
    "# sender, change the identity to 'none'.",
)


def _matches_messages(notice: str, findings: Findings) -> bool:
    """Return whether a notice's pattern also matches a message of one word, or an empty message."""
    found = re.compile(notice.encode())
    befores = {each.before for each in (*findings.deliveries, *findings.own)} or {b""}
    return any(
        found.fullmatch(before + text + b"\n") for before in befores for text in (b"", _WORD)
    )


_WORD = b"z0123abcd00042"

_ARRIVAL = re.compile(rb"(?i)join|enter|arriv|connect|online|logged")


def _is_arrival(welcome: str, findings: Findings) -> bool:
    """Return whether the welcome is one line about the new client, which all members receive."""
    found = re.compile(welcome.encode())
    return welcome.count(r"\n") == 1 and any(
        found.fullmatch(notice) and _ARRIVAL.search(notice) for notice in findings.notices
    )


def _echo_of(findings: Findings, prefix: str) -> str:
    """Return the pattern of the text before a message that comes back to its sender.

    If the prefix matches all these texts, this is the prefix without the names of its groups.
    """
    if all(re.fullmatch(prefix.encode(), each.before) for each in findings.own):
        return re.sub(r"\(\?P<\w+>", "(?:", prefix)
    own = [TIME.sub(b"0:0", each.before) for each in findings.own]
    return _with_times(pattern(own, findings.names))


def question_of(texts: Sequence[bytes], names: Collection[bytes] = ()) -> str:
    """Return the pattern of the last line of a question; '' if a client received no question."""
    if not all(text.strip() for text in texts):
        return ""
    lasts = []
    for text in texts:
        stripped = text.rstrip(b"\n")
        begin = stripped.rfind(b"\n") + 1
        lasts.append(text[begin:])
    return pattern(lasts, names)


def _quoted(text: str) -> str:
    if "'" not in text:
        return f"'{text}'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
