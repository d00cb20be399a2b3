"""The messages that each session received, in order, and the violations in their lines."""

from __future__ import annotations

from dataclasses import replace

from harness.simulation.history import Event, as_bytes
from harness.simulation.judge.facts import Facts, Session
from harness.simulation.judge.judgement import MISPREFIXED, TORN, Judgement, shown
from harness.simulation.judge.lines import Line, Lines
from harness.simulation.judge.prefixes import Prefixes
from harness.simulation.judge.reassembly import Reassembly


class Deliveries:
    """Records the received messages in `heard` of each session."""

    def __init__(
        self,
        facts: Facts,
        lines: Lines,
        prefixes: Prefixes,
        pieces: Reassembly,
        judgement: Judgement,
    ) -> None:
        self._facts = facts
        self._lines = lines
        self._prefixes = prefixes
        self._pieces = pieces
        self._judgement = judgement
        self._read: dict[str, Line | None] = {}
        """Results of parsing each unexpected line; None for a notice."""
        self._greeted_late = {session.number for _, session in facts.unwelcomed}
        """Sessions that received other text first, and have not received the welcome so far."""

    def collect(self) -> None:
        facts, index = self._facts, self._facts.index
        for event in facts.hears:
            session = facts.session(event["who"])
            try:
                session.heard += [index[name] for name in event["hears"]]
            except (KeyError, TypeError):  # the event contains unexpected lines
                self._one_by_one(session, event)

    def _one_by_one(self, session: Session, event: Event) -> None:
        index = self._facts.index
        for heard in event["hears"]:
            if isinstance(heard, dict):
                self._strange(session, event["t"], heard["line"])
            elif heard in index:
                session.heard.append(index[heard])

    def _strange(self, session: Session, t: float, line: str) -> None:
        """Handle an unexpected line: record its messages, and report violations."""
        pieces = self._pieces
        try:
            found = self._read[line]
        except KeyError:
            found = self._read[line] = self._lines.read(as_bytes(line))
        if found is None or (session.pieces and pieces.goes_on(session, found)):
            return
        if session.number in self._greeted_late and self._lines.is_welcome(line):
            self._greeted_late.remove(session.number)
        elif found.message is not None and (
            (truly := self._is_true(session, found)) or not pieces.is_rest(session, t, found)
        ):
            session.heard.append(found.message)
            if not truly and not self._is_behind_another(session, t, found):
                self._misprefixed(session, t, found.message, found.prefix)
            if found.text != found.due:
                self._check_text(session, t, found.message, found)
            for index in found.more:
                self._glued(session, t, index, found.message)
        elif found.message is None and not (
            pieces.begins_in_token(session, found) or pieces.is_rest(session, t, found)
        ):
            says = f"{session} received a line that no client sent: “{shown(as_bytes(line))}”"
            cause = "a client received a line that no client sent"
            self._judgement.add(TORN, t, session, says, cause)

    def _is_true(self, session: Session, found: Line) -> bool:
        """Return whether the prefix of a line is the one that its message must have."""
        index = found.message
        if index is None:
            return False
        message = self._facts.messages[index]
        if self._prefixes.echoes and message.sender == session.number:
            return self._prefixes.is_echo(found.prefix)
        return self._prefixes.is_true(found.prefix, message)

    def _glued(self, session: Session, t: float, index: int, before: int) -> None:
        """Handle a message that was received in the same line as another message (LINE-3)."""
        session.heard.append(index)
        name, other = self._facts.describe(index), self._facts.messages[before].name
        says = f"{session} received {name} in one line with {other}"
        cause = "two messages arrived in one line"
        self._judgement.add(TORN, t, session, says, cause, self._facts.messages[index].name)

    def _is_behind_another(self, session: Session, t: float, found: Line) -> bool:
        """Return whether a message has its true prefix, but behind the unfinished line of another;
        if so, report this (LINE-6)."""
        before, own = self._prefixes.split(found.prefix)
        if not before or not self._is_true(session, replace(found, prefix=own)):
            return False
        assert found.message is not None
        says = f"{session} received {self._facts.describe(found.message)} behind “{shown(before)}”"
        cause = "two messages arrived in one line"
        name = self._facts.messages[found.message].name
        self._judgement.add(TORN, t, session, says, cause, name)
        return True

    def _misprefixed(self, session: Session, t: float, index: int, prefix: bytes) -> None:
        says = f"{session} received {self._facts.describe(index)} with the prefix “{shown(prefix)}”"
        message = self._facts.messages[index]
        cause, clause = self._prefixes.wrong(prefix, message), ""
        senders = [self._facts.messages[heard].sender for heard in session.heard[-2:]]
        if not prefix and senders == [message.sender] * 2:
            cause, clause = "the second line of a segment arrived without a prefix", "LINE-3"
        self._judgement.add(MISPREFIXED, t, session, says, cause, message.name, clause)

    def _check_text(self, session: Session, t: float, index: int, found: Line) -> None:
        """Check that a text arrived as it was sent (CAST-3, TEXT-1, TEXT-2, TEXT-3).

        Only the beginning may arrive if the server may deliver the message in pieces.
        """
        message = self._facts.messages[index]
        if found.due and self._facts.may_be_in_pieces(message):
            self._pieces.begin(session, found, index)
            return
        was, came = shown(message.text), shown(found.text.encode())
        name = self._facts.describe(index)
        says = f"{session} received {name} as “{came}”, but it was sent as “{was}”"
        cause = "only the beginning of a line arrived" if found.due else "a text was changed"
        if found.more:
            cause = "two messages arrived in one line"
        self._judgement.add(TORN, t, session, says, cause, message.name)
