"""Checks of each session's messages: no repeats, no own messages, the same order for all."""

from __future__ import annotations

from collections import Counter
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from harness.simulation.judge.facts import Facts, Session
from harness.simulation.judge.judgement import DUPLICATED, ECHOED, MISORDERED, Judgement

DIFFERENT = "clients received messages in different orders"
"""Cause of violations of CAST-5."""


class Order:
    def __init__(self, facts: Facts, judgement: Judgement, *, echoes: bool) -> None:
        """`echoes`: true if the server must send each message back to its sender, too."""
        self._facts = facts
        self._judgement = judgement
        self._echoes = echoes

    def check_repeats(self, session: Session) -> None:
        """Check that a session received no message twice (CAST-1), and no own message (CAST-2).

        In a dialect with echo, it must receive each own message exactly once. Remove repeated
        messages and own messages from `heard`.
        """
        messages, heard = self._facts.messages, session.heard
        if self._echoes:
            self._check_echoes(session)
        once = dict.fromkeys(heard)
        if len(once) < len(heard):
            for index, times in Counter(heard).items():
                if times > 1:
                    says = f"{session} received {self._facts.describe(index)} {times} times"
                    cause = "a client received a message more than once"
                    self._judgement.add_for_message(
                        DUPLICATED, messages[index], session, says, cause
                    )
            heard[:] = once
        if not once.keys().isdisjoint(session.said):
            for index in session.said:
                if index in once:
                    says = f"{session} received its own message {messages[index].name}"
                    cause = "clients received their own messages"
                    self._judgement.add_for_message(ECHOED, messages[index], session, says, cause)
            own = {*session.said}
            heard[:] = [index for index in once if index not in own]

    def _check_echoes(self, session: Session) -> None:
        facts, own = self._facts, {*session.said}
        times = Counter(index for index in session.heard if index in own)
        for index in session.said:
            message = facts.messages[index]
            is_due = session.stays and facts.complete and not facts.was_cut(index)
            if times[index] == 1 or (not times[index] and not is_due):
                continue
            how = f"came back {times[index]} times" if times[index] else "did not come back"
            says = f"{message.name} of {session} {how}"
            cause = "a client’s own messages did not come back exactly once"
            self._judgement.add_for_message(ECHOED, message, session, says, cause)
        session.heard[:] = [index for index in session.heard if index not in own]

    def check(self) -> bool:
        """Report messages that were received out of order; return True if there are none.

        There must be one order of all messages that agrees with the order in which each session
        received messages (CAST-5), and with the order in which each session sent them (CAST-4).
        """
        edges: set[tuple[int, int]] = set()
        for session in self._facts.sessions.values():
            edges.update(pairwise(session.heard))
            edges.update(pairwise(session.said))
        before: dict[int, list[int]] = {}
        for first, then in edges:
            before.setdefault(then, []).append(first)
        try:
            TopologicalSorter(before).prepare()
        except CycleError as error:
            if not self._check_each_sender():
                self._check_all_senders(error.args[1])
            return False
        return True

    def _check_each_sender(self) -> bool:
        """Report messages that did not arrive in their sender's order; return True if any exist."""
        messages, found = self._facts.messages, False
        for session in self._facts.sessions.values():
            latest: dict[int, int] = {}
            for index in session.heard:
                sender = messages[index].sender
                last = latest.get(sender, -1)
                if index < last:
                    found = True
                    behind = messages[last].name
                    says = f"{session} received {self._facts.describe(index)} after {behind}"
                    cause = "messages did not arrive in the order in which their sender sent them"
                    self._judgement.add_for_message(
                        MISORDERED, messages[index], session, says, cause, "CAST-4"
                    )
                else:
                    latest[sender] = index
        return found

    def _check_all_senders(self, cycle: list[int]) -> None:
        """Report the sessions that received two messages in another order than most others."""
        messages, sessions = self._facts.messages, self._facts.sessions.values()
        reference = max(sessions, key=lambda session: len({*cycle} & {*session.heard}))
        place = {index: at for at, index in enumerate(reference.heard)}
        knowledge = [frozenset(session.heard) for session in sessions]
        dissenters: dict[tuple[int, int], list[Session]] = {}
        for session in sessions:
            for pair in pairwise(index for index in session.heard if index in place):
                if place[pair[0]] > place[pair[1]]:
                    dissenters.setdefault(pair, []).append(session)
        for (first, then), those in dissenters.items():
            both = sum({first, then} <= known for known in knowledge)
            if len(those) > both / 2:
                self._disagrees(reference, then, first, those[0])
                continue
            for session in those:
                self._disagrees(session, first, then, reference)
        if not dissenters:
            names = " → ".join(messages[index].name for index in cycle[:6])
            says = f"no single order agrees with the orders in which clients received {names}"
            self._judgement.add_for_message(
                MISORDERED, messages[cycle[0]], reference, says, DIFFERENT
            )

    def _disagrees(self, session: Session, first: int, then: int, other: Session) -> None:
        messages = self._facts.messages
        says = (
            f"{session} received {self._facts.describe(first)} before {messages[then].name}, "
            f"but {other} received it after {messages[then].name}"
        )
        self._judgement.add_for_message(
            MISORDERED, messages[first], session, says, DIFFERENT, others=(other.number,)
        )
