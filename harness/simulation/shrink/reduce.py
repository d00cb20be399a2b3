"""Make a script from a history, and reduce the script while it still shows the violation. Pure.

The method is delta debugging. Parts of the script are left out, first all parts, then halves,
quarters and so on. A part stays left out if the rest still shows the violation. The parts are first
clients, then their lines, then cuts and leaves, then characters of the texts. All this is repeated
until nothing more can be left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.simulation.history import History, as_bytes, as_text
from harness.simulation.scenario.vocabulary import TOKEN

Step = list[Any]
"""A step of a script; replay.py describes its form."""
Script = list[Step]

Shows = Callable[[Script], bool]
"""Function that returns whether a script still shows the violation."""

_CUTS = {"cut-off": "reset", "reset": "reset", "half-close": "half-close"}
"""Faults of a link, each with the client's way to leave that has the same effect."""


class Spent(Exception):
    """The budget is used up: the maximum number of scripts was tried."""


# --- from a history ------------------------------------------------------------------------------


def script_of(history: History) -> Script:
    """Return a script of the clients' actions in a history, in order.

    The script does not contain times, faults of the target, or connections that the target ended.
    It does not contain final messages either, because the player adds them. A history does not
    record the place at which a message was cut, so the script cuts the message in the middle.
    """
    script: Script = []
    here: set[int] = set()
    cut = {event["sent"] for event in history.events if "sent" in event and event["gap"] > 0}
    for event in history.events:
        who, what = event.get("who"), event.get("what")
        if what == "connects":
            here.add(event["who"])
            script.append(["join", who, event["address"]])
        elif who not in here:
            continue
        elif "says" in event and not event.get("final"):
            text = as_bytes(event["text"])
            script.append(["say", who, _halves(text) if event["says"] in cut else [text]])
        elif how := _leaving(event):
            here.discard(event["who"])
            script.append(["leave", who, how])
    return script


def left_out(history: History) -> list[str]:
    """Describe the faults of the target and of links in a history, which a script can't repeat."""
    faults = Counter(
        f"{event['fault']} of {'a link' if 'who' in event else 'the target'}"
        for event in history.events
        if "fault" in event and event["what"] == "begins"
    )
    return [f"{fault} ({count})" for fault, count in sorted(faults.items())]


def _leaving(event: dict[str, Any]) -> str:
    """Return the way in which a session leaves by this event; empty if it does not leave."""
    if event.get("what") == "leaves":
        return str(event["how"])
    if event.get("what") == "refused":
        return "close"  # in a replay, the client may be accepted; then it leaves at once
    return _CUTS.get(event.get("fault", ""), "") if event.get("what") == "begins" else ""


def _halves(text: bytes) -> list[bytes]:
    begin = _begin(text)
    middle = begin + (len(text) - begin) // 2
    return [text[:middle], text[middle:]]


def _begin(text: bytes) -> int:
    """Return the offset at which the text after the token begins."""
    found = TOKEN.match(text)
    return found.end() if found else 0


# --- the parts of a script -----------------------------------------------------------------------


def people(script: Script) -> list[int]:
    return list(dict.fromkeys(step[1] for step in script))


def lines(script: Script) -> int:
    """Return the number of lines that a script sends."""
    return sum(step[0] == "say" for step in script)


def _only(script: Script, who: Sequence[int]) -> Script:
    known = {*who}
    return [step for step in script if step[1] in known]


def _places(script: Script, kind: str) -> list[int]:
    return [at for at, step in enumerate(script) if step[0] == kind]


# --- reducing ------------------------------------------------------------------------------------


def reduce(script: Script, shows: Shows, budget: int, likely: Sequence[int] = ()) -> Script:
    """Return the smallest script that was found with at most `budget` calls of `shows`.

    `shows` must be true for `script`. likely: clients that may be enough to show the violation;
    a script with only these clients is tried first. If the budget is large enough, no single
    client, line, cut or leave can be left out of the result. No script is tried twice.
    """
    search = _Search(script, shows, budget)
    try:
        if likely:
            search.shows(_only(script, likely))
        before: Script = []
        while search.best != before:
            before = search.best
            for stage in (_fewer_people, _fewer_lines, _fewer_cuts, _fewer_leavings, _plainer):
                stage(search)
    except Spent:
        pass
    return search.best


class _Search:
    """The state of a search. best: the smallest script so far that shows the violation."""

    def __init__(self, script: Script, shows: Shows, budget: int) -> None:
        self.best = script
        self._shows = shows
        self._left = budget
        self._failed: set[str] = set()

    def shows(self, candidate: Script) -> bool:
        """Return whether a script shows the violation. If it does, store it in `best`.

        Raise Spent if the budget is used up.
        """
        if candidate == self.best:
            return True
        key = repr(candidate)
        if not candidate or key in self._failed:
            return False
        if not self._left:
            raise Spent
        self._left -= 1
        if self._shows(candidate):
            self.best = candidate
            return True
        self._failed.add(key)
        return False


def _fewer_people(search: _Search) -> None:
    script = search.best
    _fewest(people(script), lambda who: search.shows(_only(script, who)))


def _fewer_lines(search: _Search) -> None:
    _fewer_steps(search, "say")


def _fewer_leavings(search: _Search) -> None:
    _fewer_steps(search, "leave")
    for at in _places(search.best, "leave"):
        if search.best[at][2] != "close":
            search.shows(_with(search.best, {at: "close"}))


def _fewer_steps(search: _Search, kind: str) -> None:
    script = search.best

    def without(kept: Sequence[int]) -> Script:
        known = {*kept}
        return [step for at, step in enumerate(script) if step[0] != kind or at in known]

    _fewest(_places(script, kind), lambda kept: search.shows(without(kept)))


def _fewer_cuts(search: _Search) -> None:
    script = search.best
    cut = [at for at in _places(script, "say") if len(script[at][2]) > 1]

    def joined(kept: Sequence[int]) -> Script:
        return _with(script, {at: [b"".join(script[at][2])] for at in cut if at not in kept})

    _fewest(cut, lambda kept: search.shows(joined(kept)))


def _plainer(search: _Search) -> None:
    """Shorten and simplify the texts after the tokens."""
    script = search.best
    # A line that is cut needs text on both sides of the cut.
    bare = {at: _cut_as(script[at][2], b"a"[: len(script[at][2]) - 1]) for at in _longer(script)}
    _fewest(
        [*bare],
        lambda kept: search.shows(_with(script, {at: bare[at] for at in bare if at not in kept})),
    )
    for at in _longer(search.best):
        pieces = search.best[at][2]
        for plainer in (_as_letters(pieces), _as_ascii(pieces)):
            if search.shows(_with(search.best, {at: plainer})):
                break
        _shorten(search, at)


def _shorten(search: _Search, at: int) -> None:
    script = search.best
    pieces = script[at][2]
    text = b"".join(pieces)
    characters = as_text(text[_begin(text) :])

    def of(kept: Sequence[int]) -> Script:
        rest = as_bytes("".join(characters[place] for place in kept))
        return _with(script, {at: _cut_as(pieces, rest)})

    _fewest(range(len(characters)), lambda kept: search.shows(of(kept)))


def _longer(script: Script) -> list[int]:
    """Return the places of lines whose text can be shortened."""
    return [
        at
        for at in _places(script, "say")
        for text in [b"".join(script[at][2])]
        if len(text) - _begin(text) > (len(script[at][2]) > 1)
    ]


def _cut_as(pieces: list[bytes], rest: bytes) -> list[bytes]:
    """Return the pieces of a line with `rest` as the text after the token.

    If `pieces` is more than one piece, cut the new line, too.
    """
    text = b"".join(pieces)
    text = text[: _begin(text)] + rest
    return _halves(text) if len(pieces) > 1 else [text]


def _as_ascii(pieces: list[bytes]) -> list[bytes]:
    return [bytes(byte if 0x20 <= byte < 0x7F else ord("x") for byte in piece) for piece in pieces]


def _as_letters(pieces: list[bytes]) -> list[bytes]:
    text = b"".join(pieces)
    return _cut_as(pieces, b"x" * (len(text) - _begin(text)))


def _with(script: Script, changes: dict[int, Any]) -> Script:
    """Return a script with other last elements of some steps. changes: the elements, by place."""
    return [[*step[:2], changes[at]] if at in changes else step for at, step in enumerate(script)]


def _fewest(parts: Sequence[int], shows: Callable[[Sequence[int]], bool]) -> None:
    """Leave out parts while the rest shows the violation.

    Try to leave out all parts at once, then each half, each quarter and so on, then each part.
    """
    left = list(parts)
    for size in _sizes(len(left)):
        at = 0
        while at < len(left):
            rest = left[:at] + left[at + size :]
            if shows(rest):
                left = rest
            else:
                at += size


def _sizes(count: int) -> Iterator[int]:
    while count:
        yield count
        count //= 2
