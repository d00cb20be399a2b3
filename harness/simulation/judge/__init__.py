"""The judge of a history. It checks that every message was delivered correctly. Pure.

A violation is a deviation from the protocol that can be proved. If a message was sent during a
join, a leave or a fault, the protocol may allow both its delivery and its loss. If such a message
is missing, this is not a violation, but counts as undecided. Proofs use these clauses of
PROTOCOL.md:

- A client that has received the whole welcome is a member (WELCOME-3). It must receive
  all messages that are sent from then on.
- The messages of one sender arrive in the order in which it sent them (CAST-4). So a member
  that has received a later message will no longer receive an earlier message.
- All members receive messages in the same order (CAST-5). So if one member has received B after A,
  another member that has received B will no longer receive A.
- If one member has received a message, all members must receive this message, and also all
  messages that its sender sent before (CAST-1).

A history may contain a million deliveries. So sets, dicts and slices do the work per delivery.
Only deviations are examined one by one, and an unexpected line that several sessions received is
parsed only once.

The modules, in reading order. A module imports only modules above it:

    facts.py         the messages, sessions and faults of a history: `Facts`
    judgement.py     the violations, and their kinds: `Judgement`
    connections.py   checks of joins, welcomes and ends of connections: `Connections`
    prefixes.py      the prefixes of messages, in each dialect: `Prefixes.is_true`
    lines.py         the message that an unexpected line contains: `Lines.read`
    reassembly.py    messages that arrive in pieces, and missing pieces: `Reassembly`
    deliveries.py    the messages that each session received, and damaged texts: `Deliveries`
    order.py         checks for repeated, echoed and misordered messages: `Order`
    lost_messages.py messages that did not reach a member: `check_losses`
    figures.py       latencies, the harness's own delay, the target's costs: `figures`
    reached.py       the states that clients were in when faults struck: `reached`
    results.py       the verdict, and results.json: `results`
"""

from __future__ import annotations

from harness.profile import Profile
from harness.simulation.history import History, as_bytes
from harness.simulation.judge.connections import Connections
from harness.simulation.judge.deliveries import Deliveries
from harness.simulation.judge.facts import Facts
from harness.simulation.judge.judgement import (
    KINDS,
    LOST,
    MISORDERED,
    Judgement,
    Violation,
    shown,
)
from harness.simulation.judge.lines import Lines
from harness.simulation.judge.lost_messages import check_losses
from harness.simulation.judge.order import Order
from harness.simulation.judge.prefixes import Prefixes
from harness.simulation.judge.reassembly import Reassembly
from harness.simulation.scenario.vocabulary import TOKEN

__all__ = ["KINDS", "MISORDERED", "Judgement", "Violation", "judge"]


def judge(history: History, profile: Profile | None = None) -> Judgement:
    """Judge a history. `profile`: dialect of the server; None: the dialect of PROTOCOL.md."""
    profile = profile or Profile("")
    facts, judgement = Facts(history), Judgement()
    connections = Connections(facts, profile.lag_limit, judgement)
    lines, prefixes = Lines(facts, profile), Prefixes(facts, profile)
    pieces = Reassembly(facts, lines, prefixes, judgement)
    order = Order(facts, judgement, echoes=prefixes.echoes)

    connections.check_arrivals()
    Deliveries(facts, lines, prefixes, pieces, judgement).collect()
    sessions = facts.sessions.values()
    for session in sessions:
        order.check_repeats(session)  # this removes repeated messages from `heard`
        judgement.deliveries += len(session.heard)
    check_losses(facts, order.check(), judgement)
    judgement.contradiction = contradiction(facts, judgement)
    for session in sessions:
        pieces.check(session)
        connections.check(session)
    judgement.messages = len(facts.messages)
    judgement.violations.sort(key=lambda found: (found.t, found.kind, found.who, found.message))
    return judgement


def contradiction(facts: Facts, judgement: Judgement) -> str:
    """Describe a message that counts as lost for a session that received its name in some line.

    Such a contradiction means that the profile does not describe the server, or that the harness
    has a defect. Return an empty text if there is no such message.
    """
    lost = {(found.who, found.message) for found in judgement.violations if found.kind == LOST}
    deaf = {who for who, _ in lost}
    for event in facts.hears if lost else ():
        if event["who"] not in deaf:
            continue
        for heard in event["hears"]:
            line = heard["line"] if isinstance(heard, dict) else f"{heard}:"
            for token in TOKEN.finditer(as_bytes(line)):
                name = token[1].decode()
                if (event["who"], name) in lost:
                    session = facts.session(event["who"])
                    return (
                        f"{session} has received {name}, which counts as lost: does the profile "
                        f"describe the server? The line was “{shown(as_bytes(line))}”"
                    )
    return ""
