"""The results of a run as lines: a server's bytes never reach the terminal as they are."""

from dataclasses import replace

import pytest

from harness.clauses import Clause
from harness.conformance.plugin import FAIL, PASS, Result
from harness.conformance.verdicts import Rules, Verdict, judge
from harness.report.terminal import STYLES, as_text, describe, last_words, plain, summary, visible

CLAUSES = {
    "CAST-1": Clause("CAST-1", "MUST", "Broadcast", "It arrives."),
    "CAST-5": Clause("CAST-5", "SHOULD", "Broadcast", "In one order."),
}
EVIL = "\x1b]0;gotcha\x07\r\u202e\u2028"
BROKEN = Result(
    "test_it",
    "CAST-1",
    "proved",
    FAIL,
    f"B did not receive the expected text{EVIL}",
    expected=b"due\n".hex(),
    actual=("came" + EVIL).encode().hex() + "ff",
    output=f"Traceback\nthe last word{EVIL}\n",
    wire=[
        (0.5, "A", "sends", b"due\n".hex(), 4),
        (0.6, "B", "receives", EVIL.encode().hex(), 99999),
        (0.7, "B", "closes", "", 0),
    ],
)
PASSED = Result("test_order", "CAST-5", "observed", PASS)


def judged(*results: Result, rules: Rules | None = None) -> Verdict:
    return judge(CLAUSES, results, rules or Rules())


def test_a_failure_is_shown_with_all_details() -> None:
    shown = plain(summary(judged(BROKEN, PASSED)))
    for part in (
        "CAST-1  MUST    fail     -         B did not receive the expected text",
        "CAST-5  SHOULD  pass     observed",
        "CAST-1 MUST  It arrives.",
        'expected "due\\n"',
        "64 75 65 0a",
        'actual   "came\\x1b',
        "wire       0.5000  A sends",
        "of 99,999 bytes",
        "the last word\\x1b",
        "FAIL: 1 passed, 1 failed",
    ):
        assert part in shown


def test_bytes_of_a_server_never_reach_the_terminal_unescaped() -> None:
    shown = plain(summary(judged(BROKEN, PASSED)))
    assert all(line.isprintable() for line in shown.split("\n"))


def test_no_line_ends_in_blanks() -> None:
    shown = plain(summary(judged(BROKEN, PASSED)))
    assert all(line == line.rstrip() for line in shown.split("\n"))


def test_every_style_has_a_meaning() -> None:
    for line in summary(judged(BROKEN, PASSED, rules=Rules(known=("CAST-5", "X-1")))):
        assert {style for _, style in line} <= STYLES.keys()


def test_failures_that_are_not_counted_are_shown() -> None:
    shown = plain(summary(judged(BROKEN, PASSED, rules=Rules(known=("CAST-1",)))))
    assert "not counted: B did" in shown
    assert shown.endswith("PASS: 1 passed, 1 failed, failures not counted: 1\n")
    assert "CAST-1 MUST  It arrives.\n  not counted\n" in shown
    assert "\nbroken, but not counted: CAST-1\n" in shown


def test_broken_clauses_are_listed_again_at_the_end() -> None:
    shown = plain(summary(judged(BROKEN, replace(PASSED, verdict=FAIL))))
    end = "broken: CAST-1\nbroken, but not counted: CAST-5\nFAIL: 2 failed, failures not counted: 1"
    assert end in shown


def test_bytes_are_shown_in_lines_of_sixteen() -> None:
    long = replace(BROKEN, expected=bytes(range(20)).hex(), actual="")
    shown = plain(summary(judged(long)))
    first = "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f"
    assert f"\n             {first}\n             10 11 12 13\n" in shown
    assert '    actual   ""\n    wire' in shown


def test_an_event_fits_into_a_line() -> None:
    shown = describe((12.5, "A", "receives", b"x".hex() * 999, 999))
    assert len(shown) < 110
    assert shown.endswith('x" … of 999 bytes')


def test_empty_lines_of_the_output_are_left_out() -> None:
    assert last_words("one\n\n  \ntwo\n\nthree\n", 2) == ["two", "three"]


def test_the_reason_of_an_invalid_run_is_shown() -> None:
    shown = plain(summary(judge(CLAUSES, [PASSED], Rules(), ["a worker died\x07"])))
    assert "invalid: a worker died\\x07" in shown
    assert "INVALID: 1 passed, 1 not run" in shown


def test_known_failures_that_no_longer_fail_are_shown() -> None:
    shown = plain(summary(judged(BROKEN, PASSED, rules=Rules(known=("CAST-5",)))))
    assert "known failure CAST-5: the clause no longer fails" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grüße 😀 \u200b", "grüße 😀 \\u200b"),
        ("\x00\x85\x1b[1m\n", "\\x00\\x85\\x1b[1m\\n"),
        ("\udc80", "\\udc80"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert as_text(b"a\xff\xc3\xa9\r") == "a\\xffé\\r"


def test_an_event_without_bytes() -> None:
    assert describe((12.5, "A", "closes its side", "", 0)) == " 12.5000  A closes its side"


def test_only_the_selected_clauses_are_shown() -> None:
    shown = plain(summary(judged(PASSED), {"CAST-5"}))
    assert "CAST-1" not in shown
    assert shown.endswith("PASS: 1 passed\n")
