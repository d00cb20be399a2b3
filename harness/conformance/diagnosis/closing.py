"""Patterns of connections that the server closes, or does not close."""

from __future__ import annotations

import re

from harness.conformance.diagnosis.case import (
    LEAVES,
    Case,
    capitalized,
    described_action,
    with_full_stop,
)
from harness.conformance.diagnosis.crashes import cause_of, said_at_the_end
from harness.conformance.diagnosis.pattern import pattern
from harness.wording import listed, quoted


@pattern(
    "an empty line ends the connection",
    "The server treats a text that is empty, after strip() or without its line end, as the end of"
    " the connection. Only a read that returns no bytes at all is the end.",
)
def empty_line_ends(case: Case) -> str:
    message = case.message
    if message and not message.text.strip() and _is_closed(case, message.speaker, message.last):
        return f"{message.speaker} sent an empty line, and the server closed its connection."
    return ""


@pattern(
    "bad bytes end the connection",
    "decode() raises an exception for bytes that are not UTF-8, which ends the client's loop."
    " Decode with U+FFFD for such bytes (errors='replace' in Python).",
)
def bad_bytes_end(case: Case) -> str:
    message = case.message
    if message and not message.is_utf8 and _is_closed(case, message.speaker, message.last):
        return (
            f"{message.speaker} sent {quoted(message.text)}, which is not UTF-8, and the server"
            " closed its connection."
        )
    return ""


@pattern("one leave closes all connections")
def all_are_closed(case: Case) -> str | tuple[str, str]:
    done, closed = case.before_the_end(), case.closed()
    if done and done.what in LEAVES and len(closed) > 1:
        return _with_crash(
            case,
            f"{done.client} {LEAVES[done.what]}; then the server closed the connections of"
            f" {listed(closed)}.",
            "An error while reading from the client that left ended the server, or its main loop."
            " Handle the error for that client alone.",
        )
    return ""


@pattern("a connection was closed")
def one_is_closed(case: Case) -> str | tuple[str, str]:
    message, closed = case.message, case.closed()
    both = [c for c in (message.speaker if message else "", case.listener) if c in closed]
    done = case.before_the_end()
    if both and done and case.clause != "JOIN-5":
        return _with_crash(
            case,
            f"{capitalized(described_action(done))}; then the server closed the connection of"
            f" {listed(both)}.",
        )
    return ""


def _with_crash(case: Case, what: str, cause: str = "") -> tuple[str, str]:
    """Return the sentence and the cause. If the output ends with a crash, add the crash to the
    sentence, and prefer its cause."""
    says = said_at_the_end(case)
    return (f"{what} {says}", cause_of(says) or cause) if says else (what, cause)


def _is_closed(case: Case, client: str, since: int) -> bool:
    return any(
        event.client == client and event.what.endswith("by the server")
        for event in case.events[since:]
    )


@pattern("no connection is closed", "The server does not call close when a read returns no bytes.")
def never_closes(case: Case) -> str:
    left = [e.client for e in case.events if e.what == "closes its side"]
    closed = {e.client for e in case.events if e.what.endswith("by the server")}
    if case.clause not in ("LEAVE-3", "LEAVE-4") or not left or closed & {*left}:
        return ""
    if len(left) == 1:
        return f"{left[0]} {LEAVES['closes its side']}, and the server did not close its own side."
    return (
        f"{with_full_stop(capitalized(case.detail))} {len(left)} clients closed their side of the"
        " connection; the server did not close its own side of any."
    )


@pattern(
    "one descriptor for each guest",
    "The server does not call close for the socket of a client that left.",
)
def one_for_each(case: Case) -> str:
    found = re.match(r"after (\d+) guests, the server has (\d+) more descriptors", case.detail)
    if found and found[1] == found[2]:
        return (
            f"{with_full_stop(capitalized(case.detail))} That is one for each guest that has left."
        )
    return ""
