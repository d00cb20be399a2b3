"""The verdict of a run, and its results."""

from typing import Any

import pytest

from harness.profile import Profile, parse
from harness.simulation.history import COMPLETE, VERSION, History
from harness.simulation.judge import KINDS, judge
from harness.simulation.judge.figures import figures
from harness.simulation.judge.results import LATE, exit_status, lines, results
from tests.harness.simulation.story import Story


def results_of(
    story: Story,
    end: str = COMPLETE,
    lag: float = 0.0,
    profile: Profile | None = None,
    **about: object,
) -> dict[str, Any]:
    for event in story.events:
        if "lag" in event:
            event["lag"] = lag
    header = {"history": VERSION, "scenario": "s", "seed": 7, "target": "t", "seconds": 3.0}
    history = History({**header, **about}, story.events, end)
    return results(history, judge(history, profile), figures(history), profile)


def good_story() -> Story:
    story = Story(3)
    story.say("msg0.0")
    story.all_hear("msg0.0")
    return story


def test_a_pass() -> None:
    found = results_of(good_story())
    assert (found["verdict"], found["why"], exit_status(found)) == ("pass", "", 0)
    assert (found["scenario"], found["seed"], found["target"]) == ("s", 7, "t")
    assert (found["clients"], found["messages"], found["deliveries"]) == (3, 1, 2)
    assert all(found[kind] == 0 for kind in KINDS)
    said = [*lines(found)]
    assert said[0] == "pass"
    assert said[1] == "3 members at once, 3 connections, 1 message, 2 deliveries, 0 undecided"


@pytest.mark.parametrize(
    ("text", "dialect", "forms", "status"),
    [
        ("claims = ['LINE-5']", [], set(), 0),
        ("", ["unfinished lines wait for their end"], set(), 0),
        ("claims = ['all']\noutput_line_end = 'CR LF'", ["output lines end with CR LF"], set(), 0),
        ("claims = ['all']\necho = 'You: '", ["own messages come back"], {"CAST-2"}, 4),
        ("claims = ['all']\nprefix = ''", ["messages without prefix"], {"PREFIX-2"}, 4),
    ],
)
def test_a_pass_in_a_dialect_that_changes_a_check_has_its_own_status(
    text: str, dialect: list[str], forms: set[str], status: int
) -> None:
    story = Story(2)
    story.say("msg0.0")
    prefix = b"" if "prefix" in text else b"<127.0.0.2>"
    story.line(1, prefix + b"msg0.0:hi")
    if "echo" in text:
        story.line(0, b"You: msg0.0:hi")
    found = results_of(story, profile=parse(text, "mine"))
    assert (found["dialect"], found["forms"].keys()) == (dialect, forms)
    assert (found["verdict"], exit_status(found)) == ("pass", status)
    said = [*lines(found)]
    assert said[0] == ("pass in the dialect" if status else "pass")
    assert (f"dialect: {'; '.join(dialect)}" in said) == bool(dialect)
    story.say("msg0.1")
    assert exit_status(results_of(story, profile=parse(text, "mine"))) == 1


def lossy_story() -> Story:
    story = good_story()
    story.say("msg0.1")
    return story


@pytest.mark.parametrize(
    ("story", "end", "lag", "verdict", "why", "status"),
    [
        (lossy_story, COMPLETE, 0.0, "fail", "2 lost", 1),
        (lossy_story, COMPLETE, 9.0, "fail", "2 lost", 1),
        (
            good_story,
            COMPLETE,
            2 * LATE / 1000,
            "invalid",
            "the harness itself was late: it sent",
            2,
        ),
        (good_story, "", 0.0, "unknown", "the history was cut short", 2),
        (good_story, "the target ended", 0.0, "unknown", "the target ended", 2),
        (Story, COMPLETE, 0.0, "unknown", "no client received a message", 2),
    ],
)
def test_verdicts(story: Any, end: str, lag: float, verdict: str, why: str, status: int) -> None:
    """A violation counts even if the harness was late. A run without deliveries does not pass."""
    found = results_of(story(), end, lag)
    assert (found["verdict"], exit_status(found)) == (verdict, status)
    assert found["why"].startswith(why)
    assert next(lines(found)).startswith(f"{verdict}: {why}")


def test_a_failure_of_the_harness_makes_a_run_invalid() -> None:
    story = good_story()
    story.what(9, "connects", population="p", address="127.0.0.9", link=None)
    story.what(9, "refused", why="the harness itself: Too many open files")
    found = results_of(story)
    assert (found["verdict"], exit_status(found), found["refused"]) == ("invalid", 2, 0)
    assert "Too many open files" in found["why"]
    cannot_judge = results_of(good_story(), "the harness could not judge: a driver failed")
    assert (cannot_judge["verdict"], exit_status(cannot_judge)) == ("invalid", 2)
    story.say("msg0.1")
    assert results_of(story)["verdict"] == "fail"


def test_a_record_that_contradicts_itself_is_invalid() -> None:
    """A message can't be received before it is sent, or be both received and lost."""
    early = good_story()
    early.hear(2, "msg0.1")
    early.say("msg0.1")
    found = results_of(early)
    assert (found["verdict"], exit_status(found)) == ("invalid", 2)
    assert found["why"] == "msg0.1 was received 1.0 ms before it was sent"

    as_notice = Story(2)
    as_notice.say("msg0.0")
    as_notice.line(1, b"127.0.0.2:4000: msg0.0:hi")
    found = results_of(as_notice, profile=parse(r"notices = ['127.*\n']", "mine"))
    assert (found["verdict"], found["lost"]) == ("invalid", 1)
    assert found["why"] == (
        "Bob (p, 127.0.0.3) has received msg0.0, which counts as lost: does the profile "
        "describe the server? The line was “127.0.0.2:4000: msg0.0:hi”"
    )


def test_the_start_up_time_is_reported() -> None:
    assert not any("start-up" in line for line in lines(results_of(good_story())))
    found = results_of(good_story(), startup=0.75)
    assert found["startup_seconds"] == 0.75
    assert "start-up: the first client had joined after 0.75 s" in lines(found)


def test_a_run_that_has_not_reached_all_required_moments_is_undecided() -> None:
    story = good_story()
    story.what(1, "leaves", how="reset")
    found = results_of(story, reach=["reset while joining", "reset while sending"])
    assert (found["verdict"], exit_status(found)) == ("undecided", 2)
    assert found["why"] == "never reached: reset while joining, reset while sending"
    assert found["required"] == {"reset while joining": 0, "reset while sending": 0}
    assert results_of(good_story(), reach=[])["verdict"] == "pass"
    assert results_of(lossy_story(), reach=["reset while joining"])["verdict"] == "fail"


def test_moments_reached_and_faults_left_out_are_listed() -> None:
    story = good_story()
    story.connect(3)
    story.what(3, "leaves", how="reset")
    story.fault("kill-worker", "misses")
    found = results_of(story, left_out={"hangup": "on request"})
    assert [" ".join(line.split()) for line in lines(found)][-4:] == [
        "faults that struck while joining sending delivering lagging",
        "reset × 1 1 0 0 0",
        "kill-worker × 0 0 0 0 0 (1 found no process)",
        "left out: hangup: on request",
    ]


def test_an_incomplete_failed_run_is_reported_as_incomplete() -> None:
    story = good_story()
    story.say("msg0.1")
    story.say("msg0.2")
    story.all_hear("msg0.2")
    for end, said in (("", "cut short"), ("the target ended", "the target ended")):
        found = results_of(story, end)
        assert (found["verdict"], found["lost"]) == ("fail", 2)
        assert [*lines(found)][1] == f"the run is incomplete: {said}"


def test_violations_with_one_cause_share_a_row_with_their_number() -> None:
    story = Story(9)
    story.say("msg0.0")
    story.line(1, b"what")
    found = results_of(story)
    assert found["lost"] == 8
    assert [(cause["kind"], cause["count"], cause["clients"]) for cause in found["causes"]] == [
        ("lost", 8, 8),
        ("torn", 1, 1),
    ]
    assert [*lines(found)][-4:] == [
        "lost × 8 (CAST-1): no client received the message",
        "  first at 0.028 s: msg0.0 of Ann (p, 127.0.0.2) never reached Bob (p, 127.0.0.3)",
        "torn (CAST-3): a client received a line that no client sent",
        "  at 0.030 s: Bob (p, 127.0.0.3) received a line that no client sent: “what”",
    ]


def test_the_first_causes_are_listed() -> None:
    story = Story(2)
    for number in range(8):
        story.say(f"msg0.{number}")
        story.line(1, f"<{'x' * number}>msg0.{number}:hi".encode())
    found = results_of(story)
    assert sum(line.startswith("misprefixed (") for line in lines(found)) == 5
    assert [*lines(found)][-1] == "and 3 more causes"


def test_each_of_several_populations_has_a_row() -> None:
    story = good_story()
    assert not any("last, from" in line for line in lines(results_of(story)))
    story.what(9, "connects", population="others", address="127.0.0.9", link=None)
    story.what(9, "welcomed")
    story.say("msg9.0")
    story.all_hear("msg9.0")
    found = results_of(story)
    assert [*found["latency_ms"]["by_population"]] == ["p", "others"]
    assert [line.split()[:3] for line in lines(found) if "last, from" in line] == [
        ["last,", "from", "p"],
        ["last,", "from", "others"],
    ]


def test_costs_and_faults_are_reported() -> None:
    story = good_story()
    story.fault("kill-worker")
    for cpu in (1.0, 2.5):
        story.add(costs={"memory": 2 << 20, "descriptors": 7, "cpu": cpu})
    said = "\n".join(lines(results_of(story)))
    assert "the target used 1.5 s of processor time, at most 2.0 MiB and 7 descriptors" in said
    assert "faults: kill-worker × 1" in said
