"""The progress of a run: a bar on a terminal, and lines in other output."""

import io

from harness.conformance.plugin import CANNOT_JUDGE, FAIL, PASS, Result
from harness.conformance.runner import Check
from harness.report.progress import progress

FOUND = [
    Result("test_it", "CAST-1", "proved", FAIL),
    Result("test_it", "CAST-2", "proved", PASS),
    Result("test_it", "CAST-2", "proved", CANNOT_JUDGE),
    Result("test_it", "LINE-1", "proved", PASS),
]
CHECKS = [Check(result.test, result.clause, result.evidence, "") for result in FOUND]


def test_a_section_is_printed_when_all_its_results_are_known() -> None:
    stream = io.StringIO()
    with progress(CHECKS, stream) as heard:
        for result in FOUND[:2]:
            heard(result)
        assert stream.getvalue() == ""
        heard(FOUND[2])
        assert stream.getvalue() == "Broadcast: 1 pass, 1 fail, 1 could-not-judge\n"
        heard(FOUND[3])
    assert stream.getvalue().endswith("\nMessages: 1 pass\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_counts_the_verdicts_so_far() -> None:
    stream = Terminal()
    with progress(CHECKS, stream) as heard:
        for result in FOUND:
            heard(result)
    assert "2 pass, 1 fail, 1 could-not-judge; LINE-1 pass" in stream.getvalue()
