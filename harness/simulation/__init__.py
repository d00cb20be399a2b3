"""Simulations: many clients and faults that follow a plan, recorded in a history and then judged.

A conformance test checks one clause. A simulation checks many clauses at once, with
hundreds of clients, for minutes, and measures latencies.

The parts in reading order, each with its entry functions. A part imports only parts
above it; `run`, `judge` and `shrink` do not import each other:

    history.py       the record of a run, as JSON lines: `read`
    scenario/        scenarios in TOML, and the random plan made from a scenario: `load`, `plan`
    run/             the clients, their faulty network and the target's faults: `Run.run`
    judge/           violations in a history, latencies, the verdict: `judge`, `figures`, `results`
    shrink/          the smallest script with the same violation: `reduce`, `play`
    report/          report.html: `report`
    outcome.py       runs a simulation, judges its history, and writes the files: `simulated`

The commands `simulate`, `scenarios`, `check`, `limit` and `shrink` are in harness/cli/.
"""
