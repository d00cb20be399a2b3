"""A profile: how a server speaks, and what it claims to hold.

Written in TOML, for `profiles/` or by `python -m harness probe`. It describes
what PROTOCOL.md leaves open (the words of the welcome, notices), what a server
does otherwise (so that one defect does not hide all others), and what a test
has to know to bring a server to its limits. It never makes a clause hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from harness.clauses import all_clauses
from harness.toml_reader import TomlFiles, parser, string, whole

DEFAULT = "chatroom"
"""The profile of a server of which nothing else is said."""

_FILES = TomlFiles("profile", Path(__file__).parent / "profiles")

names = _FILES.names
find = _FILES.find


def _compile(text: Any) -> re.Pattern[bytes]:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no text")
    try:
        re.compile(b"(?:" + text.encode() + b")")  # which no flag for the whole of it survives
        return re.compile(text.encode())
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _compile_all(texts: Any) -> tuple[re.Pattern[bytes], ...]:
    if not isinstance(texts, list):
        raise ValueError
    return tuple(pattern for text in texts if (pattern := _compile(text)).pattern)


def _parse_claims(ids: Any) -> frozenset[str]:
    should = {clause.id for clause in all_clauses().values() if clause.level == "SHOULD"}
    if ids == ["all"]:
        return frozenset(should)
    if not isinstance(ids, list):
        raise ValueError
    for claim in ids:
        if not isinstance(claim, str) or claim not in should:
            raise ValueError(f"{claim!r} is none")
    return frozenset(ids)


_pattern = parser("a pattern", _compile)
_pattern_or_none = parser("a pattern", lambda text: _compile(text) if text != "" else None)
_patterns = parser("a list of patterns", _compile_all)
_claims = parser("a list of SHOULD clauses, or ['all']", _parse_claims)
_count = whole(0)


@dataclass(frozen=True)
class Profile:
    """One server's dialect.

    welcome: a pattern of the whole text that greets a newcomer; empty: there is none.
    prefix: a pattern of what stands before a message.
    notices: patterns of whole lines that the server says by itself.
    claims: the ids of the SHOULD clauses that it claims to hold.
    full_options: arguments that make a room of `full_clients`; empty: not known.
    lag_limit: bytes that a member may lag; 0: not known.
    rate, burst: bytes a second, and bytes, that a member may send; 0: not known.
    """

    name: str
    about: Annotated[str, string] = ""
    welcome: Annotated[re.Pattern[bytes] | None, _pattern_or_none] = None
    prefix: Annotated[re.Pattern[bytes], _pattern] = re.compile(rb"<[^<>\n]*>")
    notices: Annotated[tuple[re.Pattern[bytes], ...], _patterns] = ()
    claims: Annotated[frozenset[str], _claims] = frozenset()
    full_options: Annotated[str, string] = ""
    full_clients: Annotated[int, _count] = 0
    lag_limit: Annotated[int, _count] = 0
    rate: Annotated[int, _count] = 0
    burst: Annotated[int, _count] = 0


def load(name: str) -> Profile:
    """Return the profile of that name, or in that file. Raise TomlError."""
    return parse(_FILES.text(name), find(name).stem)


def parse(text: str, name: str) -> Profile:
    """Return the profile that a TOML text describes. Raise TomlError."""
    return _FILES.parse(Profile, text, name, name=name)
