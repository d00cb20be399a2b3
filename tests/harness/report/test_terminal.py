"""The results of a run as lines of text, in which a server's bytes are escaped."""

from dataclasses import replace

from harness.clauses import Clause
from harness.conformance.plugin import FAIL, PASS, Result
from harness.conformance.verdicts import Rules, Verdict, judge
from harness.report.terminal import STYLES, last_lines, plain, summary

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
    expected=b"due".hex(),
    actual=("came" + EVIL).encode().hex() + "ff",
    output=f"Traceback\nthe last word{EVIL}\n",
    cause="It was lost.",
    wire=[
        (0.5, "A", "sends", b"du\n".hex(), 3),
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
        "CAST-1  MUST    fail     -\n",
        "CAST-5  SHOULD  pass     observed",
        "observed: the event that the clause requires has occurred",
        "CAST-1 MUST  It arrives.",
        "  B did not receive the expected text",
        "  Usual cause: It was lost.",
        'expected "due"',
        'received "came\\x1b',
        'wire         0.5000  A → server     "du\\n"',
        "of 99,999 bytes",
        "the last word\\x1b",
        "broken: CAST-1 MUST      B did not receive the expected text",
        "FAIL: 1 passed, 1 failed",
    ):
        assert part in shown


def test_bytes_of_a_server_never_reach_the_terminal_unescaped() -> None:
    shown = plain(summary(judged(BROKEN, PASSED)))
    assert all(line.isprintable() for line in shown.split("\n"))


def test_no_line_ends_in_blanks() -> None:
    shown = plain(summary(judged(BROKEN, PASSED)))
    assert all(line == line.rstrip() for line in shown.split("\n"))


def test_every_style_that_is_used_is_defined() -> None:
    for line in summary(judged(BROKEN, PASSED, rules=Rules(known=("CAST-5", "X-1")))):
        assert {style for _, style in line} <= STYLES.keys()


def test_failures_that_are_not_counted_are_shown() -> None:
    shown = plain(summary(judged(BROKEN, PASSED, rules=Rules(known=("CAST-1",)))))
    assert "CAST-1  MUST    fail     -         not counted\n" in shown
    assert shown.endswith("PASS: 1 passed, 1 failed, failures not counted: 1\n")
    assert "CAST-1 MUST  It arrives.\n  not counted\n" in shown
    assert "\nbroken, but not counted: CAST-1\n" in shown


def test_broken_clauses_are_listed_again_at_the_end() -> None:
    shown = plain(summary(judged(BROKEN, replace(PASSED, verdict=FAIL))))
    assert "\nbroken: CAST-1 MUST " in shown
    end = "\nbroken, but not counted: CAST-5\nFAIL: 2 failed, failures not counted: 1\n"
    assert shown.endswith(end)


def test_the_difference_of_two_texts_is_marked() -> None:
    long = replace(BROKEN, expected=b"one two".hex(), actual=b"one\ttwo".hex())
    shown = plain(summary(judged(long)))
    assert (
        '    expected "one two"\n'
        "                 ^ 20\n"
        '    received "one\\ttwo"\n'
        "                 ^^ 09\n"
        "    differ   from byte 4 on (7 bytes)\n" in shown
    )


def test_the_expected_text_is_left_out_if_nothing_was_received() -> None:
    told = replace(BROKEN, expected=b"du".hex(), actual=b"".hex())
    assert (
        "expected" not in plain(summary(judged(told))).partition("wire")[0].partition("test_it")[2]
    )


def test_a_crash_is_shown_instead_of_the_last_lines() -> None:
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1\nKeyError: 1\n'
    shown = plain(summary(judged(replace(BROKEN, output=trace + "bye\n"))))
    assert "    crash    Traceback (most recent call last):\n" in shown
    assert "             KeyError: 1\n" in shown
    assert "bye" not in shown


def test_must_clauses_come_first() -> None:
    clauses = {"CAST-5": CLAUSES["CAST-5"], "CAST-1": CLAUSES["CAST-1"]}
    rules = Rules(claims=frozenset({"CAST-5"}))
    shown = plain(summary(judge(clauses, [replace(PASSED, verdict=FAIL), BROKEN], rules)))
    assert shown.index("CAST-1 MUST  It") < shown.index("CAST-5 SHOULD  In one order.")
    assert shown.index("broken: CAST-1 MUST ") < shown.index("broken: CAST-5 SHOULD")


def test_the_dialect_that_was_judged_is_shown() -> None:
    rules = Rules(forms={"CAST-1": "Each once, by name."})
    verdict = judged(replace(BROKEN, verdict=PASS), PASSED, rules=rules)
    shown = plain(summary(verdict, None, ["a login", "an echo\x07"]))
    assert "\ndialect: a login; an echo\\x07\n" in shown
    assert "in the dialect's form\n" in shown
    assert shown.endswith("PASS in the dialect: 2 passed\n")
    broken = plain(summary(judged(BROKEN, rules=rules)))
    assert "\n  in the dialect: Each once, by name.\n" in broken


def test_empty_lines_of_the_output_are_left_out() -> None:
    assert last_lines("one\n\n  \ntwo\n\nthree\n", 2) == ["two", "three"]


def test_the_reason_of_an_invalid_run_is_shown() -> None:
    shown = plain(summary(judge(CLAUSES, [PASSED], Rules(), ["a worker died\x07"])))
    assert "invalid: a worker died\\x07" in shown
    assert "INVALID: 1 passed, 1 not run" in shown


def test_known_failures_that_no_longer_fail_are_shown() -> None:
    shown = plain(summary(judged(BROKEN, PASSED, rules=Rules(known=("CAST-5",)))))
    assert "known failure CAST-5: the clause no longer fails" in shown


def test_only_the_selected_clauses_are_shown() -> None:
    shown = plain(summary(judged(PASSED), {"CAST-5"}))
    assert "CAST-1" not in shown
    assert shown.endswith("PASS: 1 passed\n")
