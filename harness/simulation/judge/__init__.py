"""The judge of a history: was every message delivered correctly? Pure.

A deviation that can be proved counts as a violation. A deviation that overlaps with a
join, a leave or a fault, where the protocol allows both, counts as undecided, never as
passed. Proofs rest on these clauses (PROTOCOL.md):

- A client that has read the whole welcome is a member (WELCOME-3): all that is said
  from then on is due to it.
- The messages of one sender arrive in the order in which it sent them (CAST-4):
  a member that has heard a later one will not hear an earlier one any more.
- There is one order for all (CAST-5): once a member has heard a message that came after
  another for somebody else, it will not hear that other message any more.
- A message is in the room or it is not: a message that one member has heard is due to
  all, and so is everything that the same sender said before it.

A history may hold a million deliveries. So the work per delivery is done by sets, dicts
and slices; only deviations are looked at one by one, and an unexpected line is read only
once, however many heard it.

In reading order; a module uses only those above it:

    facts.py         the messages, sessions and faults of a history: `Facts`
    judgement.py     the violations, and their kinds: `Judgement`
    connections.py   checks of joins, welcomes and ends of connections: `Connections`
    lines.py         the message that an unexpected line stands for: `Lines.read`
    reassembly.py    messages that arrive in pieces, and whether they are complete: `Reassembly`
    deliveries.py    the messages that each session heard, and damage to them: `Deliveries`
    order.py         each message once, not to its sender, in one order for all: `Order`
    lost_messages.py messages that never reached a member: `check_losses`
    figures.py       latencies, the harness's own delay, the target's costs: `figures`
    results.py       the verdict, and results.json: `results`
"""

from __future__ import annotations

from harness.profile import Profile
from harness.simulation.history import History
from harness.simulation.judge.connections import Connections
from harness.simulation.judge.deliveries import Deliveries
from harness.simulation.judge.facts import Facts
from harness.simulation.judge.judgement import KINDS, MISORDERED, Judgement, Violation
from harness.simulation.judge.lines import Lines
from harness.simulation.judge.lost_messages import check_losses
from harness.simulation.judge.order import Order
from harness.simulation.judge.reassembly import Reassembly

__all__ = ["KINDS", "MISORDERED", "Judgement", "Violation", "judge"]


def judge(history: History, profile: Profile | None = None) -> Judgement:
    """Judge a history; `profile`: dialect of the server, if not the chatroom's."""
    profile = profile or Profile("")
    facts, judgement = Facts(history), Judgement()
    connections = Connections(facts, profile.lag_limit, judgement)
    lines = Lines(facts, profile)
    pieces = Reassembly(facts, lines, judgement)
    order = Order(facts, judgement)

    connections.check_arrivals()
    Deliveries(facts, lines, pieces, judgement).hear()
    sessions = facts.sessions.values()
    for session in sessions:
        order.check_repeats(session)  # now each message is in `heard` once
        judgement.deliveries += len(session.heard)
    check_losses(facts, order.check(), judgement)
    for session in sessions:
        pieces.check(session)
        connections.check(session)
    judgement.messages = len(facts.messages)
    judgement.violations.sort(key=lambda found: (found.t, found.kind, found.who, found.message))
    return judgement
