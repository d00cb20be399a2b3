"""The context of a violation, as text and as a picture."""

from itertools import pairwise

from harness.report.charts import WIDTH
from harness.simulation.history import COMPLETE, VERSION, History
from harness.simulation.judge import Judgement, Violation
from harness.simulation.judge.facts import Session
from harness.simulation.judge.figures import figures
from harness.simulation.judge.results import results
from harness.simulation.report.context import AFFECTED, OTHERS, ViolationContext
from harness.simulation.report.picture import DOTS, TICK, Picture
from harness.simulation.report.recording import (
    Group,
    Recording,
    chosen,
    grouped,
    named,
    target_faults,
)
from tests.harness.simulation.story import Story


def groups_of(*violations: Violation) -> list[Group]:
    """Group the violations by cause, as the judge does."""
    judgement, sessions = Judgement(), {each.who: Session(each.who) for each in violations}
    for each in violations:
        judgement.add(
            *(each.kind, each.t, sessions[each.who], each.says, each.cause, each.message),
            clause=each.clause,
            others=each.others,
        )
    history = History({"history": VERSION}, [], COMPLETE)
    found = results(history, judgement, figures(history))
    return grouped(found["causes"], found["violations"])


def shown(story: Story, *violations: Violation) -> ViolationContext:
    (group,) = groups_of(*violations)
    return ViolationContext(group, Recording(story.events, [group.message]))


def lost(who: int, message: str) -> Violation:
    return Violation("lost", "CAST-1", 0.1, who, message, f"{message} never reached session {who}")


def test_violations_with_one_cause_are_one_group() -> None:
    """A group has the message of its first violation, and the clients of all its violations."""
    (group,) = groups_of(lost(1, "msg0.0"), lost(1, "msg0.1"), lost(2, "msg0.0"))
    assert (group.message, group.who, group.count) == ("msg0.0", (1, 2), 3)
    reasons = ("after a kill", "after a kill", "after a stop")
    gone = [
        Violation("disconnected", "LOAD-4", 1.0, who, "", f"{who} is gone", cause)
        for who, cause in enumerate(reasons)
    ]
    groups = [(group.says, group.who, group.count) for group in groups_of(*gone)]
    assert groups == [("0 is gone", (0, 1), 2), ("2 is gone", (2,), 1)]


def test_one_violation_of_each_kind_is_shown_before_a_second_of_any_kind() -> None:
    groups = [Group(kind, "", 0.0, "", "", (0,)) for kind in "aaab"]
    assert chosen(groups, 2) == [0, 3]
    assert chosen(groups, 3) == [0, 1, 3]
    assert chosen(groups, 9) == [0, 1, 2, 3]


def test_a_lost_message_is_shown_with_what_was_heard_instead() -> None:
    story = Story(4)
    for name in ("msg0.0", "msg1.0", "msg2.0"):
        story.say(name)
        story.all_hear(name, but=3 if name == "msg1.0" else None)
    found = shown(story, lost(3, "msg1.0"))
    first, *others = found.rows
    assert (first.name, first.heard) == ("Dan", "never")
    assert (first.before, first.it, first.behind) == (["msg0.0"], "–", ["msg2.0"])
    assert [row.name for row in others] == ["Ann", "Cleo"]
    assert {row.it for row in others} == {"msg1.0"}
    lanes = {lane.name: [dot.style for dot in lane.dots] for lane in Picture(found).lanes}
    assert lanes["Bob"].count("sends") == 1
    assert "never" in lanes["Dan"]
    assert "receives" in lanes["Ann"]
    assert [quote.message for quote in found.quotes if quote.is_it] == ["msg1.0"]
    assert len(found.quotes) == 3


def test_a_torn_line_is_shown_as_it_arrived() -> None:
    story = Story(3)
    story.say("msg0.0", b"good morning")
    story.hear(2, "msg0.0")
    story.line(1, b"<127.0.0.2>msg0.0:good mor")
    found = shown(story, Violation("torn", "CAST-3", story.t, 1, "msg0.0", "torn"))
    assert found.rows[0].it == "“<127.0.0.2>msg0.0:good mor”"
    assert [dot.style for dot in Picture(found).lanes[1].dots] == ["wrong"]


def test_a_misordered_message_is_shown_with_the_other_message() -> None:
    story = Story(20)
    story.say("msg0.0")
    story.say("msg1.0")
    for who in range(2, 20):
        story.hear(who, *(("msg1.0", "msg0.0") if who == 2 else ("msg0.0", "msg1.0")))
    says = "Cleo (p, 127.0.0.4) heard msg1.0 before msg0.0, but Leo after it"
    found = shown(story, Violation("misordered", "CAST-5", 0.1, 2, "msg1.0", says, others=(11,)))
    assert found.others == ["msg0.0"]
    assert found.rows[0].behind == ["msg0.0"]
    assert found.rows[1].name == "Leo"
    assert found.rows[1].before == ["msg0.0"]


def test_a_name_of_a_message_in_a_member_s_text_is_ignored() -> None:
    says = "Bob heard msg0.0 as “msg0.0:msg9.9”"
    story = Story(2)
    story.say("msg0.0")
    assert shown(story, Violation("torn", "CAST-3", 0.1, 1, "msg0.0", says)).others == []


def test_a_crowd_is_summarised_in_numbers() -> None:
    story = Story(60)
    story.say("msg0.0")
    story.t = 1.0
    for who in range(1, 31):
        story.hear(who, "msg0.0")
    found = shown(story, *(lost(who, "msg0.0") for who in range(31, 51)))
    assert len(found.rows) == AFFECTED + OTHERS
    assert f"{30 - OTHERS} more received the message, +" in found.rest
    assert f"{20 - AFFECTED} more were affected in the same way" in found.rest
    assert "9 other members did not receive the message" in found.rest


def test_a_violation_without_a_message_is_shown_with_session_events() -> None:
    story = Story(2)
    story.say("msg0.0")
    story.hear(1, "msg0.0")
    story.line(0, b"nobody said this")
    story.fault("kill-worker", processes=[1])
    story.what(1, "ended", how="reset")
    found = shown(
        story, Violation("disconnected", "LEAVE-1", story.t, 1, "", "it was disconnected")
    )
    assert [line.what for line in found.lines][-2:] == ["kill-worker", "ended"]
    (lane,) = Picture(found).lanes
    assert lane.end < WIDTH - 20  # the lane ends before the right edge of the picture
    assert [mark.text for mark in Picture(found).marks] == ["kill-worker"]


def test_the_picture_shows_the_cause_and_its_ticks_do_not_overlap() -> None:
    story = Story(2)
    story.t = 5.0
    story.fault("kill-worker", processes=[1])
    for second in range(30):
        story.t += 0.1
        story.say(f"msg0.{second}")
        story.hear(1, f"msg0.{second}")
    story.what(1, "ended", how="reset")
    found = shown(story, Violation("disconnected", "LOAD-4", story.t, 1, "", "it was disconnected"))
    assert [mark.text for mark in Picture(found).marks] == ["kill-worker"]
    places = [tick.at for tick in Picture(found).ticks]
    assert all(after - before >= TICK * 0.99 for before, after in pairwise(places))


def test_a_violation_of_an_unknown_session_can_be_shown() -> None:
    found = shown(Story(1), Violation("lost", "CAST-1", 0.0, 77, "msg9.9", "odd"))
    assert found.rows[0].name == "session 77"
    assert found.quotes == []


def test_the_number_of_dots_in_a_lane_is_limited() -> None:
    story = Story(3)
    story.say("msg0.0")
    story.hear(2, "msg0.0")
    story.hear(1, *(f"msg2.{number}" for number in range(1000)))
    found = shown(story, lost(1, "msg0.0"))
    assert max(len(lane.dots) for lane in Picture(found).lanes) <= DOTS + 1


def test_each_of_several_overlapping_faults_is_listed() -> None:
    story = Story()
    for what in ("begins", "begins", "ends", "ends", "begins"):
        story.t = round(story.t + 0.999, 3)
        story.fault("stop-worker", what)
    story.fault("hangup")
    story.fault("kill-worker", "misses")
    story.add(fault="slow", what="begins", who=1)
    found = [
        (round(begin), round(end), kind) for begin, end, kind in target_faults(story.events, 9.0)
    ]
    stops = [(1, 3, "stop-worker"), (2, 4, "stop-worker"), (5, 9, "stop-worker")]
    assert sorted(found) == sorted([*stops, (5, 5, "hangup")])


def test_a_line_that_is_no_message_has_no_name() -> None:
    assert named("msg1.0") == ("msg1.0", "")
    assert named({"line": "<a>msg1.0:x"}) == ("msg1.0", "<a>msg1.0:x")
    assert named({"line": "\udcff"}) == ("", "\udcff")
