"""A profile: the dialect of a server, and the clauses that it claims to hold.

A profile is a TOML file: one that ships in `profiles/`, or one that `python -m harness
probe` wrote. It describes what PROTOCOL.md leaves open (the text of the welcome, notices),
where a server deviates (so that one defect does not hide all others), and the figures that
a test needs to bring a server to its limits. A clause that the server breaks fails with
any profile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from harness.clauses import all_clauses
from harness.toml_reader import TomlFiles, parser, string, whole

DEFAULT = "chatroom"
"""Name of the profile that is used if none is given."""

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
    should = {clause.id for clause in all_clauses().values() if clause.level == "SHOULD"}
    if ids == ["all"]:
        return frozenset(should)
    if not isinstance(ids, list):
        raise ValueError
    for claim in ids:
        if not isinstance(claim, str) or claim not in should:
            raise ValueError(f"{claim!r} is not a SHOULD clause")
    return frozenset(ids)


_pattern = parser("a pattern", _compile)
_pattern_or_none = parser("a pattern", lambda text: _compile(text) if text != "" else None)
_patterns = parser("a list of patterns", _compile_all)
_claims = parser("a list of SHOULD clauses, or ['all']", _parse_claims)
_count = whole(0)


@dataclass(frozen=True)
class Profile:
    """One server's dialect, limits and claims.

    welcome: pattern of the whole welcome; None (an empty string in the file): no welcome.
    prefix: pattern of the text before a message.
    notices: patterns of whole lines that the server itself sends.
    claims: ids of the SHOULD clauses that the server claims to hold.
    full_options: arguments that limit the room to `full_clients` clients; empty: unknown.
    lag_limit: bytes that a member may lag; 0: unknown.
    rate, burst: bytes per second, and bytes at once, that a member may send; 0: unknown.
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
    """Return the profile of this name, or from this file. Raise TomlError if it is invalid."""
    return parse(_FILES.text(name), find(name).stem)


def parse(text: str, name: str) -> Profile:
    """Return the profile that a TOML text describes. Raise TomlError if it is invalid."""
    return _FILES.parse(Profile, text, name, name=name)
