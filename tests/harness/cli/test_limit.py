"""The command `limit`: the search for the highest load, and its output."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import floats

from harness.cli.limit import (
    CLOSE,
    HARNESS,
    HELD,
    SERVER,
    Limit,
    Step,
    conclusion,
    described,
    judged,
    scenario_of,
    search,
)
from harness.simulation.scenario.plan import plan


def step(messages: float, outcome: str = HELD) -> Step:
    return Step(10, messages, outcome, 5.0, "" if outcome == HELD else "it was too slow")


def up_to(limit: float, outcome: str = SERVER) -> Callable[[float], Step]:
    return lambda messages: step(messages, HELD if messages <= limit else outcome)


@given(floats(16, 500_000))
def test_the_limit_is_found_to_within_a_tenth(limit: float) -> None:
    found = search(up_to(limit))
    assert found.held is not None
    assert found.stopped is not None
    assert found.held.messages <= limit < found.stopped.messages <= found.held.messages * CLOSE


def test_a_search_ends_when_the_lowest_load_fails_twice() -> None:
    tried: list[float] = []

    def attempt(messages: float) -> Step:
        tried.append(messages)
        return step(messages, SERVER)

    assert search(attempt, 16) == Limit(None, step(16, SERVER))
    assert tried == [16, 16]


def test_a_single_failure_of_the_harness_is_not_the_limit() -> None:
    failed: list[float] = []

    def attempt(messages: float) -> Step:
        if messages == 64 and not failed:
            failed.append(messages)
            return step(messages, HARNESS)
        return up_to(1000)(messages)

    found = search(attempt)
    assert failed == [64]
    assert found.held is not None
    assert found.held.messages > 900


def test_a_search_ends_at_the_highest_permitted_load() -> None:
    found = search(up_to(1e9), 16, 100)
    assert found == Limit(step(64), None)


def test_all_clients_join_before_the_first_message_is_due() -> None:
    scenario = scenario_of(50, 200, 10)
    assert scenario.clients == 50
    begin = scenario.phases[0].seconds
    found = plan(scenario, 1)
    assert all(session.arrives < begin for session in found.sessions)
    says = [say for session in found.sessions for say in session.says if not say.final]
    assert min(say.due for say in says) >= begin
    assert len(says) == pytest.approx(2000, rel=0.15)


def results(verdict: str, p99: float | None = 5.0) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "why": "because",
        "latency_ms": {"corrected": {"last": {"p99": p99}}},
    }


@pytest.mark.parametrize(
    ("found", "outcome", "why"),
    [
        (results("pass"), HELD, ""),
        (results("pass", 100.5), SERVER, "p99 was 100 ms"),
        (results("fail"), SERVER, "because"),
        (results("unknown", None), SERVER, "because"),
        (results("invalid"), HARNESS, "because"),
    ],
)
def test_a_load_is_judged_by_its_results(found: dict[str, Any], outcome: str, why: str) -> None:
    judgement = judged(found, 10, 20.0, 100)
    assert (judgement.outcome, judgement.why) == (outcome, why)
    assert (judgement.clients, judgement.messages) == (10, 20.0)


def test_the_output_names_the_held_load_and_what_stopped_it() -> None:
    assert described(step(1000)) == "1,000 messages/s, 9,000 deliveries/s: held, p99 5.0 ms"
    assert (
        described(step(10, HARNESS))
        == "10 messages/s, 90 deliveries/s: not held because of the harness: it was too slow"
    )
    assert conclusion(Limit(step(1000), step(1100, SERVER))) == (
        "limit: 10 clients × 100 messages/s = 1,000 messages/s, 9,000 deliveries/s: held, "
        "p99 5.0 ms\n"
        "stopped at 1,100 messages/s, 9,900 deliveries/s: "
        "not held because of the server: it was too slow"
    )
    assert conclusion(Limit(None, None)) == "no load was held"
