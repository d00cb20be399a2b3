"""Scenarios: populations of clients, their messages, and the random plan of a run. Pure.

The modules, in reading order. A module imports only modules above it:

    scenario.py      a scenario, read from TOML and checked: `load`, `parse`
    vocabulary.py    the texts of messages, as sent and as delivered: `payload`, `harmless`
    names.py         the names of simulated people: `name_of`
    plan.py          the random plan of a run, made from a scenario and a seed: `plan`
"""
