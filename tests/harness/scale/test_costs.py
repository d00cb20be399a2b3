"""The fit of the costs to measured processor times."""

import random

import pytest

from harness.scale.costs import Costs, fit, least_squares


def test_least_squares_find_the_coefficients() -> None:
    chance = random.Random(1)
    rows = [[chance.random() for _ in range(3)] for _ in range(9)]
    values = [2 * a + 0.5 * b + 7 * c for a, b, c in rows]
    assert least_squares(rows, values) == pytest.approx([2, 0.5, 7])


def test_no_cost_is_negative() -> None:
    assert least_squares([[1.0, 0.0], [1.0, 1.0]], [2.0, 1.0]) == pytest.approx([1.5, 0.0])


def test_a_fit_keeps_the_other_costs() -> None:
    true = Costs(turn=30e-6, send=6e-6, read=4e-6)
    samples = []
    for turns, sends, reads in ((1, 9, 1), (1, 99, 1), (0.1, 2, 1), (0.5, 2, 3)):
        counts = {"turn": turns, "send": sends, "read": reads}
        samples.append((counts, true.of(counts, ("turn", "send", "read"))))
    found = fit(Costs(read=4e-6, store=1.0), ("turn", "send"), samples)
    assert (found.turn, found.send) == pytest.approx((30e-6, 6e-6))
    assert (found.read, found.store) == (4e-6, 1.0)
