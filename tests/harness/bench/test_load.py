"""The figures of the load generator."""

import pytest

from harness.bench.load import Report, message_cost


@pytest.mark.parametrize(
    ("before", "after", "figures"),
    [
        ({1: 5.0, 2: 1.0}, {1: 5.5, 2: 2.0}, {"cpu_per_message": 0.15}),
        ({1: 5.0}, {1: 5.5, 3: 0.5}, {"cpu_per_message": 0.1}),  # 3 is new
        ({1: 5.0, 2: 9.0}, {1: 6.0}, {"cpu_per_message": 0.1}),  # 2 has ended
        ({}, {1: 1.0}, {}),
        ({1: 1.0}, {}, {}),
    ],
)
def test_the_cost_of_a_message_is_the_time_of_all_processes(
    before: dict[int, float], after: dict[int, float], figures: Report
) -> None:
    assert message_cost(before, after, messages=10) == pytest.approx(figures)
