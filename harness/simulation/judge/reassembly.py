"""Messages that may arrive in pieces (LINE-5): find the pieces, and check that none is missing."""

from __future__ import annotations

from collections.abc import Sequence

from harness.simulation.history import as_bytes
from harness.simulation.judge.facts import Facts, PartialMessage, Session
from harness.simulation.judge.judgement import TORN, Judgement, shown
from harness.simulation.judge.lines import BAD, Line, Lines, delivered
from harness.simulation.judge.prefixes import Prefixes
from harness.simulation.scenario.vocabulary import TOKEN_BEGUN


class Reassembly:
    def __init__(
        self, facts: Facts, lines: Lines, prefixes: Prefixes, judgement: Judgement
    ) -> None:
        self._facts = facts
        self._lines = lines
        self._prefixes = prefixes
        self._judgement = judgement
        self._divisible: dict[bytes, list[int]] = {}
        """Indices of the messages that may arrive in pieces, by prefix."""
        for index, message in enumerate(facts.messages):
            if facts.may_be_in_pieces(message):
                self._divisible.setdefault(prefixes.of(message), []).append(index)

    # --- which lines are pieces ----------------------------------------------

    def begin(self, session: Session, found: Line, index: int) -> None:
        """Record that a line is the beginning of the message with this index."""
        begins = found.due.startswith(found.text)
        text = found.text if begins else found.text.removesuffix(BAD)
        pieces = PartialMessage(index, found.due, len(text), certain=True)
        session.pieces.setdefault(found.prefix, []).append(pieces)

    def begins_in_token(self, session: Session, found: Line) -> bool:
        """Return whether a line may be the beginning of a message that was cut inside its token.

        Record each message that may begin so in `session.pieces`.
        """
        if not TOKEN_BEGUN.fullmatch(found.text):
            return False
        known, messages = {*session.heard}, self._facts.messages
        candidates = [
            PartialMessage(index, delivered(messages[index]), len(found.text), certain=False)
            for index in self._divisible_as(found)
            if messages[index].name.startswith(found.text) and index not in known
        ]
        session.pieces.setdefault(found.prefix, []).extend(candidates)
        return bool(candidates)

    def goes_on(self, session: Session, found: Line) -> bool:
        """Return whether a line is the next piece of a message in `session.pieces`.

        If it is, record that this piece has arrived.
        """
        prefix, text = self._lines.parted(found)
        for pieces in session.pieces.get(prefix, ()):
            whole, at = pieces.whole, pieces.at
            # A run of invalid bytes is a single U+FFFD in the whole text. If the server cuts the
            # run, the end of one piece and the beginning of the next are a U+FFFD each.
            again = 0 < at <= len(whole) and whole[at - 1] == text[:1] == BAD
            for place in (at, at - 1) if again else (at,):
                if text and whole.startswith(text, place):
                    pieces.at = place + len(text)
                    if pieces.at == len(whole) and not pieces.certain:
                        session.heard.append(pieces.message)
                    return True
        return False

    def is_rest(self, session: Session, t: float, found: Line) -> bool:
        """Return whether a line may be the rest of a message that began before the session joined.

        Such a delivery is undecided, because the server may have received the message's beginning
        before or after the join.
        """
        those, messages = self._divisible_as(found), self._facts.messages
        welcomed, latest = session.welcomed or 0.0, self._facts.latest(session) if those else {}
        partly = {
            index
            for index in those
            if latest.get(messages[index].sender, -1) < index
            and messages[index].t <= welcomed
            and found.text in delivered(messages[index])
        }
        # If the server delivered a message before its LF arrived, the rest is only the LF.
        is_end = not found.text and any(messages[index].t <= t for index in those)
        self._judgement.undecided += bool(partly or is_end)
        session.partly |= partly
        return bool(partly or is_end)

    def _divisible_as(self, found: Line) -> Sequence[int]:
        """Return the indices of the messages with a line's prefix that may arrive in pieces."""
        return self._divisible.get(found.prefix if self._prefixes.are_ours else b"", ())

    # --- completeness --------------------------------------------------------

    def check(self, session: Session) -> None:
        """Check that a session received all pieces of each message (CAST-3).

        The rest of a message may be missing if its sender or the session was cut off.
        """
        facts, judgement = self._facts, self._judgement
        latest = {facts.messages[index].sender: index for index in session.heard}
        for pieces in (pieces for some in session.pieces.values() for pieces in some):
            message = facts.messages[pieces.message]
            if not pieces.certain:
                judgement.undecided += pieces.at == len(pieces.whole)
                continue
            more = latest.get(message.sender, -1) > pieces.message
            cut = facts.was_cut(pieces.message) or not session.stays or not facts.complete
            if pieces.at == len(pieces.whole) or (cut and not more):
                judgement.undecided += 1
                continue
            came = shown(pieces.whole[: pieces.at].encode())
            says = f"{session} received only “{came}” of {facts.describe(pieces.message)}"
            cause = "a part of a message is missing"
            judgement.add_for_message(TORN, message, session, says, cause)
        if session.rest and not self._is_beginning(session):
            rest = shown(as_bytes(session.rest))
            says = f"the last text that {session} received is not the beginning of a line: “{rest}”"
            cause = "the last text before a connection's end was not the beginning of a line"
            judgement.add(TORN, session.ended or 0.0, session, says, cause)

    def _is_beginning(self, session: Session) -> bool:
        """Return whether the incomplete line at a session's end is the beginning of a message."""
        rest = as_bytes(session.rest)
        found = self._lines.read(rest)
        if session.welcomed is None or found is None:
            return True  # it may be the beginning of the welcome, or a notice
        if found.message is not None:
            return found.due != ""
        if not self._prefixes.are_ours:
            return True
        text, messages, prefix_of = found.text, self._facts.messages, self._prefixes.of
        if not found.prefix:
            prefixes = {prefix_of(message) for message in messages}
            return any(prefix.startswith(rest) for prefix in prefixes)
        return any(
            message.name.startswith(text)
            for message in messages
            if found.prefix == prefix_of(message)
        ) or any(text in delivered(messages[index]) for index in self._divisible_as(found))
