"""Causes of crashes, by their messages."""

from __future__ import annotations

import re

from harness.conformance.diagnosis.case import Case, with_full_stop
from harness.wording import visible

CRASHES = (
    (
        r"ECONNRESET|Connection reset|Errno 104",
        "A client has reset its connection. Then reading from the connection, or writing to it, is"
        " an error, which the server does not handle.",
    ),
    (
        r"SIGPIPE",
        "Writing to a connection that the client has closed raises SIGPIPE. This signal ends a"
        " process that does not ignore it.",
    ),
    (
        r"EPIPE|Broken ?pipe|Errno 32\b|socket has been ended by the other party",
        "Writing to a client that has left is an error, which the server does not handle.",
    ),
    (
        r"ENOTCONN|Transport endpoint is not connected|Errno 107",
        "The client had left before the server asked for its address.",
    ),
    (
        r"UnicodeDecodeError",
        "decode() raises an exception for bytes that are not UTF-8. Decode with U+FFFD for such"
        " bytes (errors='replace').",
    ),
    (
        r"changed size during iteration|ConcurrentModification|concurrent map",
        "The collection of clients changes while a loop goes over it. Use a lock, or a copy.",
    ),
    (
        r"Address already in use|EADDRINUSE|Errno 98",
        "The port stays in use for a minute after the server has closed connections, unless the"
        " listening socket has the option SO_REUSEADDR.",
    ),
    (
        r"Address family|Errno 97|EAFNOSUPPORT|Name or service not known",
        "The server opens an IPv4 socket (AF_INET), even if its host is an IPv6 address.",
    ),
    (
        r"[Tt]oo many open files|EMFILE|Errno 24\b",
        "The server does not close the sockets of clients that have left, or it needs more"
        " descriptors than its limit allows.",
    ),
)
"""Patterns of a crash's message or signal, each with the usual cause."""


def said_at_the_end(case: Case) -> str:
    """Return a sentence about the crash at the end of the server's output; empty if there is
    none."""
    if case.crash is None:
        return ""
    return with_full_stop(f"The server's output ends with {visible(case.crash.says)}")


def cause_of(message: str) -> str:
    """Return the cause of a crash with this message; empty if it is not known."""
    return next((cause for known, cause in CRASHES if re.search(known, message)), "")
