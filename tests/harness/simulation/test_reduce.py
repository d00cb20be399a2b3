"""From a history to a script, and to the smallest that still shows the same."""

import pytest
from hypothesis import given
from hypothesis.strategies import integers, sets

from harness.simulation.history import COMPLETE, History
from harness.simulation.reduce import Script, people, reduce, script_of
from tests.harness.simulation.test_checkers import Story


def test_a_script_is_what_people_did_in_order() -> None:
    story = Story(2)
    story.say("0.0", b"hi")
    story.hear(1, "0.0")
    story.what(1, "leaves", how="reset")
    story.join(2)
    story.what(0, "ended", how="closed")
    assert script_of(History({}, story.events, COMPLETE)) == [
        ["join", 0, "127.0.0.2"],
        ["join", 1, "127.0.0.3"],
        ["say", 0, [b"0.0:hi"]],
        ["leave", 1, "reset"],
        ["join", 2, "127.0.0.4"],
        ["leave", 0, "close"],
    ]


def a_script(count: int = 8) -> Script:
    script: Script = [["join", who, f"127.0.0.{who + 2}"] for who in range(count)]
    for number in range(10):
        for who in range(count):
            script.append(["say", who, [b"%d.%d:some text" % (who, number)]])
    return [*script, ["leave", count - 1, "close"]]


def is_valid(script: Script) -> bool:
    """Nobody speaks or leaves who is not there."""
    here = set()
    for step in script:
        if step[0] == "join":
            here.add(step[1])
        elif step[1] not in here:
            return False
        elif step[0] == "leave":
            here.remove(step[1])
    return True


@given(sets(integers(0, 7), min_size=1, max_size=3), integers(0, 9))
def test_what_is_needed_is_left_and_nothing_else(needed: set[int], number: int) -> None:
    speaker = min(needed)

    def shows(script: Script) -> bool:
        assert is_valid(script)
        said = [b"".join(step[2]) for step in script if step[0] == "say"]
        spoken = any(text.startswith(b"%d.%d:" % (speaker, number)) for text in said)
        return spoken and needed <= {*people(script)}

    found = reduce(a_script(), shows, 10_000)
    assert {*people(found)} == needed
    assert [step for step in found if step[0] != "join"] == [
        ["say", speaker, [b"%d.%d:" % (speaker, number)]]
    ]


def test_how_many_are_needed_is_found_too() -> None:
    def shows(script: Script) -> bool:
        return len([step for step in script if step[0] == "say"]) >= 5

    found = reduce(a_script(), shows, 10_000)
    assert sum(step[0] == "say" for step in found) == 5
    assert len(people(found)) == 1


@pytest.mark.parametrize("budget", [0, 1, 7])
def test_no_more_are_tried_than_may_be(budget: int) -> None:
    tried = 0

    def shows(script: Script) -> bool:
        nonlocal tried
        tried += 1
        return len(script) > 3

    reduce(a_script(), shows, budget)
    assert tried == budget
