"""The names of simulated people."""

from harness.simulation.scenario.names import FIRST, name_of


def test_all_names_differ_and_can_be_used_to_log_in() -> None:
    found = [name_of(person, visit) for person in range(20_000) for visit in (1, 2, 13)]
    assert found[:3] == ["Ann", "Ann2", "Ann13"]
    assert name_of(len(FIRST), 1) == "AnnB"
    assert len(set(found)) == len(found)
    assert all(name.isascii() and name.isalnum() and len(name) <= 9 for name in found)
