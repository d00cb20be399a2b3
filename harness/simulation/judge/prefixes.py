"""Checks of the prefixes of messages, in the dialect of PROTOCOL.md or of another profile."""

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
        """True if the server's prefixes are those of PROTOCOL.md."""
        self.echoes = profile.echo is not None
        """True if the server must send each message back to its sender, too."""
        self._names = {each.name.casefold() for each in facts.sessions.values() if each.name}
        self._true: dict[tuple[int, bytes], bool] = {}
        """Results of `is_true`, by sender and prefix."""
        self._given: dict[int, bytes] = {}
        """Name that the server has given to each session, as in its first message's prefix."""
        self._owners: dict[bytes, int] = {}
        """Latest session to which the server has given each name."""

    def of(self, message: Message) -> bytes:
        """Return the prefix that a message must have; empty in a dialect where it is unknown."""
        address = self._facts.sessions[message.sender].address
        return b"<%s>" % address.encode() if self.are_ours else b""

    def is_true(self, prefix: bytes, message: Message) -> bool:
        """Return whether a message may have this prefix when other clients receive it."""
        key = message.sender, prefix
        if key not in self._true:
            self._true[key] = self._is_true(prefix, message)
        return self._true[key]

    def is_echo(self, prefix: bytes) -> bool:
        """Return whether a message may have this prefix when it comes back to its sender."""
        echo = self._profile.echo
        return echo is not None and echo.fullmatch(prefix) is not None

    def split(self, prefix: bytes) -> tuple[bytes, bytes]:
        """Split the text before a message into the unfinished line of another message, which begins
        with a prefix of its own, and the message's prefix. Without such a line, the first part is
        empty."""
        pattern = self._profile.prefix
        first = pattern.match(prefix)
        later = pattern.finditer(prefix, first.end()) if first and first[0] else ()
        begin = next((each.start() for each in later if each[0] and each.end() == len(prefix)), 0)
        return prefix[:begin], prefix[begin:]

    def wrong(self, prefix: bytes, message: Message) -> str:
        """Describe a wrong prefix, in the same words for all messages that are wrong in this way.

        So addresses, names and numbers are replaced by IP, NAME and N.
        """
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
        """Check PREFIX-1 and PREFIX-2; in another dialect, check that a prefix names the sender."""
        if self.are_ours:
            return prefix == self.of(message)
        found = self._profile.prefix.fullmatch(prefix)
        if found is None or self._profile.identity != NAME:
            return found is not None
        sender, said = self._facts.sessions[message.sender], found.groupdict()
        # The proxy of a faulty network connects to the server from other ports.
        has_port = sender.port and sender.link is None
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
        """Return whether a name that the server has given is this sender's, and unique.

        The sender must have had this name in all its messages. No other session that is connected
        at the same time may have it.
        """
        name = name.lower()
        own = self._given.setdefault(sender.number, name)
        owner = self._facts.sessions[self._owners.setdefault(name, sender.number)]
        if owner is not sender and owner.until < sender.connects:
            self._owners[name], owner = sender.number, sender
        return own == name and owner is sender
