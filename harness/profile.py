"""A profile: how a server speaks, and what it claims to hold.

Written in TOML, for `profiles/` or by `python -m harness probe`. It describes
what PROTOCOL.md leaves open (the words of the welcome, notices), what a server
does otherwise (so that one defect does not hide all others), and what a test
has to know to bring a server to its limits. It never makes a clause hold.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from harness.clauses import all_clauses

FOLDER = Path(__file__).parent / "profiles"

DEFAULT = "chatroom"
"""The profile of a server of which nothing else is said."""

_KINDS = {str: "text", int: "a whole number", list: "a list"}


class ProfileError(ValueError):
    """A profile is not there, or is not one; the message names what is wrong, in one line."""


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
    about: str = ""
    welcome: re.Pattern[bytes] | None = None
    prefix: re.Pattern[bytes] = re.compile(rb"<[^<>\n]*>")
    notices: tuple[re.Pattern[bytes], ...] = ()
    claims: frozenset[str] = frozenset()
    full_options: str = ""
    full_clients: int = 0
    lag_limit: int = 0
    rate: int = 0
    burst: int = 0


def names() -> list[str]:
    """The profiles that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find(name: str) -> Path:
    """Where the profile of that name is; any other name is that of a file."""
    return FOLDER / f"{name}.toml" if name in names() else Path(name)


def load(name: str) -> Profile:
    """The profile of that name, or in that file. Raises ProfileError."""
    path = find(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(names())
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ProfileError(f"profile {name!r}: {reason} (those that ship: {known})") from None
    return parse(text, path.stem)


def parse(text: str, name: str) -> Profile:
    """The profile that a TOML text describes. Raises ProfileError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"profile {name!r} is not TOML: {error}") from None
    return _Reader(name, table).profile()


class _Reader:
    """Takes the keys of a table one after another; what is left over is not known."""

    def __init__(self, name: str, table: Mapping[str, Any]) -> None:
        self._name = name
        self._left = dict(table)

    def profile(self) -> Profile:
        found = Profile(
            name=self._name,
            about=self._take("about", str, ""),
            welcome=self._pattern("welcome", self._take("welcome", str, "")),
            prefix=self._pattern("prefix", self._take("prefix", str, "<[^<>\\n]*>"))
            or re.compile(b""),
            notices=tuple(
                pattern
                for text in self._take("notices", list, [])
                if (pattern := self._pattern("notices", text))
            ),
            claims=self._claims(self._take("claims", list, [])),
            full_options=self._take("full_options", str, ""),
            full_clients=self._take("full_clients", int, 0),
            lag_limit=self._take("lag_limit", int, 0),
            rate=self._take("rate", int, 0),
            burst=self._take("burst", int, 0),
        )
        if self._left:
            known = ", ".join(key for key in Profile.__dataclass_fields__ if key != "name")
            self._fail(f"{next(iter(self._left))!r} is no key; there are {known}")
        return found

    def _take(self, key: str, kind: type[Any], default: Any) -> Any:
        value = self._left.pop(key, default)
        if not isinstance(value, kind) or isinstance(value, bool):
            self._fail(f"{key!r} has to be {_KINDS[kind]}, not {value!r}")
        if kind is int and value < 0:
            self._fail(f"{key!r} can't be below 0, as {value} is")
        return value

    def _pattern(self, key: str, text: Any) -> re.Pattern[bytes] | None:
        if not isinstance(text, str):
            self._fail(f"{key!r} has to hold text, not {text!r}")
        try:
            re.compile(b"(?:" + text.encode() + b")")  # which no flag for the whole of it survives
            return re.compile(text.encode()) if text else None
        except (re.error, OverflowError, RecursionError) as error:
            self._fail(f"{key!r} is no pattern: {error}")

    def _claims(self, ids: list[Any]) -> frozenset[str]:
        should = {clause.id for clause in all_clauses().values() if clause.level == "SHOULD"}
        if ids == ["all"]:
            return frozenset(should)
        for claim in ids:
            if not isinstance(claim, str) or claim not in should:
                self._fail(f"'claims': {claim!r} is no SHOULD clause")
        return frozenset(ids)

    def _fail(self, what: str) -> NoReturn:
        raise ProfileError(f"profile {self._name!r}: {what}")
