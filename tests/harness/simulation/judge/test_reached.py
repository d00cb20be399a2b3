"""The moments at which faults have struck, such as "while joining"."""

import pytest

from harness.simulation.history import COMPLETE, VERSION, History
from harness.simulation.judge.reached import reached, required
from tests.harness.simulation.story import Story


def moments(story: Story, fault: str) -> dict[str, int]:
    """Return how often a fault struck in all, and at each kind of moment."""
    found = reached(History({"history": VERSION}, story.events, COMPLETE))
    return {name: times for name, times in found.get(fault, {}).items() if times}


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_a_client_that_leaves_before_its_welcome_leaves_while_joining(how: str) -> None:
    story = Story(1)
    story.connect(1)
    story.what(1, "leaves", how=how)
    story.what(0, "leaves", how=how)
    assert moments(story, how) == {"times": 2, "joining": 1}


def test_a_client_that_leaves_within_its_line_leaves_while_sending() -> None:
    story = Story(4)
    story.say("msg0.0", sent=False)
    story.what(0, "leaves", how="reset")
    story.say("msg1.0")
    story.what(1, "leaves", how="reset")
    story.say("msg2.0", sent=False)  # the unfinished line of another client does not count
    story.what(3, "leaves", how="reset")
    assert moments(story, "reset") == {"times": 3, "sending": 1}


def test_a_client_whose_message_has_not_reached_all_leaves_while_delivering() -> None:
    story = Story(4)
    story.say("msg0.0")
    story.hear(1, "msg0.0")
    story.what(0, "leaves", how="close")
    story.line(2, b"Ann: msg0.0:hi")
    story.what(1, "leaves", how="close")
    assert moments(story, "close") == {"times": 2, "delivering": 1}


def test_a_client_on_a_slow_link_leaves_while_lagging() -> None:
    story = Story()
    for who in range(3):
        story.join(who, "stall")
        story.fault("stall", who=who)
    story.fault("stall", "ends", who=1)
    for who in range(2):
        story.what(who, "leaves", how="reset")
    assert moments(story, "reset") == {"times": 2, "lagging": 1}


def test_a_cut_by_the_network_is_a_fault_of_its_client() -> None:
    story = Story(1)
    story.join(1, "cut-off")
    story.say("msg1.0", sent=False)
    story.fault("cut-off", who=1)
    story.fault("slow", who=0)
    assert moments(story, "cut-off") == {"times": 1, "sending": 1}
    assert moments(story, "slow") == {}


def test_a_fault_of_the_target_strikes_all_clients() -> None:
    story = Story(2)
    story.fault("kill-worker")
    story.connect(2)
    story.say("msg0.0", sent=False)
    story.fault("kill-worker")
    assert moments(story, "kill-worker") == {"times": 2, "joining": 1, "sending": 1}


def test_a_stop_strikes_from_its_start_to_its_end() -> None:
    for ends in (True, False):
        story = Story(2)
        story.fault("stop")
        story.join(2)
        if ends:
            story.fault("stop", "ends")
        story.say("msg0.0")
        story.hear(1, "msg0.0")
        more = {} if ends else {"sending": 1, "delivering": 1}
        assert moments(story, "stop") == {"times": 1, "joining": 1, **more}


def test_a_fault_that_found_no_process_has_not_struck() -> None:
    story = Story(2)
    story.fault("kill-worker", "misses")
    assert moments(story, "kill-worker") == {"missed": 1}
    assert story.judged().counts == {}
    story.what(1, "ended", how="reset")
    (found,) = story.judged().violations
    assert found.clause == "LEAVE-1", "the fault hit no process, so it was not the cause"


def test_required_returns_how_often_each_listed_moment_was_reached() -> None:
    story = Story(1)
    story.connect(1)
    story.what(1, "leaves", how="reset")
    pairs = ["reset while joining", "reset while sending", "stop while joining"]
    history = History({"history": VERSION, "reach": pairs}, story.events, COMPLETE)
    assert required(history, reached(history)) == dict(zip(pairs, (1, 0, 0), strict=True))
