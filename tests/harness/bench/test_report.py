"""Medians, ratios and tables of the results of a benchmark."""

import pytest

from harness.bench import report
from harness.bench.trial import FAILED, MEASURED, NOT_INSTALLED, NOT_STARTED, Result


def measured(server: str, repetition: int, rate: float, workload: str = "crowd 9") -> Result:
    figures = {"rate": rate, "busy": rate / 1e6, "cpu_per_message": 10 / rate}
    return Result(workload, server, repetition, MEASURED, figures=figures)


def failed(server: str, repetition: int, status: str = FAILED, reason: str = "deaf") -> Result:
    return Result("crowd 9", server, repetition, status, reason)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0.0123, "0.01"),
        (9.99, "9.99"),
        (9.996, "10.0"),
        (99.96, "100"),
        (950, "950"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (21_340, "21.3 k"),
        (765_400, "765 k"),
        (999_600, "1.00 M"),
        (15_940_000, "15.9 M"),
    ],
)
def test_numbers_have_three_digits(number: float, shown: str) -> None:
    assert report.human(number) == shown


def test_the_ratio_is_taken_within_each_repetition() -> None:
    results = [
        *(measured("a", n, rate) for n, rate in enumerate([100, 10, 400])),
        *(measured("b", n, rate) for n, rate in enumerate([50, 10, 100])),
    ]
    # The ratios are 2, 1 and 4.
    assert report.ratio(results, "crowd 9", "a", "b") == 2
    results[0] = measured("a", 0, 1000)
    assert report.ratio(results, "crowd 9", "a", "b") == 4  # the ratio of the medians is 8


def test_the_ratio_needs_both_servers_in_one_repetition() -> None:
    results = [measured("a", 0, 100), failed("b", 0), failed("a", 1), measured("b", 1, 10)]
    assert report.ratio(results, "crowd 9", "a", "b") is None
    results += [measured("a", 2, 30), measured("b", 2, 10)]
    assert report.ratio(results, "crowd 9", "a", "b") == 3


def test_the_table_of_speeds_has_medians_ranges_costs_and_ratios() -> None:
    results = [
        measured("ours", 0, 4_000_000),
        measured("theirs", 0, 100_000),
        measured("ours", 1, 6_000_000),
        measured("theirs", 1, 200_000),
    ]
    for result in results[1::2]:
        del result.figures["cpu_per_message"]  # the CPU time is unknown
    assert report.tables(results) == (
        "| workload | server | deliveries/s | lowest to highest | CPU µs/message |        ours is |"
        " load busy |\n"
        "|----------|--------|-------------:|------------------:|---------------:|---------------:|"
        "----------:|\n"
        "| crowd 9  | ours   |       5.00 M |  4.00 M to 6.00 M |           2.08 |                |"
        "      500% |\n"
        "| crowd 9  | theirs |        150 k |    100 k to 200 k |              - | 35.0 × as fast |"
        "       15% |"
    )


def test_the_floor_is_compared_with_each_server() -> None:
    results = [measured("ours", 0, 400), measured("theirs", 0, 100), measured("floor", 0, 1000)]
    rows = [[c.strip() for c in row.split("|")[2:-2]] for row in report.tables(results).split("\n")]
    assert rows[0][4:] == ["ours is", "floor is"]
    assert [row[4:] for row in rows[2:]] == [
        ["", "2.50 × as fast"],
        ["4.00 × as fast", "10.0 × as fast"],
        ["0.40 × as fast", ""],
    ]
    alone = report.tables([measured("floor", 0, 1000), measured("ours", 0, 400)])
    assert alone.count("floor is") == 1


def test_a_failed_server_is_shown_with_the_reason_and_no_figures() -> None:
    results = [
        measured("ours", 0, 500),
        failed("dead", 0, reason="a|b"),
        failed("absent", 0, NOT_INSTALLED, "no program absent"),
        measured("shaky", 0, 500),
        failed("stuck", 0, NOT_STARTED, "said nothing"),
        measured("ours", 1, 500),
        failed("dead", 1, reason="another"),
        failed("absent", 1, NOT_INSTALLED, "no program absent"),
        failed("shaky", 1),
        failed("stuck", 1, NOT_STARTED, "said nothing"),
    ]
    rows = [[c.strip() for c in row.split("|")[2:-1]] for row in report.tables(results).split("\n")]
    assert rows[0][-1] == "note"
    assert rows[2:] == [
        ["ours", "500", "500 to 500", "20000", "", "0%", ""],
        ["dead", "-", "", "", "", "", "failed 2 of 2: a/b"],
        ["absent", "-", "", "", "", "", "not installed (no program absent)"],
        ["shaky", "500", "500 to 500", "20000", "1.00 × as fast", "0%", "failed 1 of 2: deaf"],
        ["stuck", "-", "", "", "", "", "did not start 2 of 2: said nothing"],
    ]


def test_idle_clients_have_a_table_of_their_own() -> None:
    figures = {"first_rate": 5000.0, "last_rate": 4000.0, "block": 1000.0}
    results = [
        measured("ours", 0, 500),
        Result("idle 8000", "ours", 0, MEASURED, "", {**figures, "memory": 2048.0}),
        Result("idle 8000", "theirs", 0, MEASURED, "", figures),
        Result("idle 8000", "dead", 0, FAILED, "deaf"),
    ]
    speed, idle = report.tables(results).split("\n\n")
    assert "idle" not in speed
    rows = [[c.strip() for c in row.split("|")[1:-1]] for row in idle.split("\n")]
    assert rows[2:] == [
        ["idle 8000", "ours", "2.0 KiB", "5.00 k", "4.00 k", "1000", ""],
        ["idle 8000", "theirs", "-", "5.00 k", "4.00 k", "1000", ""],
        ["idle 8000", "dead", "-", "-", "-", "-", "failed: deaf"],
    ]


def test_starts_have_a_table_of_their_own() -> None:
    results = [
        Result("start", "ours", 0, MEASURED, "", {"start": 0.6}),
        measured("ours", 0, 500),
        Result("start", "theirs", 0, NOT_STARTED, "mute"),
        Result("start", "ours", 1, MEASURED, "", {"start": 0.4}),
    ]
    _, start = report.tables(results).split("\n\n")
    rows = [[c.strip() for c in row.split("|")[1:-1]] for row in start.split("\n")]
    assert rows[0] == ["workload", "server", "ready after s", "note"]
    assert rows[2:] == [
        ["start", "ours", "0.500 (0.400 to 0.600)", ""],
        ["start", "theirs", "-", "did not start: mute"],
    ]


def test_each_result_is_summarised_in_one_line() -> None:
    idle = Result("idle 9", "ours", 0, MEASURED, figures={"last_rate": 4000.0})
    assert report.summary(idle) == "idle 9, repetition 1, ours: 4.00 k joins/s at the end"
    assert report.summary(measured("ours", 1, 500)).endswith("2, ours: 500 deliveries/s")
    start = Result("start", "ours", 0, MEASURED, figures={"start": 0.5})
    assert report.summary(start) == "start, repetition 1, ours: ready after 0.500 s"
    assert report.summary(failed("ours", 0)).endswith("ours: failed: deaf")


def test_the_table_of_latencies_at_one_pace_shows_what_the_first_server_adds() -> None:
    def found(server: str, repetition: int, p50: float, p99: float) -> Result:
        values = {"p50": p50, "p99": p99, "max": p99}
        values |= {f"late {name}": 0.0 for name in values}
        figures = {f"{name} at 200/s": value for name, value in values.items()}
        return Result("latency 9", server, repetition, MEASURED, figures=figures | {"rate": 1.0})

    results = [
        found("ours", 0, 2.0, 5.0),
        found("theirs", 0, 0.5, 1.0),
        found("ours", 1, 3.0, 5.0),
        found("theirs", 1, 0.5, 8.0),
        Result("latency 9", "dead", 0, FAILED, "deaf"),
    ]
    rows = [[c.strip() for c in row.split("|")[2:-1]] for row in report.tables(results).split("\n")]
    assert rows[0][1] == "messages"
    assert rows[0][-2:] == ["ours adds ms, p50 and p99", "note"]
    assert [[row[0], row[1], *row[-2:]] for row in rows[2:]] == [
        ["ours", "200/s", "", ""],
        ["theirs", "200/s", "+2.00 and +0.50", ""],
        ["dead", "200/s", "- and -", "failed: deaf"],
    ]
    assert report.summary(results[0]).endswith("p99 5.00 ms")


def test_the_table_of_latencies_marks_untrusted_figures() -> None:
    def found(repetition: int, p99: float, late: float) -> Result:
        values = {"p50": 1.0, "p99": p99, "max": 9.0}
        values |= {"late p50": 0.1, "late p99": late, "late max": late}
        figures = {
            f"{name} at {part}": value for part in ("0.1", "0.5") for name, value in values.items()
        }
        return Result("latency 9", "ours", repetition, MEASURED, figures=figures | {"rate": 1.0})

    shown = report.tables([found(0, 2.0, 0.5), found(1, 4.0, 0.5)])
    assert "3.00 (2.00 to 4.00) |" in shown
    assert "deliveries/s" not in shown
    assert "?" not in shown
    # A lateness of 0.6 ms is too much for a p99 of 3 ms, but not for a maximum of 9 ms.
    doubtful = report.tables([found(0, 2.0, 0.6), found(1, 4.0, 0.6)])
    assert "| 1.00 (1.00 to 1.00) | 3.00 (2.00 to 4.00) ? | 9.00 (9.00 to 9.00) |" in doubtful
    assert report.summary(found(0, 2.0, 0.5)).endswith("p99 2.00 and 2.00 ms")
