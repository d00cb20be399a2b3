"""Messages that a member did not receive: lost messages, and undecided deliveries."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate

from harness.simulation.judge.facts import Facts, Session
from harness.simulation.judge.judgement import LOST, SHOWN, Judgement

OBSERVERS = 4
"""Number of observers: the sessions that received most messages. The order in which they received
messages is compared with that of every other session."""

Observer = tuple[Session, dict[int, int]]
"""A session, and the place of each message among those that the session received."""


def check_losses(facts: Facts, ordered: bool, judgement: Judgement) -> None:
    """Check that each message reached every session that was a member when it was sent.

    See CAST-1 and WELCOME-3. ordered: true if all sessions received the messages in the same order
    (CAST-5).
    """
    sessions = facts.sessions.values()
    times = [message.t for message in facts.messages]
    observers: list[Observer] = []
    if ordered:  # otherwise, the order in one session proves nothing about another session
        longest = sorted(sessions, key=lambda session: -len(session.heard))
        observers = [
            (session, {index: at for at, index in enumerate(session.heard)})
            for session in longest[:OBSERVERS]
        ]
    heard_by_any = {index for session in sessions for index in session.heard}
    newest: dict[int, int] = {}
    for session in sessions:
        for sender, index in facts.latest(session).items():
            newest[sender] = max(index, newest.get(sender, -1))
    sent = sorted((message.sent, at) for at, message in enumerate(facts.messages) if message.sent)
    # begun[i]: lowest index of the messages whose sending ended at the time sent[i] or later.
    begun = [len(times), *accumulate((at for _, at in reversed(sent)), min)][::-1]
    for session in sessions:
        if session.welcomed is None:
            continue
        on_the_way = begun[bisect_left(sent, (session.connects, 0))]
        came = bisect_right(times, session.connects)
        first = bisect_right(times, session.welcomed)
        last = bisect_left(times, session.until)
        begin = min([on_the_way, came, first, *session.heard])
        known = {*session.heard, *session.said} | session.partly
        missing = [index for index in range(begin, last) if index not in known]
        if missing:
            losses = _Losses(facts, judgement, session, observers, newest, heard_by_any)
            losses.check(missing, came, first)


class _Losses:
    """Judges the messages that one session has not received: each is lost, or undecided."""

    def __init__(
        self,
        facts: Facts,
        judgement: Judgement,
        session: Session,
        observers: list[Observer],
        newest: dict[int, int],
        heard_by_any: set[int],
    ) -> None:
        self._facts = facts
        self._judgement = judgement
        self._session = session
        self._newest = newest
        """Index of the last message of each sender that any session has received."""
        self._heard_by_any = heard_by_any
        self._certain = session.stays and facts.complete
        self._last = max(session.heard, default=-1)
        """Index of the last message that the session has received."""
        self._latest = facts.latest(session)
        self._earliest = {
            facts.messages[index].sender: index for index in sorted(session.heard, reverse=True)
        }
        known = {*session.heard}
        self._common: list[tuple[Observer, int, int]] = []
        """Observers that have messages in common with this session. Each has two places in the
        observer's order: those of the first and the last message that both received."""
        for observer in observers:
            places = [observer[1][index] for index in known & observer[1].keys()]
            if places:
                self._common.append((observer, min(places), max(places)))

    def check(self, missing: list[int], came: int, first: int) -> None:
        """Judge the messages `missing`, which the session has not received.

        came: index of the first message sent after the session began to connect. first: index of
        the first message sent after the session had received the welcome.
        """
        messages = self._facts.messages
        for index in missing:
            message = messages[index]
            is_due = index >= first or self._was_member(index)
            if is_due and (self._passed(index) or (self._certain and self._was_read(index))):
                says, cause = self._describe(index), self._cause(index)
                self._judgement.add_for_message(LOST, message, self._session, says, cause)
            elif is_due or index >= came or (message.sent or 0.0) >= self._session.connects:
                self._judgement.undecided += 1

    def _was_read(self, index: int) -> bool:
        """Return whether it is certain that the server received the message."""
        newest = self._newest.get(self._facts.messages[index].sender, -1)
        return newest >= index or not self._facts.was_cut(index)

    def _was_member(self, index: int) -> bool:
        """Return whether it is certain that the session was a member before this message.

        This is certain if it has received an earlier message of the same sender, or a message that
        an observer received earlier.
        """
        earliest = self._earliest.get(self._facts.messages[index].sender)
        return (earliest is not None and earliest < index) or any(
            places.get(index, -1) > first for (_, places), first, _ in self._common
        )

    def _passed(self, index: int) -> bool:
        """Return whether the session has received a later message, so that this message is lost.

        The later message is one of the same sender (CAST-4), or one that an observer received later
        (CAST-5).
        """
        return self._latest.get(self._facts.messages[index].sender, -1) > index or any(
            places.get(index, last) < last for (_, places), _, last in self._common
        )

    def _cause(self, index: int) -> str:
        if index not in self._heard_by_any:
            return "no client received the message"
        if index > self._last:
            return "a client received neither the message nor anything after it"
        return "some clients received the message, others did not"

    def _describe(self, index: int) -> str:
        """Describe a loss. Name later messages that the session received, which prove the loss."""
        facts, messages, session = self._facts, self._facts.messages, self._session
        says = f"{facts.describe(index)} never reached {session}"
        if self._judgement.counts[LOST] >= SHOWN:
            return says  # this violation is only counted, so the proof would not be shown
        heard = {*session.heard}
        own = [said for said in facts.sessions[messages[index].sender].said if said in heard]
        at = bisect_left(own, index)
        near = [messages[said].name for said in own[max(0, at - 1) : at + 1]]
        if near:
            return f"{says}, which received {' and '.join(near)}"
        for (other, places), _, last in self._common:
            if places.get(index, last) < last:
                behind = messages[other.heard[last]].name
                name = messages[index].name
                return f"{says}, which received {behind}; {other} received {name} before {behind}"
        return says
