"""A profile: the dialect of a server, and the clauses that it claims to keep.

A profile is a TOML file. Some ship in `profiles/`; `python -m harness probe` writes others.
A profile describes:

- what PROTOCOL.md leaves open: the text of the welcome, and notices
- where a server deviates from PROTOCOL.md, so that one defect does not hide all others
- the figures that a test needs to bring a server to its limits

A server whose dialect deviates on purpose (names instead of addresses, a login, an echo) is
judged by the same clauses, but some clauses take another form: see `Profile.forms`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from harness.clauses import clauses_of_kind
from harness.toml_reader import TomlFiles, one_of, parser, string, tables, truth, whole

DEFAULT = "chatroom"
"""Name of the profile that is used if none is given."""

LF, CRLF = "LF", "CR LF"
ADDRESS, NAME, NOTHING = "address", "name", "none"

WRITTEN_PREFIX = re.compile(rb"<[^<>\n]*>")
"""Pattern of the prefix of PREFIX-1. The address in it may be wrong."""

_FILES = TomlFiles("profile", Path(__file__).parent / "profiles")

names = _FILES.names
find = _FILES.find


def _compile(text: Any) -> re.Pattern[bytes]:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a string")
    try:
        re.compile(b"(?:" + text.encode() + b")")  # rejects global flags, such as (?i)
        return re.compile(text.encode())
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _compile_all(texts: Any) -> tuple[re.Pattern[bytes], ...]:
    if not isinstance(texts, list):
        raise ValueError
    return tuple(pattern for text in texts if (pattern := _compile(text)).pattern)


def _parse_claims(ids: Any) -> frozenset[str]:
    claimable = {
        clause.id
        for clause in clauses_of_kind(on_websockets=False).values()
        if clause.level == "SHOULD"
    }
    claimable.add("LINE-5")
    if ids == ["all"]:
        return frozenset(claimable)
    if not isinstance(ids, list):
        raise ValueError
    for claim in ids:
        if not isinstance(claim, str) or claim not in claimable:
            raise ValueError(f"{claim!r} is neither a SHOULD clause nor LINE-5")
    return frozenset(ids)


_pattern = parser("a pattern", _compile)
_pattern_or_none = parser("a pattern", lambda text: _compile(text) if text != "" else None)
_patterns = parser("a list of patterns", _compile_all)
_claims = parser("a list of SHOULD clauses and LINE-5, or ['all']", _parse_claims)
_count = whole(0)
_line_end = one_of((LF, CRLF))


@dataclass(frozen=True)
class LoginStep:
    """A question of the server, and the line that answers it.

    expects: pattern of the end of the question; empty: the client answers at once. sends: the
    answer, without line end; the client's name replaces `{name}`.
    """

    sends: Annotated[str, string]
    expects: Annotated[re.Pattern[bytes], _pattern] = re.compile(b"")


@dataclass(frozen=True)
class Profile:
    """One server's dialect, limits and claims.

    login: questions and answers before a client is a member.
    welcome: pattern of the whole welcome, after the login; None (an empty string in the file):
    no welcome.
    prefix: pattern of the text before a message. Its groups `name`, `ip` and `port` are optional;
    they identify the sender.
    identity: `address`: the clauses on prefixes are judged as they are written; `name`: the
    prefix identifies the sender in another way; `none`: no prefix identifies the sender. Empty in
    the file: `address` if the prefix is that of PREFIX-1, `none` if it is empty, else `name`.
    echo: pattern of the text before a message that the server sends back to its sender; None: the
    server does not send messages back.
    suffix: pattern of additional bytes between a text and its line end, or right after the line
    end.
    colours: whether the output contains SGR sequences, which are removed before anything else.
    commands: characters that begin a command, so that no text may begin with them.
    input_line_end, output_line_end: the line end that the server expects, and that it sends.
    notices: patterns of whole lines that the server itself sends.
    claims: ids of the SHOULD clauses that the server claims to keep, and LINE-5 if it claims that
    one: LINE-5 is a MUST clause, but is judged only for a server that claims it.
    full_options: arguments that limit the room to `full_clients` clients; empty: unknown.
    lag_limit: bytes that a member may lag; 0: unknown.
    rate, burst: bytes per second, and bytes at once, that a member may send; 0: unknown.
    """

    name: str
    about: Annotated[str, string] = ""
    login: Annotated[tuple[LoginStep, ...], tables(LoginStep)] = ()
    welcome: Annotated[re.Pattern[bytes] | None, _pattern_or_none] = None
    prefix: Annotated[re.Pattern[bytes], _pattern] = WRITTEN_PREFIX
    identity: Annotated[str, one_of((ADDRESS, NAME, NOTHING))] = ""
    echo: Annotated[re.Pattern[bytes] | None, _pattern] = None
    suffix: Annotated[re.Pattern[bytes] | None, _pattern_or_none] = None
    colours: Annotated[bool, truth] = False
    commands: Annotated[str, string] = ""
    input_line_end: Annotated[str, _line_end] = LF
    output_line_end: Annotated[str, _line_end] = LF
    notices: Annotated[tuple[re.Pattern[bytes], ...], _patterns] = ()
    claims: Annotated[frozenset[str], _claims] = frozenset()
    full_options: Annotated[str, string] = ""
    full_clients: Annotated[int, _count] = 0
    lag_limit: Annotated[int, _count] = 0
    rate: Annotated[int, _count] = 0
    burst: Annotated[int, _count] = 0

    def __post_init__(self) -> None:
        if not self.identity:
            own = NAME if self.prefix.pattern else NOTHING
            found = ADDRESS if self.prefix.pattern == WRITTEN_PREFIX.pattern else own
            object.__setattr__(self, "identity", found)
        if self.identity != NOTHING and not self.prefix.pattern:
            raise ValueError("identity must be 'none', as the prefix is empty")

    @property
    def shows_address(self) -> bool:
        """True if the prefix has a group for the sender's address or port."""
        return bool({"ip", "port"} & self.prefix.groupindex.keys())

    @property
    def sends_name(self) -> bool:
        """True if a client sends a name in the login."""
        return any("{name}" in step.sends for step in self.login)

    def sender(self, prefix: bytes) -> bytes:
        """Return the part of a prefix that identifies the sender: its groups `name`, `ip` and
        `port`, or the whole prefix if the pattern has none of them.

        With such a group, a time in the prefix, for example, is left out.
        """
        match = self.prefix.search(prefix)
        found = match.groupdict() if match else {}
        parts = [found[key] for key in ("name", "ip", "port") if found.get(key) is not None]
        return b":".join(parts) if parts else prefix

    def dialect(self) -> list[str]:
        """Return the deviations from PROTOCOL.md, each as a short text."""
        by_identity = {
            ADDRESS: "",
            NAME: "prefixes with names instead of addresses",
            NOTHING: "messages without prefix",
        }
        found = [
            "a login" if self.login else "",
            "prefixes of another form" if self.shows_address else by_identity[self.identity],
            "own messages come back" if self.echo is not None else "",
            "text behind each message" if self.suffix else "",
            "colours" if self.colours else "",
            f"commands that begin with {self.commands}" if self.commands else "",
            "input lines end with CR LF" if self.input_line_end == CRLF else "",
            "output lines end with CR LF" if self.output_line_end == CRLF else "",
            "" if "LINE-5" in self.claims else "unfinished lines wait for their end",
        ]
        return [each for each in found if each]

    def forms(self) -> dict[str, str]:
        """Return the clauses that take another form in this dialect: the text of that form, by id.

        The text is empty if the clause has no meaning in this dialect.
        """
        found = dict.fromkeys(self.inapplicable(), "")
        if self.login and self.welcome:
            found["WELCOME-1"] = (
                "The first bytes that a client receives after its login are the welcome, once."
            )
        if self.identity == NAME:
            found |= {
                "PREFIX-1": "A message is delivered as the declared prefix and its text, with"
                " nothing between.",
                "PREFIX-2": "Each message has its sender's declared name, and no other name.",
                "PREFIX-4": "Every line that is delivered starts with exactly one prefix, with its"
                " sender's name.",
            }
        if self.echo is not None:
            found["CAST-2"] = "A message reaches its sender once, with the declared prefix."
        if self.commands:
            found["CAST-3"] = (
                f"The text of a message that does not begin with {self.commands} arrives as it"
                " was sent."
            )
        if CRLF in (self.input_line_end, self.output_line_end):
            found["LINE-1"] = (
                "A line that was sent in one piece is one message, and keeps its declared line end."
            )
        if self.output_line_end == CRLF:
            found["WELCOME-4"] = "The welcome ends with CR LF."
        return found

    def inapplicable(self) -> dict[str, str]:
        """Return the clauses that have no meaning in this dialect: the reason, by id."""
        found: dict[str, str] = {}
        if self.identity == NOTHING:
            prefixes = ("PREFIX-1", "PREFIX-2", "PREFIX-3", "PREFIX-4")
            found |= dict.fromkeys(prefixes, "in this dialect, no prefix identifies the sender")
        elif self.identity == NAME and "ip" not in self.prefix.groupindex:
            found["PREFIX-3"] = "in this dialect, prefixes contain no address"
        if "LINE-5" not in self.claims:
            why = "the profile does not claim LINE-5: unfinished text may wait for its line end"
            found |= dict.fromkeys(("LINE-5", "LINE-6"), why)
        return found


WRITTEN = Profile("written", claims=frozenset({"LINE-5"}))
"""PROTOCOL.md as it is written, with no welcome."""


def load(name: str) -> Profile:
    """Return the profile with this name or file name. Raise TomlError if it is invalid."""
    return parse(_FILES.text(name), find(name).stem)


def parse(text: str, name: str) -> Profile:
    """Return the profile that a TOML text describes. Raise TomlError if it is invalid."""
    return _FILES.parse(Profile, text, name, name=name)
