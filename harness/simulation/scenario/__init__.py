"""Scenarios: populations, their messages, and the plan that is drawn from them. Pure.

In reading order; a module uses only those above it:

    scenario.py      a scenario, read from TOML and checked: `load`, `parse`
    vocabulary.py    the texts of messages, as sent and as delivered: `payload`, `harmless`
    names.py         the names of people: `name_of`
    plan.py          the plan of a run, drawn from a scenario and a seed: `plan`
"""
