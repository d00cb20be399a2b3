"""What a history shows: whether all that was said was heard as it has to be. Pure.

What can be proved counts as a violation; what overlaps with a join, a leave or a
fault, so that the protocol allows either, counts as undecided, and never as
passed. What a proof rests on (PROTOCOL.md):

- Who has read the whole welcome is a member (WELCOME-3): all that is said from
  then on is due to it.
- The messages of one sender arrive in the order in which it sent them (CAST-4):
  who has heard a later one will not hear an earlier one any more.
- There is one order for all (CAST-5): who has heard what, for another, came
  behind a message will not hear that message any more.
- A message is in the room or it is not: what one has heard is due to all, and so
  is all that the same sender said before it.

Speed: a history may hold a million deliveries. What is done for each of them is
done by sets, dicts and slices; only what is amiss is looked at one by one, and a
line that is no message as it was due is read once, however many heard it.

In reading order; those above never use those below:

    facts.py         what happened: messages, sessions, faults
    judgement.py     what is found: violations, of which kinds there may be
    connections.py   who was let in, greeted, and disconnected
    lines.py         how a line is read that is no message as it was due
    pieces.py        messages that may come in pieces, and whether these add up
    hearing.py       which messages each session heard, in what order, and how they were harmed
    order.py         once, not to its sender, and in one order for all
    losses.py        what never reached who had to hear it, and what may have been on the way
"""

from __future__ import annotations

from harness.profile import Profile
from harness.simulation.checkers.connections import Connections
from harness.simulation.checkers.facts import Facts
from harness.simulation.checkers.hearing import Hearing
from harness.simulation.checkers.judgement import KINDS, MISORDERED, Judgement, Violation
from harness.simulation.checkers.lines import Lines
from harness.simulation.checkers.losses import check_losses
from harness.simulation.checkers.order import Order
from harness.simulation.checkers.pieces import AllPieces
from harness.simulation.history import History

__all__ = ["KINDS", "MISORDERED", "Judgement", "Violation", "judge"]


def judge(history: History, profile: Profile | None = None) -> Judgement:
    """All that the history shows; `profile`: of a server that speaks otherwise than ours."""
    profile = profile or Profile("")
    facts, judgement = Facts(history), Judgement()
    connections = Connections(facts, profile.lag_limit, judgement)
    lines = Lines(facts, profile)
    pieces = AllPieces(facts, lines, judgement)
    order = Order(facts, judgement)

    connections.check_arrivals()
    Hearing(facts, lines, pieces, judgement).hear()
    sessions = facts.sessions.values()
    for session in sessions:
        order.check_repeats(session)  # from here on, each message was heard once
        judgement.deliveries += len(session.heard)
    check_losses(facts, order.check(), judgement)
    for session in sessions:
        pieces.check(session)
        connections.check(session)
    judgement.messages = len(facts.messages)
    judgement.violations.sort(key=lambda one: (one.t, one.kind, one.who, one.message))
    return judgement
