"""The report's page, and what is drawn on it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers

from harness.charts import Scale, over_time, ranks, short, steps, tail
from harness.profile import load
from harness.simulation.history import COMPLETE, History
from harness.simulation.outcome import judged
from tests.harness.simulation.test_checkers import Story


def page_of(story: Story, tmp_path: Path, **header: Any) -> str:
    about = {"history": 1, "scenario": "s", "seed": 1, "target": "t", "seconds": 3.0, **header}
    judged(History(about, story.events, COMPLETE), load("chatroom")).write(tmp_path)
    return (tmp_path / "report.html").read_text()


def test_a_page_of_a_run_that_passed(tmp_path: Path) -> None:
    story = Story(3)
    for number in range(20):
        story.t += 0.3
        story.say(f"0.{number}")
        story.all_hear(f"0.{number}")
    story.fault("kill-worker", processes=[1])
    story.fault("stop", processes=[1])
    story.t += 1
    story.fault("stop", "ends", processes=[1])
    for cpu in (1.0, 2.0, 4.0):
        story.t += 1
        story.add(costs={"memory": 5 << 20, "descriptors": 7, "cpu": cpu})
    page = page_of(story, tmp_path, phases=[["rush", 2.0]])
    assert '<header class="pass">' in page
    assert page.count("<svg") == 6
    assert "kill-worker at " in page
    assert "stop, " in page
    assert ">rush</text>" in page
    assert "<script" not in page


def test_a_page_of_a_run_that_failed_shows_what_was_around(tmp_path: Path) -> None:
    story = Story(3)
    story.say("0.0", b"\x1b[2J<script>alert(1)</script>")
    story.hear(1, "0.0")
    page = page_of(story, tmp_path)
    assert '<header class="fail">' in page
    assert 'href="#violation-1"' in page
    assert 'id="violation-1"' in page
    assert '<tr class="it">' in page
    assert "<script" not in page
    assert "\x1b" not in page


def test_a_page_of_a_run_in_which_nothing_happened(tmp_path: Path) -> None:
    page = page_of(Story(1), tmp_path)
    assert '<header class="unknown">' in page
    assert "<svg" not in page


# --- charts --------------------------------------------------------------------------------------


@given(floats(0.01, 1e6), integers(2, 10))
def test_steps_are_round_and_within(most: float, count: int) -> None:
    found = steps(most, count)
    assert found[0] == 0
    assert found[-1] <= most * (1 + 1e-6)
    assert len(found) <= count + 1


def test_numbers_are_short() -> None:
    assert [short(value) for value in (0.5, 20, 1000, 2_500_000)] == ["0.5", "20", "1 k", "2.5 M"]


@pytest.mark.parametrize("log", [False, True])
def test_a_scale_goes_from_end_to_end(log: bool) -> None:
    scale = Scale(1, 100, 0, 50, log=log)
    assert (scale(1), scale(100)) == (0, 50)
    assert scale(10) == (25 if log else pytest.approx(4.5))


def test_a_chart_has_its_lines_and_marks_within() -> None:
    points = [(second + 0.5, float(second)) for second in range(10)]
    chart = over_time("t", "u", [("a", "says", points)], 10, [(-1, 5, "band", "m")])
    (line,) = chart.lines
    assert line.places.split()[0] == "110.0,144.0"
    assert len(line.places.split()) == 10
    (mark,) = chart.marks
    assert (mark.at, mark.width) == (64, 460)


def test_few_of_many_are_drawn_and_all_of_the_last() -> None:
    found = ranks(100_000)
    assert found[0] == 0
    assert found[-3:] == [99_997, 99_998, 99_999]
    assert len(found) < 1000
    assert found == sorted(set(found))


def test_a_tail_of_nothing_can_be_drawn() -> None:
    assert [line.places for line in tail("t", "u", [("a", "says", [])]).lines] == [""]
