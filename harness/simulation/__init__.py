"""Simulations: crowds by script, while things go wrong, and a history that is judged.

Conformance asks whether each clause holds; a simulation asks whether all of them
hold with hundreds of people, for minutes, and how fast the room is then.

The parts in reading order, each with its entry function; a part uses only those
above it, and `run`, `judge` and `shrink` do not know each other:

    history.py       the record of a run, as JSON lines: `read`
    scenario/        scenarios in TOML, and the plan that a seed makes of one: `load`, `plan`
    run/             the clients, their bad network and the target's faults: `Run.run`
    judge/           violations in a history, latencies, the verdict: `judge`, `figures`, `results`
    shrink/          the smallest script that shows a violation again: `reduce`, `play`
    report/          report.html: `report`
    outcome.py       a simulation that was run, judged and written down: `simulated`

The commands `simulate`, `scenarios`, `check`, `limit` and `shrink` are in harness/cli/.
"""
