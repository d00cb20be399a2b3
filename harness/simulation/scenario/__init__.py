"""Scenarios: populations, what they say, and the plan drawn from them. Pure.

In reading order; a module uses only those above it:

    scenario.py      a scenario, read from TOML and checked: `load`, `parse`
    vocabulary.py    the texts of messages, and how each should arrive: `payload`, `harmless`
    plan.py          the plan of a run, drawn from a scenario and a seed: `plan`
"""
