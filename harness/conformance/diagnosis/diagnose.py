"""Describe a failed result in sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from harness.clauses import all_clauses
from harness.conformance.diagnosis import closing, lines, members, prefixes, text
from harness.conformance.diagnosis.case import Case, capitalized, described_action, with_full_stop
from harness.conformance.diagnosis.crashes import cause_of, said_at_the_end
from harness.conformance.plugin import FAIL, Result
from harness.wording import counted, quoted

_ENDED = re.compile(
    r"(?P<which>the server|it) ended \((?P<how>[^()]*)\)"
    r"(?:; its (?:last line|message): (?P<says>.*))?"
)


_NOT_RECEIVED = re.compile(
    r"[A-Z]\d* (?:did not receive the|has connected, but does not|receives no message)"
    r"|the message of"
)
"""Pattern of a detail that says only that something did not arrive. A sentence from the log
replaces such a detail."""

_ENDPOINTS = re.compile(
    r"(?P<one>[A-Z]\d*) is at (?P<here>\S+), (?P<other>[A-Z]\d*) at (?P<there>\S+): perhaps these"
    r" are not one room"
)
"""Pattern of a note in a detail. The note is kept when a sentence replaces the detail."""

_OF_ANOTHER_TEST = re.compile(
    "after (?:this test|other members have left), |when the clients of this test had left, "
)
"""Pattern of a detail about another test. The wire log in the result is not from that test."""


@dataclass(frozen=True)
class Diagnosis:
    """A failure in words.

    what: one or two sentences. cause: the usual cause, a sentence or more; empty if unknown.
    pattern: name of the pattern that matches; empty if none does. clients: the clients that the
    failure is about, if known. around: index in the wire log of the event at which the failure
    begins, if known.
    """

    what: str
    cause: str = ""
    pattern: str = ""
    clients: tuple[str, ...] = ()
    around: int | None = None


PATTERNS = (
    members.crowd,
    closing.empty_line_ends,
    closing.bad_bytes_end,
    closing.all_are_closed,
    closing.one_is_closed,
    lines.not_ended,
    lines.twice,
    lines.mixed,
    lines.behind_a_beginning,
    lines.each_piece_a_message,
    lines.split_at,
    lines.second_line_without_prefix,
    text.control_character_passes,
    lines.cut,
    lines.beginning_lost,
    lines.line_end_lost,
    lines.cr_kept,
    lines.line_end_doubled,
    members.echo,
    prefixes.receivers_address,
    prefixes.latest_address,
    prefixes.another_s_address,
    prefixes.own_address,
    prefixes.with_port,
    text.changed,
    text.torn_character,
    text.torn_read_lost,
    text.command,
    lines.empty_line_lost,
    lines.unfinished_line_lost,
    lines.last_lines_lost,
    text.bad_bytes_lost,
    lines.waits_for_line_end,
    members.before_the_welcome,
    members.not_welcomed,
    members.not_yet_a_member,
    members.next_is_skipped,
    members.loop_ended,
    members.same_address,
    members.blocked_by_a_silent_client,
    members.blocked_by_a_slow_reader,
    members.different_orders,
    lines.long_text_without_end,
    members.not_once,
    members.not_on_ipv6,
    closing.never_closes,
    closing.one_for_each,
)
"""The patterns. The first one that matches is used, so specific patterns come before general
ones."""


def explain(result: Result) -> Result:
    """Return a failed result with the diagnosis as its detail; return any other result
    unchanged."""
    if result.verdict != FAIL or _OF_ANOTHER_TEST.match(result.detail):
        return result
    if all_clauses()[result.clause].on_websockets:
        return result  # the patterns are about lines
    found = diagnose(result)
    detail, note = found.what, _ENDPOINTS.search(result.detail)
    if note and note[0] not in detail:
        detail = f"{detail} {with_full_stop(note[0])}"
    return replace(
        result,
        detail=detail,
        cause=found.cause,
        clients=found.clients,
        around=found.around,
    )


def diagnose(result: Result) -> Diagnosis:
    """Return the diagnosis of a failed result."""
    case = Case(result)
    around = _around(case)
    if ended := _ENDED.search(case.detail):
        return _crash(case, ended)
    for pattern in PATTERNS:
        if found := pattern.match(case):
            return Diagnosis(*found, pattern.name, _clients(case), around)
    says = said_at_the_end(case)
    what = " ".join(filter(None, (_plain(case), says)))
    return Diagnosis(what, cause_of(says), "", _clients(case), around)


def _crash(case: Case, ended: re.Match[str]) -> Diagnosis:
    cause = cause_of(ended[0])
    done = case.before_the_end()
    when = f" after {described_action(done)}" if done else ""
    says = f": {ended['says']}" if ended["says"] else ""
    before = case.detail[: ended.start()].rstrip(";, ")
    what = f"The server ended ({ended['how']}){when}{says}"
    if ended["which"] == "it":  # a start that failed
        what = f"{capitalized(before.rstrip(':'))}: it ended ({ended['how']}){says}"
    return Diagnosis(
        with_full_stop(what),
        cause,
        "the server ended" if cause else "",
        _clients(case),
        _around(case),
    )


def _plain(case: Case) -> str:
    """Return the sentences for a failure that no pattern matches: the test's own sentence, and one
    about the sent and the received text."""
    own = (
        ""
        if _NOT_RECEIVED.match(case.detail) and case.message
        else with_full_stop(capitalized(case.detail))
    )
    return " ".join(filter(None, (own, _exchange(case)))) or with_full_stop(
        capitalized(case.detail)
    )


def _exchange(case: Case) -> str:
    """Return a sentence about the message, its sender and its receivers; empty if the failure is
    not about the message."""
    message = case.message
    if message is None or not _is_about(case) or case.clause.startswith(_ABOUT_MORE):
        return ""
    sent = f"{message.speaker} sent {quoted(message.text, message.size)}"
    if message.pieces > 1:
        sent += f" in {counted(message.pieces, 'piece')}"
    return f"{sent}; {case.reception()}."


_ABOUT_MORE = ("WELCOME", "CAST-4", "JOIN-5", "LEAVE-3", "LEAVE-4")
"""Clauses whose failures are not about one message."""


def _around(case: Case) -> int | None:
    """Return the index of the event at which the failure begins; None if it is not known."""
    if case.closed() and (done := case.before_the_end()):
        return case.events.index(done)
    return case.message.first if case.message and _is_about(case) else None


def _is_about(case: Case) -> bool:
    """Return whether the failure is about the message that the case has found."""
    return case.is_about_the_message or case.clause.startswith(("PREFIX", "LINE", "TEXT"))


def _clients(case: Case) -> tuple[str, ...]:
    message, leaver = case.message, case.leaver
    hearer = next((client for client, heard in case.received.items() if heard), "")
    named = [
        case.listener or hearer,
        message.speaker if message else "",
        leaver.client if leaver else "",
    ]
    return tuple(dict.fromkeys(filter(None, named)))
