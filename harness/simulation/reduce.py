"""From a history to a script, and from a script to the smallest that still shows the same. Pure.

Delta debugging: parts are left out, half of them first and then fewer, as long as
what is left still shows it. First whole people, then what they say, then how it is
cut and how they leave, then the texts themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.simulation.history import History, as_bytes
from harness.simulation.words import TOKEN

Step = list[Any]
"""As in replay.py."""
Script = list[Step]

Shows = Callable[[Script], bool]
"""Whether a script still shows it."""


class Spent(Exception):
    """So many scripts were tried as there may be."""


def script_of(history: History) -> Script:
    """What people did, in order; times, faults and bad networks are left out."""
    script: Script = []
    here: set[int] = set()
    for event in history.events:
        who = event.get("who")
        if event.get("what") == "connects":
            here.add(event["who"])
            script.append(["join", who, event["address"]])
        elif "says" in event and who in here and not event.get("final"):
            script.append(["say", who, [as_bytes(event["text"])]])
        elif event.get("what") in ("leaves", "ended", "refused") and who in here:
            here.discard(event["who"])
            how = event["how"] if event["what"] == "leaves" else "close"
            script.append(["leave", who, how])
    return script


def reduce(script: Script, shows: Shows, budget: int) -> Script:
    """The smallest script found within so many calls of `shows`, which holds for `script`."""
    left = budget

    def counted(candidate: Script) -> bool:
        nonlocal left
        if not left:
            raise Spent
        left -= 1
        return shows(candidate)

    best = script
    try:
        for stage in (_without_people, _without_steps, _plainer):
            for smaller in stage(best, counted):
                best = smaller
    except Spent:
        pass
    return best


def people(script: Script) -> list[int]:
    return list(dict.fromkeys(step[1] for step in script))


def _without_people(script: Script, shows: Shows) -> Iterator[Script]:
    def of(those: Sequence[int]) -> Script:
        known = {*those}
        return [step for step in script if step[1] in known]

    for those in _ddmin(people(script), lambda those: shows(of(those))):
        yield of(those)


def _without_steps(script: Script, shows: Shows) -> Iterator[Script]:
    """Without some of what is said, and without some leavings."""
    places = [at for at, step in enumerate(script) if step[0] != "join"]

    def of(kept: Sequence[int]) -> Script:
        known = {*kept}
        return [step for at, step in enumerate(script) if step[0] == "join" or at in known]

    for kept in _ddmin(places, lambda kept: shows(of(kept))):
        yield of(kept)


def _plainer(script: Script, shows: Shows) -> Iterator[Script]:
    """With shorter texts of plain letters, where that still shows it."""
    best = script
    for at, step in enumerate(script):
        if step[0] != "say":
            continue
        text = b"".join(step[2])
        found = TOKEN.match(text)
        token = found[0] if found else b""
        for simpler in (token, token + b"hi", text[: len(token) + (len(text) - len(token)) // 2]):
            if len(simpler) >= len(text):
                continue
            candidate = [*best[:at], ["say", step[1], [simpler]], *best[at + 1 :]]
            if shows(candidate):
                best = candidate
                yield best
                break


def _ddmin(parts: Sequence[int], shows: Callable[[Sequence[int]], bool]) -> Iterator[Sequence[int]]:
    """Fewer and fewer of the parts, each lot of which still shows it; in the end, none of them can
    be left out."""
    pieces = 2
    while len(parts) >= 1:
        size = -(-len(parts) // pieces)
        for first in range(0, len(parts), size):
            rest = [*parts[:first], *parts[first + size :]]
            if shows(rest):
                parts = rest
                yield parts
                pieces = max(2, pieces - 1)
                break
        else:
            if size == 1:
                return
            pieces = min(len(parts), pieces * 2)
