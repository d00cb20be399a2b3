"""Patterns of lines: cut, split, mixed, doubled, without end or prefix."""

from __future__ import annotations

import re
from itertools import pairwise

from harness.conformance.diagnosis.case import LEAVES, LONG, Case
from harness.conformance.diagnosis.pattern import STREAM, pattern
from harness.wording import counted, listed, quoted


@pattern("the second line has no prefix", STREAM)
def second_line_without_prefix(case: Case) -> str:
    message, prefix = case.message, case.prefix
    if not (message and prefix and message.pieces == 1 and len(message.lines) > 1):
        return ""
    for client, heard in case.received.items():
        for first, second in pairwise(message.lines):
            if second and prefix + first + b"\n" + second in heard.replace(b"\r\n", b"\n"):
                return (
                    f"{message.speaker} sent {counted(len(message.lines), 'line')} at once."
                    f" {client} received the first with the prefix {quoted(prefix)}, but"
                    f" {quoted(second)} without one."
                )
    return ""


@pattern("the text arrived in pieces", STREAM)
def each_piece_a_message(case: Case) -> str:
    """Match if a prefix precedes several of the pieces in which a line was sent, or if prefixes are
    inside a line that was sent in one piece, and the line is right without them."""
    message, prefix = case.message, case.prefix
    if not (message and prefix and message.whole and message.text.strip()):
        return ""
    if case.clause == "LINE-6":  # in its tests, the two pieces are two messages
        return ""
    line = message.text.rstrip(b"\r\n").partition(b"\n")[0]
    pieces = case.pieces(message)
    for client, heard in case.received.items():
        if len(pieces) > 1 and sum(prefix + piece in heard for piece in pieces) > 1:
            return (
                f"{message.speaker} sent one line in {counted(message.pieces, 'piece')}, and"
                f" {client} received {quoted(heard)}: each piece became a message."
            )
        joined = re.sub(rb"[\r\n]*" + re.escape(prefix), b"", heard)
        if line not in heard and line in joined and heard.count(prefix) > 1:
            return (
                f"{message.speaker} sent one line, and {client} received {quoted(heard)}: the line"
                " became several messages."
            )
    return ""


@pattern(
    "the line was split",
    "The server reads a limited number of bytes at once, and treats each read as a message.",
)
def split_at(case: Case) -> str:
    """Match if a long line arrives as several messages."""
    message, prefix = case.message, case.prefix
    if not (message and len(prefix) > 2 and message.pieces == 1 and len(case.actual) > 2 * LONG):
        return ""
    first, *rest = re.split(rb"[\r\n]*" + re.escape(prefix), case.actual.removeprefix(prefix))
    joined = b"".join((first, *rest))
    before = message.text.find(joined[:LONG])
    if rest and before >= 0 and b"\n" not in first:
        return (
            f"{message.speaker} sent a line of {message.size:,} bytes at once. It arrived as"
            f" {len(rest) + 1} messages; the first has {before + len(first):,} bytes."
        )
    return ""


@pattern(
    "the line was cut", "The server reads a limited number of bytes of a line, and drops the rest."
)
def cut(case: Case) -> str:
    """Match if the beginning of a line arrives, and its end does not."""
    message = case.message
    if message is None or message.pieces > 1 or case.clause.startswith("LOAD"):
        return ""
    line = message.text.partition(b"\n")[0].rstrip(b"\r")
    for client in case.received:
        size = _size_of_beginning(case, client, line)
        if 0 < size < message.size - 2:
            return (
                f"{message.speaker} sent a line of {message.size:,} bytes, and {client} received"
                f" only its first {size:,} bytes."
            )
    return ""


@pattern("the beginning was lost", STREAM)
def beginning_lost(case: Case) -> str:
    """Match if the end or the middle of a long line arrives, but not its beginning."""
    message = case.message
    if message is None or message.pieces > 1 or case.clause not in ("LINE-7", "TEXT-1"):
        return ""
    for client, heard in case.received.items():
        if heard and message.text[:8] not in heard and case.size(client) < message.size:
            return (
                f"{message.speaker} sent {message.size:,} bytes at once. {client} received"
                f" {case.size(client):,} bytes, without the beginning: {quoted(heard)}."
            )
    return ""


def _size_of_beginning(case: Case, client: str, line: bytes) -> int:
    """Return the number of bytes of a line that a client received; 0 unless it received exactly the
    beginning of the line."""
    message = case.message
    assert message
    events = [
        event
        for event in case.events[message.first :]
        if event.client == client and event.what == "receives"
    ]
    heard, size = b"".join(e.data for e in events), sum(e.size for e in events)
    begin = heard.find(line[:8])
    text = heard[max(0, begin) :].partition(b"\n")[0].rstrip(b"\r")
    if len(line) < 8 or begin < 0 or not line.startswith(text[: len(line)]):
        return 0
    if len(heard) == size:
        rest = heard[begin + len(text) :].strip()
        return len(text) if len(text) < len(line) and not rest else 0
    if len(events) == 1 and not message.whole and len(text) + begin == len(heard):
        return size - begin - case.actual.endswith(b"\n")  # the log has only the size of the rest
    return 0


@pattern("the text came twice")
def twice(case: Case) -> str:
    message = case.message
    if not (message and message.lines and len(message.lines[0]) > 3):
        return ""
    line = message.lines[0]
    times = {client: heard.count(line) for client, heard in case.received.items()}
    often = [client for client, count in times.items() if count > 1]
    if often and message.text.count(line) == 1:
        return (
            f"{message.speaker} sent {quoted(message.text)} once, and {listed(often)} received it"
            f" {times[often[0]]} times."
        )
    return ""


@pattern(
    "the line end was lost",
    "The server removes the line end when it reads the line (strip, trim, readline), and adds none"
    " when it sends the line.",
)
def line_end_lost(case: Case) -> str:
    message = case.message
    if not (message and message.whole and message.text.endswith(b"\n") and message.lines[-1]):
        return ""
    for client, heard in case.received.items():
        prefix = heard[: max(0, heard.find(message.lines[0]))].rpartition(b"\n")[2]
        prefixes = tuple(filter(None, (prefix, *case.prefixes.values())))
        _, here, rest = heard.partition(message.lines[-1])
        rest = rest.lstrip(b"\r ")
        if here and (not rest or rest.startswith(prefixes)):
            return (
                f"{message.speaker} sent {quoted(message.text)}, with a line end, and {client}"
                f" received {quoted(heard)}, without one."
            )
    return ""


@pattern("the CR was kept", "The server removes the LF of CR LF, and treats the CR as text.")
def cr_kept(case: Case) -> str:
    message = case.message
    if not (message and message.text.endswith(b"\r\n") and message.lines[-1]):
        return ""
    for client, heard in case.received.items():
        _, here, rest = heard.partition(message.lines[-1])
        if here and rest.startswith(("␍".encode(), b"\r\r", "\ufffd".encode())):
            return (
                f"{message.speaker} sent {quoted(message.text)}, and {client} received"
                f" {quoted(heard)}: the CR became text."
            )
    return ""


@pattern("the line end was doubled", "The server adds a line end to a text that still has its own.")
def line_end_doubled(case: Case) -> str:
    message = case.message
    if not (message and message.whole and message.lines and message.lines[-1]):
        return ""
    for client, heard in case.received.items():
        _, here, rest = heard.partition(message.lines[-1])
        if here and re.match(rb"(\r?\n){2}", rest):
            return (
                f"{message.speaker} sent {quoted(message.text)}, and {client} received"
                f" {quoted(heard)}: an empty line follows the line."
            )
    return ""


@pattern("a message inside another's line", STREAM)
def mixed(case: Case) -> str:
    """Match if another member's message is inside a line that was sent in pieces."""
    message = case.message
    if not (message and message.pieces > 1):
        return ""
    begin = b""
    for event in case.events[message.first : message.last]:
        if event.what != "sends" or not event.data.strip():
            continue
        if event.client == message.speaker:
            begin += event.data
            continue
        for client, heard in case.received.items():
            line = heard.partition(event.data.strip())[0].rpartition(b"\n")[2]
            if line.endswith(begin):
                return (
                    f"{event.client}'s message {quoted(event.data)} is inside a line of"
                    f" {message.speaker}, for {client}: {quoted(line + event.data)}."
                )
    return ""


@pattern("a message behind the beginning of another's line", STREAM)
def behind_a_beginning(case: Case) -> str:
    """Match if the beginning of an unfinished line is delivered, and a message behind it."""
    found = re.match(r"the line of (?P<name>[A-Z]\d*) does not stand alone", case.detail)
    if not (found and case.expected.strip()) or not case.actual.endswith(case.expected):
        return ""
    begin = case.actual.removesuffix(case.expected)
    if not begin or b"\n" in begin:
        return ""
    return (
        f"{found['name']}'s message {quoted(case.expected)} arrived behind the beginning of an"
        f" unfinished line: {quoted(case.actual)}."
    )


@pattern(
    "an empty line was dropped",
    "The server does not deliver texts that are empty without their line end.",
)
def empty_line_lost(case: Case) -> str:
    message = case.message
    if message and message.text in (b"\n", b"\r\n") and not any(case.received.values()):
        return f"{message.speaker} sent an empty line, and nobody received anything."
    return ""


@pattern("two messages on one line")
def not_ended(case: Case) -> str:
    if case.clause not in ("LINE-6", "PREFIX-4") or not case.messages:
        return ""
    sends = [e for e in case.events if e.what == "sends"][-2:]
    if len(sends) < 2 or b"\n" in sends[0].data or not sends[1].data.strip():
        return ""
    begun, word = sends[0].data, sends[1].data.strip()
    since = case.events.index(sends[0])
    for client in case.address:
        heard = case.heard(client, since)
        line = heard.partition(word)[0].rpartition(b"\n")[2]
        if word in heard and begun in line:
            return (
                f"{sends[0].client} sent {quoted(begun)} without a line end; then"
                f" {sends[1].client} sent {quoted(sends[1].data)}. {client} received both on one"
                f" line: {quoted(heard)}."
            )
    return ""


@pattern(
    "the last, unfinished line was dropped",
    "The server delivers only finished lines, and forgets the rest when its sender closes.",
)
def unfinished_line_lost(case: Case) -> str:
    message, leave = case.message, _leave_of_sender(case)
    if message and leave and not message.text.endswith(b"\n"):
        return (
            f"{message.speaker} sent {quoted(message.text)} and {leave}. The text after the last"
            " line end did not arrive."
        )
    return ""


@pattern("the last lines were lost")
def last_lines_lost(case: Case) -> str:
    message, leave = case.message, _leave_of_sender(case)
    if message and leave and not any(case.received.values()):
        return f"{message.speaker} sent {quoted(message.text)} and {leave}. Nothing of it arrived."
    return ""


def _leave_of_sender(case: Case) -> str:
    """Describe how the sender left after the message. Return an empty text if it did not leave, if
    the end of the message arrived, or if the test is not one of LEAVE-2."""
    message = case.message
    if message is None or case.clause != "LEAVE-2":
        return ""
    if any(message.text.rstrip().split(b"\n")[-1] in heard for heard in case.received.values()):
        return ""
    return next(
        (
            LEAVES[event.what]
            for event in case.events[message.last :]
            if event.client == message.speaker and event.what in LEAVES
        ),
        "",
    )


@pattern("an unfinished line waits", "The server reads whole lines, and waits for the line end.")
def waits_for_line_end(case: Case) -> str:
    message = case.message
    if message and b"\n" not in message.text and message.whole and not any(case.received.values()):
        return (
            f"{message.speaker} sent {quoted(message.text)} without a line end, and nobody received"
            " anything."
        )
    return ""


@pattern("the end of a long text was lost")
def long_text_without_end(case: Case) -> str:
    if "did not receive the end of a long text" not in case.detail:
        return ""
    if not (case.listener and case.messages):
        return ""
    longest = max(case.messages, key=lambda message: message.size)
    size = case.size(case.listener, longest.first)
    return (
        f"{longest.speaker} sent {longest.size:,} bytes. {case.listener} received {size:,} bytes"
        " since then, prefixes included, but not their end."
    )
