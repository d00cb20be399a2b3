"""Latencies by a schedule that does not wait."""

import pytest

from harness.bench.paced import TRUSTED, UNSEEN, figures


def test_percentiles_are_of_all_and_in_milliseconds() -> None:
    found = figures([number / 1000 for number in range(1, 1001)], [0.0])
    assert (found["p50"], found["p99"], found["max"]) == pytest.approx((500, 990, 1000))


@pytest.mark.parametrize(
    ("late", "trusted"),
    [
        (UNSEEN * 0.9, 1.0),
        (UNSEEN * 1.1, 0.0),
    ],
)
def test_a_load_that_was_late_is_not_to_be_trusted(late: float, trusted: float) -> None:
    assert figures([0.001], [late / 1000])["trusted"] == trusted
    assert figures([1.1 * late / TRUSTED / 1000], [late / 1000])["trusted"] == 1.0
