"""Make readable rows of wire logs, each with both ends of the connection. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.conformance.diagnosis.case import LEAVES
from harness.conformance.plugin import Result
from harness.wording import as_text, listed, visible

WireEvent = tuple[float, str, str, str, int]
"""An event of `Result.wire`: time (s), client, kind, first bytes in hex, number of bytes."""

ROWS = 14
"""Maximum number of rows to show around a failure."""
BEFORE = 6
"""Maximum number of these rows before the event at which the failure begins."""
BYTES = 64
"""Maximum number of bytes to show of an event, so that a row fits on one line of most terminals."""

_ACTIONS = {
    "connects": "connects",
    "closes its side": "closes its side of the connection",
    "closes": "closes the connection",
    "resets": "resets the connection",
    "is closed by the server": "closes the connection",
    "is reset by the server": "resets the connection",
}
"""Words for the events of a connection that are not messages."""


@dataclass(frozen=True)
class Row:
    """A row of a wire log, for one event, or for equal events of several clients.

    time: in seconds; empty for a row without an event. ends: the end that acts, an arrow, and the
    other end. text: the sent text in quotes, or the event in words. marked: whether the row belongs
    to the failure.
    """

    time: str
    ends: str
    text: str = ""
    marked: bool = False

    def __str__(self) -> str:
        mark = ">" if self.marked else " "
        return f"{mark} {self.time:>8}  {visible(self.ends):<13}  {self.text}".rstrip()


def row(event: WireEvent, clients: Sequence[str] = ()) -> Row:
    """Return the row of an event. clients: all clients with an equal event; empty: only the client
    of this event."""
    time, client, what, digits, size = event
    names = listed(clients or (client,), 3)
    data = bytes.fromhex(digits)
    by_server = what == "receives" or what.endswith("by the server")
    ends = f"server → {names}" if by_server else f"{names} → server"
    if what in ("sends", "receives"):
        more = f" … of {size:,} bytes" if size > len(data[:BYTES]) else ""
        text = f'"{as_text(data[:BYTES])}"{more}'
    else:
        text = _ACTIONS.get(what, visible(what)) + (f" from {as_text(data)}" if data else "")
    return Row(f"{time:.4f}", ends, text)


def describe(event: WireEvent) -> str:
    """Return one line that describes an event."""
    return str(row(event)).strip()


def around(result: Result) -> list[Row]:
    """Return the rows around the event at which a failure begins; the last rows if it is unknown.

    The event at which the failure begins, and later events that belong to it, are marked. If the
    client that the failure is about received nothing, a last row without time says this.
    """
    begin = result.around
    if begin is None or not 0 <= begin < len(result.wire):
        return [_row_of(group) for group in _grouped(result.wire)][-ROWS:]
    before = [
        _row_of(group)
        for group in _grouped(result.wire[:begin])
        if any(_leads_to(event, result) for event in group)
    ][-BEFORE:]
    after = [
        replace(_row_of(group), marked=any(_belongs(event, result) for event in group))
        for group in _grouped(result.wire[begin:])
    ]
    most = ROWS - len(before)
    if len(after) > most:
        half = most // 2
        last = [each for each in after[half:] if each.marked][-half:] or after[-half:]
        after = [*after[: most - len(last)], Row("", "…"), *last]
    return [*before, *after, *_silence(result, begin)]


def _leads_to(event: WireEvent, result: Result) -> bool:
    """Return whether an event before a failure may have led to the failure.

    This is not so for the sending of an earlier message.
    """
    _, client, what, *_ = event
    return what in (*LEAVES, "connects") or (client in result.clients and what != "sends")


def _belongs(event: WireEvent, result: Result) -> bool:
    """Return whether an event after the beginning of a failure belongs to the failure."""
    _, client, what, *_ = event
    return what.endswith("by the server") or client in result.clients


def _silence(result: Result, begin: int) -> Iterator[Row]:
    """Yield a row if the client that the failure is about received nothing."""
    for client in result.clients[:1]:
        received = (event for event in result.wire[begin:] if event[2] == "receives")
        if client != result.wire[begin][1] and not any(event[1] == client for event in received):
            yield Row("", f"server → {client}", "nothing", marked=True)


def _grouped(wire: Sequence[WireEvent]) -> Iterator[list[WireEvent]]:
    """Yield groups of events. Successive events with the same bytes are one group; any other event
    is a group of its own."""
    group: list[WireEvent] = []
    for event in wire:
        if group and not (event[2] in _TOGETHER and event[2:] == group[0][2:]):
            yield group
            group = []
        group.append(event)
    if group:
        yield group


_TOGETHER = ("receives", "closes its side", "is closed by the server", "is reset by the server")
"""Kinds of events that form a group if several clients have them one after another."""


def _row_of(group: Sequence[WireEvent]) -> Row:
    return row(group[0], [event[1] for event in group])
