"""The page of a simulation's report, with its charts and the contexts of violations."""

import random
import re
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers

from harness.profile import load
from harness.report.charts import WIDTH, Scale, over_time, ranks, short, steps, tail
from harness.simulation.history import COMPLETE, VERSION, History
from harness.simulation.judge import KINDS, Violation
from harness.simulation.judge.figures import figures
from harness.simulation.outcome import judged
from harness.simulation.report import page
from harness.simulation.report.charts import BINS, size_of_bins
from harness.simulation.report.page import LETTER, labels, span, strip
from harness.wording import visible
from tests.harness.report.test_page import Reader
from tests.harness.simulation.story import Story

EVIL = b"\x1b[2J</td><script>alert(1)</script>\xff\x00\xe2\x80\xae"


def page_of(story: Story, tmp_path: Path, **header: Any) -> str:
    about = {
        "history": VERSION,
        "scenario": "s",
        "seed": 1,
        "target": "t",
        "seconds": 3.0,
        **header,
    }
    judged(History(about, story.events, COMPLETE), load("chatroom")).write(tmp_path)
    return (tmp_path / "report.html").read_text()


def page_with(story: Story, violations: list[Violation], **changed: object) -> str:
    """Return the page of a story with these violations, without calling the judge."""
    recorded = History({"history": VERSION}, story.events, COMPLETE)
    found = figures(recorded)
    results: Mapping[str, Any] = {
        "verdict": "fail" if violations else "pass",
        "why": "",
        "dialect": [],
        "scenario": "s",
        "seed": 1,
        "target": "t",
        "seconds": 3.0,
        "startup_seconds": 0.25,
        "clients": 3,
        "sessions": 3,
        "messages": 1,
        "deliveries": 2,
        "undecided": 0,
        **{kind: sum(violation.kind == kind for violation in violations) for kind in KINDS},
        "latency_ms": {"corrected": found.corrected, "raw": found.raw},
        "schedule_lag_ms": found.lag,
        "target_costs": found.costs,
        "faults": dict(found.faults),
        "left_out": {},
        "reached": {},
        "required": {},
        "causes": [
            {
                **{key: getattr(violation, key) for key in ("kind", "clause", "cause")},
                "count": 1,
                "clients": 1,
                "first": violation.t,
                "last": violation.t,
                "example": violation.says,
            }
            for violation in violations
        ],
        "violations": [asdict(violation) for violation in violations],
        **changed,
    }
    return page.report(results, recorded, found)


def classroom(people: int = 12, messages: int = 120, seconds: float = 30.0) -> Story:
    """Return a story in which clients talk, a worker is killed at 5 s, and the server is stopped
    from 10 s to 11 s."""
    chance = random.Random(1)
    story = Story(people)
    numbers = [0] * people
    for turn in range(messages):
        story.t = max(story.t, turn * seconds / messages)
        who = chance.randrange(people)
        name = f"msg{who}.{numbers[who]}"
        numbers[who] += 1
        story.say(name, chance.choice([b"good morning", EVIL, "你好".encode()]))
        if turn * seconds / messages == 5:
            story.fault("kill-worker", processes=[1])
        if 10 <= story.t < 11:
            story.fault("stop", processes=[1])
            story.t = 11.0
            story.fault("stop", "ends", processes=[1])
        story.t += chance.expovariate(500)
        story.all_hear(name)
        if turn % 4 == 0:
            costs = {"memory": (9 + turn / 100) * (1 << 20), "descriptors": 20, "cpu": turn / 90}
            story.add(costs=costs)
    return story


# --- the page ------------------------------------------------------------------------------------


def test_a_page_of_a_run_that_passed(tmp_path: Path) -> None:
    text = page_of(classroom(), tmp_path, phases=[["calm", 15.0], ["rush", 15.0]])
    assert '<header class="pass">' in text
    assert text.count("<svg") == 8  # the distribution, the strip, six charts over time
    assert "kill-worker at " in text
    assert "stop, 10." in text
    assert ">kill-worker</text>" in text
    assert ">rush</text>" in text
    assert 'class="wrong"' not in text
    assert "Violations in context" not in text


def test_the_start_up_time_is_on_the_page(tmp_path: Path) -> None:
    started = "Start-up: the first client had joined after 0.75 s"
    assert started in page_of(classroom(), tmp_path, startup=0.75)
    assert "Start-up" not in page_of(classroom(), tmp_path)


def test_the_faults_that_the_harness_caused_are_on_the_page(tmp_path: Path) -> None:
    story = classroom()
    story.what(3, "leaves", how="reset")
    header = {
        "reach": ["kill-worker while sending", "reset while joining"],
        "left_out": {"hangup": "only on request"},
    }
    read = Reader(page_of(story, tmp_path, **header))
    assert '<header class="undecided">' in (tmp_path / "report.html").read_text()
    for words in ("SIGKILL to one process", "SIGSTOP to all", "a connection was reset"):
        assert words in read.text
    assert "Never reached: reset while joining" in read.text
    assert "Left out: hangup" in read.text
    assert "only on request" in read.text


def test_each_of_several_populations_has_a_row(tmp_path: Path) -> None:
    story = classroom()
    assert "messages of p<" not in page_of(story, tmp_path)
    story.what(99, "connects", population="<others>", address="127.0.9.9", link=None)
    story.what(99, "welcomed")
    story.say("msg99.0")
    story.all_hear("msg99.0")
    text = page_of(story, tmp_path)
    assert "messages of p<" in text
    assert "messages of &lt;others&gt;" in text


def test_a_page_of_a_run_without_events_has_no_charts(tmp_path: Path) -> None:
    text = page_of(Story(1), tmp_path)
    assert '<header class="unknown">' in text
    assert "<svg" not in text


def test_a_page_of_an_invalid_run_shows_the_delay_of_the_harness() -> None:
    shown = "Largest delay of the harness itself"
    assert shown in page_with(classroom(), [], verdict="invalid", why="it was late")
    assert shown not in page_with(classroom(), [])


def test_a_violation_is_linked_to_its_context(tmp_path: Path) -> None:
    story = Story(3)
    story.say("msg0.0", EVIL)
    story.hear(1, "msg0.0")
    read = Reader(page_of(story, tmp_path))
    assert "#violation-1" in read.links
    assert {link[1:] for link in read.links} <= set(read.ids)
    assert len(set(read.ids)) == len(read.ids)
    assert "lost" in read.text
    assert "never" in read.text


def test_text_of_clients_and_servers_does_not_become_markup() -> None:
    story = Story(3)
    story.say("msg0.0", EVIL)
    story.line(1, b"<127.0.0.2>msg0.0:" + EVIL)
    story.line(2, EVIL)
    evil = EVIL.decode("utf-8", "surrogateescape")
    story.what(2, "ended", how="closed", rest=evil)
    found = [
        Violation("torn", "CAST-3", 0.01, 1, "msg0.0", f"said {evil}"),
        Violation("disconnected", "LEAVE-1", 0.02, 2, "", evil),
    ]
    names = dict.fromkeys(("why", "scenario", "target"), evil)
    text = page_with(story, found, **names)
    text.encode()  # fails if a surrogate is left
    assert "script" not in Reader(text).names
    assert not re.search("[\x00\x1b\u202e]", text)
    assert visible(evil)[:12] in Reader(text).text


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    text = page_of(classroom(), tmp_path)
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    for loads in ("http:", "https:", "//", "url(", "@import", "<link", "<img", "src="):
        assert loads not in text


def test_a_long_run_is_drawn_with_few_points() -> None:
    story = classroom(3, 5000, 40_000.0)
    text = page_with(story, [])
    lines = re.findall(r'points="([^"]*)"', text)
    assert lines
    assert max(len(line.split()) for line in lines) <= BINS + 1
    assert len(text) < 200_000


def test_the_length_of_a_page_is_limited() -> None:
    story = classroom()
    found = [
        Violation(
            kind,
            "CAST-1",
            number / 10,
            number % 12,
            f"msg{number % 12}.1",
            f"no {number}",
            f"{number}",
        )
        for kind in KINDS
        for number in range(50)
    ]
    text = page_with(story, found)
    assert len(text) < 500_000
    assert text.count("<h3") == page.TIMELINES
    assert "more are in results.json" in text


@given(floats(1, 1e6))
def test_the_number_of_bins_of_a_run_is_limited(until: float) -> None:
    assert until / size_of_bins(until) <= BINS


def test_a_run_is_shown_until_its_last_event() -> None:
    story = Story(1)
    story.t = 7.0
    story.what(0, "leaves", how="close")
    story.t = 20.0
    story.add(costs={})
    assert span(story.events) == pytest.approx(7.001)
    assert span([]) == 1.0


def test_labels_do_not_overlap_and_rare_ones_come_first() -> None:
    kills = [(second / 2, second / 2, "kill-worker") for second in range(20)]
    shown = labels([(0.0, 10.0, "calm")], [*kills, (4.6, 4.6, "hangup")], 10.0)
    assert [label.text for label in shown][:2] == ["calm", "hangup"]
    assert 5 < len(shown) < len(kills)
    places = sorted((label.x, label.x + LETTER * len(label.text)) for label in shown)
    assert all(end < begin for (_, end), (begin, _) in pairwise(places))
    assert places[-1][1] <= WIDTH
    (last,) = labels([], [(9.9, 9.9, "hangup")], 10.0)
    assert last.x + LETTER * len(last.text) <= WIDTH


def test_the_strip_has_a_row_for_each_kind() -> None:
    faults = [(1.0, 1.0, "hangup"), (2.0, 3.0, "stop"), (5.0, 6.0, "stop")]
    rows = strip(faults, [(2.0, "lost", "it is lost")], 10.0)
    assert [row.name for row in rows] == ["hangup × 1", "stop × 2", "violations"]
    assert [len(row.marks) for row in rows] == [1, 2, 1]
    assert rows[0].marks[0].width > 0  # the mark of a single moment is visible


# --- charts --------------------------------------------------------------------------------------


@given(floats(0.01, 1e6), integers(2, 10))
def test_steps_begin_at_zero_and_stay_within_the_range(most: float, count: int) -> None:
    found = steps(most, count)
    assert found[0] == 0
    assert found[-1] <= most * (1 + 1e-6)
    assert len(found) <= count + 1


def test_numbers_are_short() -> None:
    assert [short(value) for value in (0.5, 20, 1000, 2_500_000)] == ["0.5", "20", "1 k", "2.5 M"]


@pytest.mark.parametrize("log", [False, True])
def test_a_scale_maps_its_range_to_its_places(log: bool) -> None:
    scale = Scale(1, 100, 0, 50, log=log)
    assert (scale(1), scale(100)) == (0, 50)
    assert scale(10) == (25 if log else pytest.approx(4.5))


def test_a_chart_has_its_lines_and_marks() -> None:
    points = [(second + 0.5, float(second)) for second in range(10)]
    chart = over_time("t", "u", [("a", "sends", points)], 10, [(-1, 5, "band", "m")])
    (line,) = chart.lines
    assert line.places.split()[0] == "110.0,144.0"
    assert len(line.places.split()) == 10
    (mark,) = chart.marks
    assert (mark.at, mark.width) == (64, 460)


def test_a_sample_of_the_ranks_and_all_of_the_last_ranks_are_drawn() -> None:
    found = ranks(100_000)
    assert found[0] == 0
    assert found[-3:] == [99_997, 99_998, 99_999]
    assert len(found) < 1000
    assert found == sorted(set(found))


def test_a_tail_without_values_can_be_drawn() -> None:
    assert [line.places for line in tail("t", "u", [("a", "sends", [])]).lines] == [""]
