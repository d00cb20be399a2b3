"""Patterns of wrong prefixes."""

from __future__ import annotations

import re

from harness.conformance.diagnosis.case import Case, Message
from harness.conformance.diagnosis.pattern import pattern
from harness.wording import as_text, quoted


@pattern(
    "the latest address",
    "The server stores the address in one variable for all clients. Each new connection overwrites"
    " this variable.",
)
def latest_address(case: Case) -> str:
    wrong = _wrong_address(case)
    if wrong and case.message and case.connected(case.message.last)[-1:] == [wrong]:
        return _arrived_with(case, f"the address of {wrong}, the client that connected last")
    return ""


@pattern(
    "the receiver's address",
    "The server uses the address of the connection that it writes to, instead of that of the"
    " connection that it has read from.",
)
def receivers_address(case: Case) -> str:
    message = case.message
    if message and case.clause == "PREFIX-2":
        seen = {
            client: _line_of(message, heard).startswith(b"<" + case.address[client] + b">")
            for client, heard in case.received.items()
            if _line_of(message, heard)
        }
        if len(seen) > 1 and all(seen.values()):
            return _arrived_with(case, "the receiver's own address")
    return ""


@pattern(
    "the server's address",
    "The server uses the address of its own side (getsockname). The client's address is the one"
    " that getpeername or accept returns.",
)
def own_address(case: Case) -> str:
    message = case.message
    if (
        message
        and case.clause == "PREFIX-2"
        and b"127.0.0.1" not in case.address.values()
        and b"127.0.0.1" in case.actual
    ):
        return _arrived_with(case, "the server's own address")
    return ""


@pattern("the port is in the prefix")
def with_port(case: Case) -> str:
    message = case.message
    if (
        message
        and case.clause == "PREFIX-2"
        and re.search(re.escape(case.address[message.speaker]) + rb"\W{1,4}\d{2,5}\b", case.actual)
    ):
        return _arrived_with(case, "its sender's port, too")
    return ""


def _line_of(message: Message, heard: bytes) -> bytes:
    """Return the line that contains a message; empty if the message was not received."""
    text = message.lines[0] if message.lines else message.text
    return next((line for line in heard.split(b"\n") if text and text in line), b"")


def _wrong_address(case: Case) -> str:
    """Return the client whose address is in the message's prefix, if this is not the sender; else
    an empty text."""
    message = case.message
    if message is None or case.clause != "PREFIX-2":
        return ""
    shown = case.actual.partition(b">")[0]
    others = [c for c in case.address if c != message.speaker]
    return next(
        (
            c
            for c in others
            if re.search(rb"(?<![\d.])%b(?![\d.])" % re.escape(case.address[c]), shown)
        ),
        "",
    )


def _arrived_with(case: Case, what: str) -> str:
    message = case.message
    assert message
    return (
        f"{message.speaker}, at {as_text(case.address[message.speaker])}, sent"
        f" {quoted(message.text)}. It arrived as {quoted(case.output)}: with {what}."
    )


@pattern("another's address")
def another_s_address(case: Case) -> str:
    wrong = _wrong_address(case)
    return _arrived_with(case, f"the address of {wrong}") if wrong else ""
