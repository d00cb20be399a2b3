"""The script of a history, and its reduction to the smallest script with the violation."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis.strategies import binary, booleans, integers, sampled_from, sets

from harness.simulation.history import COMPLETE, Event, History, as_text
from harness.simulation.shrink.reduce import (
    Script,
    Step,
    left_out,
    lines,
    people,
    reduce,
    script_of,
)
from tests.harness.simulation.story import Story


def test_a_script_has_joins_messages_and_leaves_in_order() -> None:
    story = Story(2)
    story.say("msg0.0", b"hi")
    story.hear(1, "msg0.0")
    story.what(1, "leaves", how="reset")
    story.join(2)
    assert script_of(History({}, story.events, COMPLETE)) == [
        ["join", 0, "127.0.0.2"],
        ["join", 1, "127.0.0.3"],
        ["say", 0, [b"msg0.0:hi"]],
        ["leave", 1, "reset"],
        ["join", 2, "127.0.0.4"],
    ]


def after_joining(*events: Event) -> Script:
    """Return the script of these events of client 0, without its join."""
    joins = {"t": 0, "who": 0, "what": "connects", "address": "127.0.0.2"}
    (join, *script) = script_of(History({}, [joins, *({"t": 1, **event} for event in events)]))
    assert join == ["join", 0, "127.0.0.2"]
    return script


SAYS: Event = {"who": 0, "says": "msg0.0", "text": "msg0.0:four"}


def test_a_message_in_pieces_is_cut_after_its_token() -> None:
    whole = {"sent": "msg0.0", "who": 0, "gap": 0.0}
    assert after_joining(SAYS, whole) == [["say", 0, [b"msg0.0:four"]]]
    assert after_joining(SAYS, {**whole, "gap": 0.01}) == [["say", 0, [b"msg0.0:fo", b"ur"]]]


def test_final_messages_are_left_out_of_a_script() -> None:
    assert after_joining({**SAYS, "final": True}) == []


def test_a_disconnected_client_does_not_leave_in_the_script() -> None:
    assert after_joining(SAYS, {"who": 0, "what": "ended", "how": "closed"}) == [
        ["say", 0, [b"msg0.0:four"]]
    ]


@pytest.mark.parametrize(
    ("fault", "leaves"),
    [("cut-off", "reset"), ("reset", "reset"), ("half-close", "half-close"), ("slow", None)],
)
def test_a_client_that_is_cut_off_by_its_link_leaves(fault: str, leaves: str | None) -> None:
    struck = {"who": 0, "fault": fault, "what": "begins"}
    later = {"who": 0, "what": "leaves", "how": "close"}
    assert after_joining(struck, later) == [["leave", 0, leaves or "close"]]


def test_a_refused_client_joins_and_leaves() -> None:
    assert after_joining({"who": 0, "what": "refused", "why": "?"}) == [["leave", 0, "close"]]


def test_faults_that_a_script_leaves_out_are_counted() -> None:
    events: list[Event] = [
        {"t": 1, "fault": "kill-worker", "what": "begins"},
        {"t": 1, "fault": "kill-worker", "what": "ends"},
        {"t": 2, "fault": "kill-worker", "what": "begins"},
        {"t": 3, "fault": "slow", "what": "begins", "who": 1},
    ]
    assert left_out(History({}, events)) == ["kill-worker of the target (2)", "slow of a link (1)"]


# --- reduce --------------------------------------------------------------------------------------


def a_script(count: int = 8, rest: bytes = b"some text") -> Script:
    script: Script = [["join", who, f"127.0.0.{who + 2}"] for who in range(count)]
    for number in range(10):
        for who in range(count):
            script.append(["say", who, [b"msg%d.%d:" % (who, number), rest]])
    return [*script, *(["leave", who, "reset"] for who in range(0, count, 2))]


def is_valid(script: Script) -> bool:
    """Return True if only clients that have joined speak or leave."""
    here = set()
    for step in script:
        if step[0] == "join":
            here.add(step[1])
        elif step[1] not in here:
            return False
        elif step[0] == "leave":
            here.remove(step[1])
    return True


def said(step: Step) -> bytes:
    return b"".join(step[2]) if step[0] == "say" else b""


def asked_once(shows: Callable[[Script], bool]) -> Callable[[Script], bool]:
    """Wrap `shows`, to assert that each script is valid and that none is tried twice."""
    asked: set[str] = set()

    def shows_once(script: Script) -> bool:
        assert is_valid(script)
        assert repr(script) not in asked
        asked.add(repr(script))
        return shows(script)

    return shows_once


@given(
    sets(integers(0, 7), min_size=1, max_size=3),
    integers(0, 9),
    binary(min_size=1, max_size=2),
    booleans(),
    sampled_from([None, "close", "reset"]),
)
@example({0}, 0, b"\x82", False, None)
def test_only_the_needed_steps_remain(
    needed: set[int], number: int, word: bytes, is_cut: bool, how: str | None
) -> None:
    speaker = min(needed)
    token = b"msg%d.%d:" % (speaker, number)
    leaver = min({0, 2, 4, 6} & needed, default=None) if how else None

    def shows(script: Script) -> bool:
        spoken = any(
            said(step).startswith(token) and word in said(step) and len(step[2]) >= 1 + is_cut
            for step in script
        )
        leaves = leaver is None or any(
            step[:2] == ["leave", leaver] and how in ("close", step[2]) for step in script
        )
        return spoken and leaves and needed <= {*people(script)}

    found = reduce(a_script(rest=b"what a " + word + " day ☂".encode()), asked_once(shows), 10_000)
    assert shows(found)
    assert {*people(found)} == needed
    expected: Script = [["say", speaker, said(found[len(needed)])]]
    if leaver is not None:
        expected.append(["leave", leaver, how])
    steps = found[len(needed) :]
    assert [[*step[:2], said(step) or step[2]] for step in steps] == expected
    (spoken, *_) = steps
    rest = said(spoken).removeprefix(token)
    assert word in said(spoken)
    # `reduce` shortens texts by characters, and the word may be a part of a character.
    assert len(as_text(rest)) <= max(len(word), is_cut)
    assert len(spoken[2]) == 1 + is_cut


def without_one(script: Script) -> list[Script]:
    """Return all scripts that lack one step (except a join), or one client, of this script."""
    steps = [at for at, step in enumerate(script) if step[0] != "join"]
    return [[*script[:at], *script[at + 1 :]] for at in steps] + [
        [step for step in script if step[1] != who] for who in people(script)
    ]


@given(integers(0, 12), integers(0, 5), integers(0, 3), integers(1, 3))
def test_no_step_of_a_reduced_script_can_be_left_out(
    spoken: int, listeners: int, leavers: int, divisor: int
) -> None:
    def shows(script: Script) -> bool:
        """Return a result that depends on the number of lines.

        As a result, some longer scripts do not show the violation.
        """
        return (
            lines(script) >= spoken
            and len(people(script)) > listeners
            and sum(step[0] == "leave" for step in script) >= leavers
            and (lines(script) - spoken) % divisor == 0
        )

    whole = a_script()
    whole = [step for step in whole if step[0] != "say" or (80 - spoken) % divisor == 0]
    if not shows(whole):
        return
    found = reduce(whole, asked_once(shows), 10_000)
    assert shows(found)
    assert not any(shows(smaller) for smaller in without_one(found))


def test_steps_that_become_superfluous_later_are_left_out_too() -> None:
    def shows(script: Script) -> bool:
        """Require five clients, unless the script has only one line."""
        speaks = any(said(step).startswith(b"msg3.3:") for step in script)
        return speaks and (lines(script) == 1 or len(people(script)) >= 5)

    found = reduce(a_script(), asked_once(shows), 10_000)
    assert found == [["join", 3, "127.0.0.5"], ["say", 3, [b"msg3.3:"]]]


def test_a_reduction_needs_few_tries() -> None:
    tried = 0

    def shows(script: Script) -> bool:
        nonlocal tried
        tried += 1
        return any(said(step).startswith(b"msg5.7:") for step in script) and 2 in people(script)

    reduce(a_script(), shows, 1000)
    assert tried < 45
    before, tried = tried, 0
    reduce(a_script(), shows, 1000, likely=[5, 2])
    assert tried < before - 3


@pytest.mark.parametrize("budget", [0, 1, 7])
def test_tries_do_not_exceed_the_budget(budget: int) -> None:
    tried = 0

    def shows(script: Script) -> bool:
        nonlocal tried
        tried += 1
        return len(script) > 3

    found = reduce(a_script(), shows, budget)
    assert tried == budget
    assert len(found) > 3
