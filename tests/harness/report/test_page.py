"""HTML pages: a server's bytes are shown as text, and the pages load no other files."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from harness.clauses import Clause, all_clauses
from harness.conformance.plugin import FAIL, PASS, Result
from harness.conformance.verdicts import Rules, judge
from harness.report import page
from harness.report.matrix import Row
from harness.wording import visible

EVIL = "</pre><script>alert(1)</script>\x1b[1m"
ABOUT = {"target": {"command": f"server {EVIL}"}, "profile": "p", "seed": 7}
VOID = {"meta"}


class Reader(HTMLParser):
    """A parser that checks how elements are nested, and collects their names, ids and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.opened: list[bool] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "src"):
                self.links.append(value or "")
        if tag == "details":
            self.opened.append("open" in dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def failed(events: int = 3) -> Result:
    data = EVIL.encode().hex()
    wire = [(number / 10, EVIL, "sends", data, 999) for number in range(events)]
    return Result(
        f"test_it[{EVIL}]",
        "CAST-1",
        "proved",
        FAIL,
        f"lost {EVIL}",
        expected=data,
        actual="",
        output=EVIL,
        wire=wire,
    )


def made(*results: Result) -> Reader:
    verdict = judge(all_clauses(), results, Rules(known=(EVIL,)), [EVIL])
    return Reader(page.report(verdict, ABOUT, {"test_it": EVIL}))


def test_a_server_s_bytes_do_not_become_markup() -> None:
    read = made(failed(), Result("test_it", "CAST-2", "proved", PASS))
    assert "script" not in read.names
    assert "alert(1)" in read.text
    assert "\x1b" not in read.text


def test_each_link_leads_to_an_id_on_the_page() -> None:
    read = made(failed())
    assert read.links
    assert {link[0] for link in read.links} == {"#"}
    assert {link[1:] for link in read.links} <= set(read.ids)
    assert len(set(read.ids)) == len(read.ids)
    assert "wire-CAST-1-1" in read.ids


def test_the_pages_load_nothing() -> None:
    verdict = judge(all_clauses(), [failed()], Rules())
    for text in (page.report(verdict, ABOUT, {}), page.matrix([], [], [])):
        assert "default-src 'none'; style-src 'unsafe-inline'" in text
        for loads in ("http:", "https:", "//", "url(", "@import", "<link", "<img", "src="):
            assert loads not in text


def test_the_verdict_comes_first_and_links_to_broken_clauses() -> None:
    read = made(failed(), Result("test_it", "CAST-5", "observed", FAIL))
    head = read.text.partition("Clauses")[0]
    assert "What to correct" in head
    assert "CAST-1 MUST lost" in head
    assert "broken, but not counted: CAST-5\n" in head
    assert read.links[:2] == ["#CAST-1", "#CAST-5"]


def test_a_failure_is_visible_without_opening_anything() -> None:
    read = made(replace(failed(), cause="It was lost.", expected=b"one".hex()))
    assert f"lost {visible(EVIL)}" in read.text
    assert "Usual cause: It was lost." in read.text
    assert '0.1000</pre><script>alert(1)</script>\\x1b[1m → server"' in read.text
    assert read.opened == [False, False, False]  # the output, the bytes, the wire log


def test_a_crash_is_visible_without_opening_anything() -> None:
    trace = "Traceback (most recent call last):\n  File\nKeyError: 1\n"
    read = made(replace(failed(), output=trace))
    assert "the server’s crashTraceback (most recent call last):\n  File\nKeyError: 1" in read.text
    assert read.opened[0]


def test_the_difference_of_two_texts_is_marked() -> None:
    made_of = replace(failed(), expected=b"one two".hex(), actual=b"one\ttwo".hex())
    read = made(made_of)
    assert "mark" in read.names
    assert "They differ from byte 4 on (7 bytes)." in read.text


def test_broken_clauses_come_before_the_others_and_must_clauses_first() -> None:
    read = made(Result("test_it", "JOIN-4", "proved", FAIL), failed())
    ids = [name for name in read.ids if name in all_clauses()]
    assert ids[:3] == ["CAST-1", "JOIN-4", "JOIN-1"]


def test_an_option_that_was_not_given_is_not_shown() -> None:
    verdict = judge(all_clauses(), [failed()], Rules())
    read = Reader(page.report(verdict, {**ABOUT, "ws": None}, {}))
    assert "profile p, seed 7" in read.text
    assert "None" not in read.text


def test_the_dialect_and_the_kinds_of_evidence_are_explained() -> None:
    rules = Rules(forms={"CAST-2": "Once, by name."})
    verdict = judge(all_clauses(), [Result("test_it", "CAST-2", "proved", PASS)], rules)
    read = Reader(page.report(verdict, {**ABOUT, "dialect": ["a login", EVIL]}, {}))
    assert "PASS in the dialect" in read.text
    assert "judged in the dialect of the profile: a login; </pre>" in read.text
    assert "in the dialect: Once, by name." in read.text
    assert "a later message of the same sender has arrived" in read.text


def test_every_wire_log_is_linked() -> None:
    read = made(failed(), failed())
    assert {"#wire-CAST-1-1", "#wire-CAST-1-2"} <= set(read.links)


def test_clauses_that_were_not_run_are_not_counted_as_undecided() -> None:
    read = made(failed())
    assert f"1 failed, {len(all_clauses()) - 1} not run" in read.text


@pytest.mark.parametrize("scheme", [0, 1])
def test_all_colours_of_text_have_enough_contrast(scheme: int) -> None:
    rules = re.findall(r":root \{([^}]*)\}", page.matrix([], [], []))
    colours = dict(re.findall(r"--(\w+): #(\w+);", rules[scheme]))
    for name in colours.keys() - {"ground", "soft", "line"}:
        for behind in ("ground", "soft"):
            bright, dark = sorted(map(luminance, (colours[name], colours[behind])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (name, behind)  # WCAG 2, AA


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    digits = "".join(2 * digit for digit in colour) if len(colour) == 3 else colour
    parts = [part / 255 for part in bytes.fromhex(digits)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_clause_is_on_the_page() -> None:
    read = made(failed())
    for clause in all_clauses().values():
        assert clause.id in read.ids
        assert clause.text in read.text


def test_a_long_log_is_cut_in_its_middle() -> None:
    read = made(failed(events=page.EVENTS_OF_A_FAILURE + 11))
    assert "… 11 events …" in read.text
    assert f"wire log and timeline: {page.EVENTS_OF_A_FAILURE + 11} events" in read.text


def test_a_timeline_has_a_lane_for_each_client_and_a_dot_for_each_event() -> None:
    drawn = page.timeline(
        [
            (1.0, "A", "connects", "", 9),
            (1.5, "A", "sends", "00", 1),
            (3.0, "B", "receives", "00", 1),
        ]
    )
    assert drawn
    assert [lane.name for lane in drawn.lanes] == ["A", "B"]
    assert [dot.kind for dot in drawn.dots] == ["other", "sends", "receives"]
    first, second, third = (dot.x for dot in drawn.dots)
    assert 3 * (second - first) - (third - second) < 1
    assert (drawn.begin, drawn.end) == ("1.000 s", "3.000 s")


def test_a_long_pause_is_shortened() -> None:
    times = [0.0, 0.1, 0.2, 0.3, 99.0]
    drawn = page.timeline([(time, "A", "sends", "", 0) for time in times])
    assert drawn
    places = [dot.x for dot in drawn.dots]
    assert places == sorted(places)
    assert places[3] - places[0] > (places[4] - places[0]) / 5


def test_the_number_of_lanes_is_limited() -> None:
    crowd = [(1.0, f"C{number}", "connects", "", 0) for number in range(page.LANES + 5)]
    drawn = page.timeline(crowd)
    assert drawn
    assert (len(drawn.lanes), drawn.left_out) == (page.LANES, 5)
    assert page.timeline([]) is None


def test_the_page_of_a_matrix_escapes_its_cells() -> None:
    clause = Clause("CAST-1", "MUST", "Broadcast", "")
    cell = {"verdict": "fail", "evidence": None, "detail": EVIL}
    row = Row(clause.id, clause.level, [cell, None])
    read = Reader(page.matrix([EVIL, "other"], ["fail", "pass"], [row]))
    assert "script" not in read.names
    assert "CAST-1" in read.text
