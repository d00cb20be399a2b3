"""Simulations: scripted crowds and faults, recorded in a history that is judged afterwards.

A conformance test asks whether one clause holds. A simulation asks whether all of them
hold with hundreds of clients, for minutes, and how fast the room is then.

The parts in reading order, each with its entry function. A part uses only those above
it; `run`, `judge` and `shrink` do not know each other:

    history.py       the record of a run, as JSON lines: `read`
    scenario/        scenarios in TOML, and the plan drawn from one: `load`, `plan`
    run/             the clients, their faulty network and the target's faults: `Run.run`
    judge/           violations in a history, latencies, the verdict: `judge`, `figures`, `results`
    shrink/          the smallest script with the same violation: `reduce`, `play`
    report/          report.html: `report`
    outcome.py       a simulation, run, judged and written to files: `simulated`

The commands `simulate`, `scenarios`, `check`, `limit` and `shrink` are in harness/cli/.
"""
