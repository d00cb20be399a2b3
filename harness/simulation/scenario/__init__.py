"""Scenarios: who takes part, what they say, and the plan that a seed makes of it. Pure.

In reading order; a module uses only those above it:

    scenario.py      a scenario, read from TOML and checked: `load`, `parse`
    vocabulary.py    texts of messages, and how each arrives: `payload`, `harmless`
    plan.py          the plan of a run, second by second, from a scenario and a seed: `plan`
"""
