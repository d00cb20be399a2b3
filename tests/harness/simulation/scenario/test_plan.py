"""The plan of a simulation, which is drawn from a scenario and a seed."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis.strategies import integers

from harness.simulation.scenario.plan import CALM, FINALS, Plan, ScheduledFault, Session, plan
from harness.simulation.scenario.scenario import Link, Scenario, load, names, parse
from harness.simulation.scenario.vocabulary import TOKEN, numbers_of


def scenario_of(body: str, seconds: float = 10.0) -> Scenario:
    return parse(f'about = "a"\nseconds = {seconds}\n{body}', "x")


def sessions(body: str, seconds: float = 10.0) -> list[Session]:
    """Return the sessions in the plan of a scenario with one population."""
    return plan(scenario_of(f'[[population]]\nname = "one"\n{body}', seconds), 1).sessions


@pytest.mark.parametrize("name", names())
def test_equal_seeds_give_equal_plans_and_other_seeds_do_not(name: str) -> None:
    scenario = load(name).lasting(3)
    assert plan(scenario, 7) == plan(scenario, 7)
    assert plan(scenario, 7).sessions != plan(scenario, 8).sessions


def test_another_population_does_not_change_the_others() -> None:
    talkers = '[[population]]\nname = "a"\nclients = 3\nrate = 2\nstays = [1, 5]\n'
    more = '[[population]]\nname = "b"\nclients = 2\nrate = 5\n'

    def words(found: Plan) -> list[list[tuple[float, bytes]]]:
        return [
            [(say.due, say.text.partition(b":")[2]) for say in session.says if not say.final]
            for session in found.sessions
            if session.population == "a"
        ]

    assert words(plan(scenario_of(talkers), 1)) == words(plan(scenario_of(talkers + more), 1))


@given(integers(0, 1000))
def test_every_plan_has_valid_sessions_and_messages_in_order(seed: int) -> None:
    found = plan(load("chaos").lasting(6), seed)
    assert [session.number for session in found.sessions] == [*range(len(found.sessions))]
    for before, after in pairwise(found.sessions):
        assert before.arrives <= after.arrives
    addresses: dict[str, list[Session]] = {}
    for session in found.sessions:
        addresses.setdefault(session.address, []).append(session)
        assert session.arrives < 6
        assert session.leaves is None or session.arrives <= session.leaves < 6
        assert session.name
        for number, say in enumerate(session.says):
            assert say.number == number
            token = TOKEN.match(say.text)
            assert token is not None
            assert numbers_of(token[1].decode()) == (session.number, number)
            assert len(say.cuts) == len(say.pauses)
            assert all(0 < cut <= len(say.text) for cut in say.cuts)
            assert say.final or session.arrives <= say.due < (session.leaves or 6)
    assert len({session.name for session in found.sessions}) == len(found.sessions)
    for visits in addresses.values():  # at most one session at a time has an address
        assert {visit.name.rstrip("0123456789") for visit in visits} == {visits[0].name}
        for before, after in pairwise(visits):
            assert before.leaves is not None
            assert before.leaves <= after.arrives


def test_a_client_without_a_rate_sends_only_its_final_message() -> None:
    (session,) = sessions("clients = 1")
    assert [say.final for say in session.says] == [True]


def test_clients_speak_at_their_rate() -> None:
    evenly = sessions('clients = 4\nrate = 5\ntiming = "evenly"', 20)
    for session in evenly:
        gaps = [b.due - a.due for a, b in pairwise(session.says[:-1])]
        assert gaps == pytest.approx([0.2] * 99)
    assert len({round(session.says[0].due, 3) for session in evenly}) == 4, (
        "the clients begin at different times"
    )
    at_random = sessions("clients = 50\nrate = 5", 20)
    assert sum(len(session.says) for session in at_random) == pytest.approx(5000, rel=0.1)


def test_the_messages_of_a_burst_are_due_at_the_same_time() -> None:
    (session,) = sessions("clients = 1\nrate = 1\nburst = 3\n")
    dues = [say.due for say in session.says if not say.final]
    assert dues[::3] == dues[1::3] == dues[2::3]
    assert len(set(dues)) == len(dues) // 3 > 3


def test_the_rate_of_a_phase_multiplies_all_rates() -> None:
    scenario = parse(
        'about = "a"\n[[phase]]\nname = "p"\nseconds = 10\nrate = 0\n'
        '[[phase]]\nname = "q"\nseconds = 10\nrate = 3\n'
        '[[population]]\nname = "a"\nclients = 1\nrate = 1\ntiming = "evenly"\n'
        '[[population]]\nname = "b"\nclients = 1\nphase = "q"\narrives = 0.5\n',
        "x",
    )
    early, late = plan(scenario, 1).sessions
    assert [session.arrives for session in (early, late)] == [0.0, 15.0]
    dues = [say.due for say in early.says[:-1]]
    assert len(dues) == 30
    assert min(dues) >= 10


def test_only_returning_clients_come_back_and_they_keep_their_addresses() -> None:
    leaving = sessions("clients = 3\nstays = [1, 2]")
    assert len(leaving) == 3
    assert all(session.leaves is not None for session in leaving)
    returning = sessions('clients = 3\nstays = [1, 2]\nreturns = true\nleaves = ["reset"]')
    assert len(returning) > 9
    assert len({session.address for session in returning}) == 3
    assert {session.how for session in returning} == {"reset"}


def test_clients_have_their_own_addresses_or_share_some() -> None:
    assert len({session.address for session in sessions("clients = 300")}) == 300
    assert len({session.address for session in sessions("clients = 300\naddresses = 2")}) == 2


def test_messages_are_cut_into_pieces_with_pauses_between_them() -> None:
    (session,) = sessions("clients = 1\nrate = 2\npieces = [2, 4]\npause = [0.1, 0.2]")
    assert {len(say.cuts) for say in session.says[:-1]} <= {1, 2, 3}
    assert all(0.1 <= pause <= 0.2 for say in session.says for pause in say.pauses)


def test_a_message_begins_after_the_previous_one_has_ended() -> None:
    (session,) = sessions("clients = 1\nrate = 50\npieces = 3\npause = [0.1, 0.2]\nburst = 2")
    assert len(session.says) > 20
    for before, after in pairwise(session.says):
        assert before.due + sum(before.pauses) <= after.due


def test_some_remaining_clients_send_final_messages_after_all_faults() -> None:
    found = plan(
        scenario_of(
            '[[population]]\nname = "a"\nclients = 100\nrate = 1\npieces = 2\npause = 3\n'
            '[[population]]\nname = "b"\nclients = 100\n[population.link]\nfault = "stall"\n'
            '[[fault]]\nkind = "stop"\nat = 1\nseconds = 5\n'
        ),
        1,
    )
    assert found.links == [Link("stall")]
    assert found.talk == 15.0, "the stop ends after 10 s + 5 s"
    last = [say for session in found.sessions for say in session.says if say.final]
    assert len(last) == FINALS
    assert {say.due for say in last} == {15.0 + CALM}
    assert all(session.link is None for session in found.sessions if session.says[-1:] == last[:1])


def test_faults_occur_at_the_given_times_or_intervals() -> None:
    body = '[[population]]\nname = "a"\nclients = 1\n[[fault]]\nkind = '
    found = plan(scenario_of(body + '"hangup"\nat = [0.5, 0.1]\n'), 1)
    assert found.faults == [ScheduledFault(1.0, "hangup", 0.0), ScheduledFault(5.0, "hangup", 0.0)]
    found = plan(scenario_of(body + '"stop-worker"\nevery = [1, 2]\nseconds = [0.5, 0.6]\n'), 1)
    assert 5 <= len(found.faults) <= 9
    assert all(0.5 <= fault.seconds <= 0.6 for fault in found.faults)
