"""Latencies, corrected and raw, and other figures of a history."""

import pytest
from hypothesis import given
from hypothesis.strategies import floats, lists

from harness.simulation.history import COMPLETE, VERSION, Event, History
from harness.simulation.judge.facts import MAY_FLUSH
from harness.simulation.judge.figures import Figures, figures, percentiles, rank
from harness.simulation.scenario.vocabulary import numbers_of


def figures_of(*events: Event, populations: str = "ppp") -> Figures:
    joined: list[Event] = [
        {
            "t": 0.0,
            "who": who,
            "what": what,
            "population": populations[who],
            "address": "a",
            "link": None,
        }
        for who in range(3)
        for what in ("connects", "welcomed")
    ]
    return figures(History({"history": VERSION}, [*joined, *events], COMPLETE))


def said(
    name: str, due: float, sent: float, lag: float = 0.0, *, final: bool = False
) -> list[Event]:
    who = numbers_of(name)[0]
    more: Event = {"final": True} if final else {}
    says = {"who": who, "says": name, "due": due, "lag": lag, "text": f"{name}:x"}
    return [
        {"t": due + lag, **says, **more},
        {"t": sent, "who": who, "sent": name, "gap": 0.0},
    ]


def heard(who: int, t: float, *names: object) -> Event:
    return {"t": t, "who": who, "hears": [*names]}


@given(lists(floats(0, 1000), min_size=1))
def test_a_percentile_is_the_smallest_value_that_covers_its_part(values: list[float]) -> None:
    ordered = sorted(values)
    for part in (50.0, 99.0, 99.9, 100.0):
        found = rank(ordered, part)
        assert sum(value <= found for value in values) >= len(values) * part / 100
        assert sum(value < found for value in values) < len(values) * part / 100


def test_percentiles_of_an_empty_list_are_none() -> None:
    assert percentiles([]) == {"p50": None, "p99": None, "p999": None, "max": None}
    assert percentiles([*range(1, 1001)]) == {"p50": 500, "p99": 990, "p999": 999, "max": 1000}


def test_latencies_of_the_first_median_and_last_listener() -> None:
    found = figures_of(
        *said("msg0.0", due=1.0, sent=1.01),
        heard(1, 1.1, "msg0.0"),
        heard(2, 1.3, "msg0.0"),
    )
    at = {name: values["max"] for name, values in found.corrected.items()}
    assert at == {"first": 100.0, "median": 100.0, "last": 300.0}
    assert {name: values["max"] for name, values in found.raw.items()} == {
        "first": 90.0,
        "median": 90.0,
        "last": 290.0,
    }


def test_the_messages_of_each_population_have_their_own_figures() -> None:
    found = figures_of(
        *said("msg0.0", due=1.0, sent=1.0),
        *said("msg1.0", due=2.0, sent=2.0),
        heard(2, 1.1, "msg0.0"),
        heard(1, 1.1, "msg0.0"),
        heard(2, 2.7, "msg1.0"),
        populations="tfs",
    )
    assert {name: values["last"]["max"] for name, values in found.by_population.items()} == {
        "t": 100.0,
        "f": 700.0,
    }


def test_raw_figures_leave_out_messages_due_during_a_delivery() -> None:
    """A stall of 2 s increases one raw latency, and the corrected latencies of all messages that
    were due during the stall."""
    messages = [(n, n / 10) for n in range(100)]
    events: list[Event] = []
    for number, due in messages:
        at = max(due + 0.001, 6.0 if 4.0 <= due < 6.0 else 0.0)
        events += [*said(f"msg0.{number}", due, due), heard(1, at, f"msg0.{number}")]
    found = figures_of(*sorted(events, key=lambda event: event["t"]))
    assert len(found.heard) == 100
    assert len(found.closed_loop) == 81
    assert found.corrected["last"]["max"] == pytest.approx(2000, abs=1)
    assert found.corrected["last"]["p99"] == pytest.approx(1900, abs=1)
    slow = [message for message in found.closed_loop if message.last - message.sent > 0.1]
    assert len(slow) == 1


def test_final_and_unheard_messages_and_faulty_links_do_not_count() -> None:
    """Final messages, messages that no client heard, and clients on faulty links do not count."""
    far: Event = {"t": 0.0, "who": 3, "what": "connects", "population": "p", "link": "slow"}
    found = figures_of(
        {**far, "address": "a"},
        *said("msg0.0", due=1.0, sent=1.0),
        *said("msg0.1", due=1.0, sent=1.0),
        *said("msg0.2", due=1.0, sent=1.0, final=True),
        *said("msg3.0", due=1.0, sent=1.0),
        heard(1, 1.1, "msg0.0", "msg0.2", "msg3.0"),
        heard(3, 9.0, "msg0.0"),
    )
    assert [message.name for message in found.heard] == ["msg0.0"]
    assert found.corrected["last"]["max"] == 100.0


def test_a_line_in_another_dialect_counts_by_its_token() -> None:
    lines = [{"line": line} for line in ("127.0.0.1:5: msg0.0:x", "[10:30.5] msg0.0:x", "what")]
    found = figures_of(*said("msg0.0", 1.0, 1.0), heard(1, 1.2, *lines))
    assert found.corrected["last"]["max"] == 200.0


def test_a_message_received_by_its_sender_does_not_count() -> None:
    found = figures_of(*said("msg0.0", 1.0, 1.0), heard(0, 1.1, "msg0.0"), heard(1, 1.2, "msg0.0"))
    assert found.corrected["first"]["max"] == 200.0


def test_a_message_with_a_changed_text_has_no_latency() -> None:
    found = figures_of(*said("msg0.0", 1.0, 1.0), heard(1, 1.2, {"line": "<a>msg0.0:"}))
    assert (found.heard, found.contradiction) == ([], "")


def test_a_message_received_before_it_was_sent_is_a_contradiction() -> None:
    """After a pause before its LF, a text may arrive before the LF is sent (LINE-5)."""
    says, sent = said("msg0.0", 1.0, 1.0)
    received = heard(1, 0.8, {"line": "<a>msg0.0:x"})
    found = figures_of(says, sent, received)
    assert found.contradiction == "msg0.0 was received 200.0 ms before it was sent"
    found = figures_of(says, {**sent, "gap": MAY_FLUSH}, received)
    assert (found.heard, found.contradiction) == ([], "")


def test_a_receipt_recorded_just_before_the_sending_is_no_contradiction() -> None:
    """The two events may be recorded by different drivers, which do not synchronise."""
    found = figures_of(*said("msg0.0", 1.0, 1.02), heard(1, 1.01, "msg0.0"))
    assert (found.raw["last"]["max"], found.contradiction) == (0.0, "")


def test_the_lag_of_the_harness_has_percentiles() -> None:
    found = figures_of(*said("msg0.0", 1.0, 1.0, lag=0.05), *said("msg0.1", 2.0, 2.0, lag=0.01))
    assert found.lag == {"p50": 10.0, "p99": 50.0, "p999": 50.0, "max": 50.0}


def test_members_faults_and_costs() -> None:
    costs = [
        {"t": t, "costs": {"memory": memory, "descriptors": 5, "cpu": cpu}}
        for t, memory, cpu in ((0.0, 100, 1.0), (1.0, 300, 2.0), (2.0, 200, 4.5))
    ]
    found = figures_of(
        *said("msg0.0", 1.0, 1.0),
        heard(1, 1.9, "msg0.0"),
        heard(2, 2.1, "msg0.0"),
        {"t": 2.2, "fault": "stop", "what": "begins", "processes": []},
        {"t": 2.3, "fault": "stop", "what": "ends", "processes": []},
        {"t": 2.4, "who": 1, "what": "leaves", "how": "close"},
        {"t": 2.5, "who": 4, "what": "connects", "population": "p", "address": "a", "link": None},
        {"t": 2.5, "who": 4, "what": "welcomed"},
        *costs,
    )
    assert (found.sessions, found.most) == (4, 3)
    assert found.faults == {"stop": 1}
    assert found.costs == {
        "cpu_seconds": 3.5,
        "cpu_cores": 1.75,
        "memory_first": 100,
        "memory_last": 200,
        "memory_most": 300,
        "descriptors_first": 5,
        "descriptors_last": 5,
        "descriptors_most": 5,
    }
