"""Scenario files: how they are read, and the errors for invalid files."""

from pathlib import Path

import pytest

from harness.simulation.scenario import scenario
from harness.simulation.scenario.scenario import (
    WORKER_FAULTS,
    Fault,
    Link,
    Pair,
    Phase,
    Population,
    parse,
)
from harness.toml_reader import TomlError

SMALLEST = """
about = "one member who listens"
[[population]]
name = "one"
clients = 1
"""


def test_missing_keys_have_defaults() -> None:
    found = parse(SMALLEST, "small")
    assert found.name == "small"
    assert found.about == "one member who listens"
    assert found.populations == (Population("one", 1),)
    assert found.phases == (Phase("", 10.0),)
    assert found.faults == ()
    assert (found.seconds, found.clients) == (10.0, 1)


def test_all_keys_are_read() -> None:
    found = parse(
        """
        about = "all"
        reach = ["stop while joining", "reset while sending"]
        [[phase]]
        name = "first"
        seconds = 2
        [[phase]]
        name = "then"
        seconds = 3.5
        rate = 0.5
        [[population]]
        name = "people"
        clients = 5
        addresses = 2
        phase = "then"
        arrives = [0, 0.5]
        rate = 1.5
        timing = "evenly"
        burst = 3
        size = 10
        alphabets = ["cjk", "hostile"]
        pieces = [1, 3]
        pause = [0.1, 0.2]
        stays = [1, 2]
        leaves = "reset"
        returns = true
        away = 1
        [population.link]
        fault = "slow"
        after = 1
        seconds = [2, 3]
        bytes_per_second = 10
        pause = 0.5
        held = [0, 1]
        [[fault]]
        kind = "stop"
        at = [0.2, 0.5]
        seconds = 2
        [[fault]]
        kind = "kill-worker"
        every = [1, 2]
        """,
        "all",
    )
    assert found.phases == (Phase("first", 2.0), Phase("then", 3.5, 0.5))
    assert found.seconds == 5.5
    link = Link("slow", (1.0, 1.0), (2.0, 3.0), 10.0, (0.5, 0.5), (0.0, 1.0))
    assert found.populations == (
        Population(
            name="people",
            clients=5,
            addresses=2,
            phase="then",
            arrives=(0.0, 0.5),
            rate=1.5,
            timing="evenly",
            burst=3,
            size=(10.0, 10.0),
            alphabets=("cjk", "hostile"),
            pieces=(1.0, 3.0),
            pause=(0.1, 0.2),
            stays=(1.0, 2.0),
            leaves=("reset",),
            returns=True,
            away=(1.0, 1.0),
            link=link,
        ),
    )
    assert found.reach == (Pair("stop", "joining"), Pair("reset", "sending"))
    assert found.faults == (
        Fault("stop", (0.2, 0.5), None, (2.0, 2.0)),
        Fault("kill-worker", (), (1.0, 2.0)),
    )


ONE = '[[population]]\nname = "one"\nclients = 1\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("about = ", "'x' is not TOML: "),
        (ONE, "'x': about is missing"),
        ('about = "a"', "'x': population is missing: at least one [[population]] is needed"),
        ('about = ""\n' + ONE, "'x': about must be text, not ''"),
        ('about = "a"\nseconds = 0\n' + ONE, "'x': seconds must be a number from 0.1 to 86400"),
        ('about = "a"\nsecond = 1\n' + ONE, "'x': second is unknown; the keys are about, phase,"),
        (
            'about = "a"\npopulation = 3',
            "'x': population must be an array of tables: [[population]]",
        ),
        (
            'about = "a"\n' + ONE + "rat = 1",
            "'x': population 1 'one': rat is unknown; the keys are",
        ),
        ('about = "a"\n' + ONE + "rate = -1", "rate must be a number from 0 to 10000, not -1"),
        (
            'about = "a"\n' + ONE + "rate = true",
            "rate must be a number from 0 to 10000, not True",
        ),
        ('about = "a"\n' + ONE + "burst = 1.5", "burst must be a whole number from 1 to 10000"),
        ('about = "a"\n' + ONE + "size = [9, 3]", "or a pair of them, [a, b], not [9, 3]"),
        ('about = "a"\n' + ONE + 'alphabets = ["runes"]', "alphabets must be some of ascii, cjk"),
        ('about = "a"\n' + ONE + 'timing = "often"', "must be one of evenly, at-random, not"),
        ('about = "a"\n' + ONE + "returns = 1", "returns must be true or false, not 1"),
        (
            'about = "a"\n' + ONE + "link = 1",
            "'x': population 1 'one': link must be a table, not 1",
        ),
        (
            'about = "a"\n' + ONE + '[population.link]\nfault = "rain"',
            "'x': population 1 'one': link: fault must be one of slow, stall,",
        ),
        (
            'about = "a"\n' + ONE + 'phase = "noon"',
            "'x': population 'one': phase is not allowed without [[phase]] tables",
        ),
        ('about = "a"\n' + ONE + ONE, "'x': population names must differ"),
        (
            'about = "a"\n' + ONE + '[[fault]]\nkind = "stop"',
            "'x': fault 1 'stop': exactly one of at and every is needed",
        ),
        (
            'about = "a"\n' + ONE + '[[fault]]\nkind = "stop"\nat = 3',
            "at must be a fraction of the run from 0 to 1, or a list of them, not 3",
        ),
        (
            'about = "a"\nreach = "reset"\n' + ONE,
            "'x': reach must be a list of 'FAULT while MOMENT', not 'reset'",
        ),
        (
            'about = "a"\nreach = ["rain while joining"]\n' + ONE,
            "'FAULT while MOMENT' ('rain' is not one of close, reset, half-close, cut-off,",
        ),
        (
            'about = "a"\nreach = ["reset while asleep"]\n' + ONE,
            "('asleep' is not one of joining, sending, delivering, lagging)",
        ),
        (
            'about = "a"\nreach = ["reset while joining"]\n' + ONE,
            "'x': reach: the scenario has no fault 'reset'",
        ),
        (
            'about = "a"\nseconds = 1\n[[phase]]\nname = "p"\nseconds = 1\n' + ONE,
            "'x': seconds is not allowed with phases, because each phase has a length",
        ),
        (
            'about = "a"\n[[population]]\nname = "a"\nclients = 20000\n' + ONE,
            "'x': populations have more than 20000 clients in all",
        ),
    ],
)
def test_an_error_names_the_key_and_its_valid_values(text: str, complaint: str) -> None:
    with pytest.raises(TomlError) as caught:
        parse(text, "x")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_duration_scales_all_phases() -> None:
    found = parse(
        'about = "a"\n[[phase]]\nname = "p"\nseconds = 1\n[[phase]]\nname = "q"\nseconds = 3\n'
        + ONE,
        "x",
    ).lasting(8)
    assert [phase.seconds for phase in found.phases] == [2.0, 6.0]


def test_another_number_of_clients_scales_all_populations() -> None:
    text = 'about = "a"\n' + "".join(
        f'[[population]]\nname = "{name}"\nclients = {clients}\n'
        for name, clients in (("a", 90), ("b", 9), ("c", 1))
    )
    found = parse(text, "x")
    assert [population.clients for population in found.peopled(1000).populations] == [900, 90, 10]
    assert [population.clients for population in found.peopled(10).populations] == [8, 1, 1]
    with pytest.raises(ValueError, match="needs 3 clients or more, one for each population"):
        found.peopled(2)


def test_moments_of_faults_that_are_left_out_are_not_required() -> None:
    found = scenario.load("chaos")
    assert {str(pair) for pair in found.reach} > {"kill-worker while sending"}
    gentle = found.without(WORKER_FAULTS, "on request")
    assert {fault.kind for fault in gentle.faults} == {"stop", "stop-worker"}
    assert {pair.fault for pair in gentle.reach} & {*WORKER_FAULTS} == set()
    strikes = dict.fromkeys(fault.kind for fault in found.faults if fault.kind in WORKER_FAULTS)
    assert dict(gentle.left_out) == dict.fromkeys(strikes, "on request")
    assert gentle.without(WORKER_FAULTS, "again") == gentle


@pytest.mark.parametrize("name", scenario.names())
def test_each_shipped_scenario_is_valid_and_begins_with_a_comment(name: str) -> None:
    assert scenario.load(name).name == name
    first = (scenario.FOLDER / f"{name}.toml").read_text().splitlines()[0]
    assert first.startswith("# ")


def test_all_shipped_scenarios_are_listed() -> None:
    assert scenario.names() == [
        "chaos",
        "churn",
        "classroom",
        "cluster",
        "crowd",
        "flood",
        "lunch-rush",
        "megaphone",
        "slow-readers",
    ]


def test_a_scenario_can_be_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALLEST)
    assert scenario.load(str(path)).name == "mine"
    with pytest.raises(TomlError, match="'nothing' is neither a file nor one of chaos, churn"):
        scenario.load("nothing")
    path.write_bytes(b"\xff")
    with pytest.raises(TomlError, match="can't be read"):
        scenario.load(str(path))
