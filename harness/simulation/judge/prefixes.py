"""The prefixes of messages: as PROTOCOL.md says, or in the dialect of a profile."""

from __future__ import annotations

import re

from harness.profile import ADDRESS, NAME, WRITTEN_PREFIX, Profile
from harness.simulation.judge.facts import Facts, Message, Session
from harness.simulation.judge.judgement import shown

_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_NUMBER = re.compile(r"\d+")


class Prefixes:
    def __init__(self, facts: Facts, profile: Profile) -> None:
        self._facts = facts
        self._profile = profile
        self.are_ours = (
            profile.prefix.pattern == WRITTEN_PREFIX.pattern and profile.identity == ADDRESS
        )
        """True if prefixes are those of PROTOCOL.md."""
        self.echoes = profile.echo is not None
        """True if a client's own messages must come back to it."""
        self._names = {each.name.casefold() for each in facts.sessions.values() if each.name}
        self._true: dict[tuple[int, bytes], bool] = {}
        """Results of `is_true`, by session and prefix."""
        self._given: dict[int, bytes] = {}
        """Name that the server has given to each session, as its first message shows it."""
        self._owners: dict[bytes, int] = {}
        """Latest session with each of these names."""

    def of(self, message: Message) -> bytes:
        """Return the prefix of a message; empty for another dialect, in which it is unknown."""
        address = self._facts.sessions[message.sender].address
        return b"<%s>" % address.encode() if self.are_ours else b""

    def is_true(self, prefix: bytes, message: Message) -> bool:
        """Return whether the prefix of a message, as others receive it, is its sender's."""
        key = message.sender, prefix
        if key not in self._true:
            self._true[key] = self._is_true(prefix, message)
        return self._true[key]

    def is_echo(self, prefix: bytes) -> bool:
        """Return whether a client's own message may come back with this prefix."""
        echo = self._profile.echo
        return echo is not None and echo.fullmatch(prefix) is not None

    def wrong(self, prefix: bytes, message: Message) -> str:
        """Describe a wrong prefix, without what differs in each message."""
        sender, text = self._facts.sessions[message.sender], shown(prefix)
        if self._profile.identity == NAME:
            said = self._profile.sender(prefix).decode("utf-8", "replace").casefold()
            if said in self._names and said != sender.name.casefold():
                return "the prefix named another client"
        for own, kind in ((sender.address, "IP"), (sender.name, "NAME")):
            text = text.replace(own, kind) if own else text
        text = _NUMBER.sub("N", _ADDRESS.sub("another IP", text))
        due = " instead of “<IP>”" if self.are_ours else ", which is not the sender’s"
        return f"the prefix was “{text}”{due}"

    def _is_true(self, prefix: bytes, message: Message) -> bool:
        """Check PREFIX-1 and PREFIX-2, or that a prefix of another dialect names its sender."""
        if self.are_ours:
            return prefix == self.of(message)
        found = self._profile.prefix.fullmatch(prefix)
        if found is None or self._profile.identity != NAME:
            return found is not None
        sender, said = self._facts.sessions[message.sender], found.groupdict()
        has_port = sender.port and sender.link is None  # a faulty network has ports of its own
        known = {"ip": sender.address, "port": str(sender.port) if has_port else ""}
        if self._profile.sends_name:
            known["name"] = sender.name
        elif said.get("name") is not None and not self._is_given(said["name"], sender):
            return False
        return all(
            said.get(key) is None or said[key].lower() == due.lower().encode()
            for key, due in known.items()
            if due
        )

    def _is_given(self, name: bytes, sender: Session) -> bool:
        """Return whether a session has always had this name, which the server has given, and no
        other has it that is there at the same time."""
        name = name.lower()
        own = self._given.setdefault(sender.number, name)
        owner = self._facts.sessions[self._owners.setdefault(name, sender.number)]
        if owner is not sender and owner.until < sender.connects:
            self._owners[name], owner = sender.number, sender
        return own == name and owner is sender
