"""A picture of a violation, with a lane for each session. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.report.charts import RIGHT, WIDTH, Mark, Scale, Tick, steps
from harness.simulation.report.context import LETTERS, ViolationContext, called

LEFT, LANE, TOP, BOTTOM = 110, 18, 26, 24
"""Left end of the lanes, height of a lane, margin at the top, margin at the bottom, in SVG's user
units."""

TICK = 80
"""Minimum distance between two ticks, in SVG's user units."""

DOTS = 60
"""Maximum number of messages to show in one lane, besides the message in question."""


@dataclass(frozen=True)
class Dot:
    """A dot in a lane. style: sends, receives, other (another message), wrong, never (received)."""

    style: str
    x: float
    title: str


@dataclass(frozen=True)
class Lane:
    """The lane of a session that was a member from `begin` to `end`."""

    name: str
    style: str
    y: int
    begin: float
    end: float
    dots: list[Dot]


class Picture:
    def __init__(self, context: ViolationContext) -> None:
        self._context = context
        self._x = Scale(context.begin, context.end, LEFT, WIDTH - RIGHT)
        self.lanes = [self._lane(place, who) for place, who in enumerate(context.people)]
        self.marks = [*self._marks()]
        self.ticks = [*self._ticks()]
        self.height = TOP + LANE * len(self.lanes) + BOTTOM

    def _within(self, t: float) -> float:
        """Return the x coordinate of a time; of the picture's edge if the time is outside it."""
        return self._x(max(self._context.begin, min(self._context.end, t)))

    def _lane(self, place: int, who: int) -> Lane:
        context = self._context
        person = context.recording.person(who)
        since = context.end if person.since is None else person.since
        until = context.end if person.until is None else person.until
        begin, end = self._within(since), self._within(until)
        dots = [*self._dots(who)]
        style = "wrong" if who in context.group.who else ""
        y = TOP + LANE // 2 + LANE * place
        return Lane(context.recording.name(who), style, y, min(begin, end), end, dots)

    def _dots(self, who: int) -> Iterator[Dot]:
        """Yield the dots in a session's lane.

        They show that the session sent, received or missed the message in question, and the receipt
        of some other messages.
        """
        context, group, x = self._context, self._context.group, self._x
        name = context.recording.name(who)
        course, is_wronged = context.courses[who], who in group.who
        others = [heard for heard in course if not context.is_it(heard[1])]
        for t, message, line in others[:: -(-len(others) // DOTS) or 1]:
            yield Dot("other", x(t), f"{t:.4f} s: receives {called(message, line)}")
        for t, message, line in course:
            if context.is_it(message):
                style = "wrong" if is_wronged else "receives"
                yield Dot(style, x(t), f"{t:.4f} s: receives {line[:LETTERS] or message}")
        if context.said and context.said["who"] == who:
            yield Dot("sends", x(context.t), f"{name} sends {group.message}")
        elif not group.message and is_wronged:
            yield Dot("wrong", x(min(context.end, group.t)), group.says)
        elif is_wronged and all(delivery.who != who for delivery in context.heard):
            title = f"{name} has not received {group.message}"
            yield Dot("never", x(context.expected), title)

    def _marks(self) -> Iterator[Mark]:
        """Yield a mark for each fault of the target in the time that is shown."""
        for first, last, kind in self._context.recording.faults:
            if first <= self._context.end and last >= self._context.begin:
                at = self._within(first)
                width = round(self._within(last) - at, 1)
                yield Mark(at, width, "band" if width else "moment", kind)

    def _ticks(self) -> Iterator[Tick]:
        """Yield a tick for the time at which the message was sent, and regular ticks after it."""
        zero, end, x = self._context.t, self._context.end, self._x
        yield Tick(self._within(zero), f"{zero:.3f} s")
        room = int((x(end) - x(zero)) / TICK)
        for seconds in steps(end - zero, room)[1:] if room > 0 else []:
            text = f"+{seconds:g} s" if seconds >= 1 else f"+{1000 * seconds:g} ms"
            yield Tick(x(zero + seconds), text)
