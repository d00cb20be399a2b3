"""Simulations: hundreds of people by script, while things go wrong, and a history that is judged.

Conformance asks whether a clause holds; this asks whether all of them hold with
a crowd, for minutes, and how fast the room is then. In reading order; those
above never use those below:

    scenario.py     what a scenario says, read from TOML and checked (pure)
    words.py        what is said, and how it arrives (pure)
    schedule.py     scenario and seed → who does what when: the plan (pure)
    history.py      all that happened: JSON lines, written, read, merged
    checkers/       history → what was lost, doubled, misordered, torn … (pure)
    figures.py      history → latencies, the harness's own lag, the target's costs (pure)
    results.py      both → results.json, and the verdict (pure)
    links.py        what a bad network does to a connection (pure)
    proxy.py        … and does it, in a process of its own
    driver.py       the clients, in one process of one loop; there may be several
    faults.py       what is done to the target
    run.py          starts all these, watches, ends them, and merges what they recorded
    live.py         progress while it runs
    timeline.py     what was around a violation: a picture of it, and words (pure)
    page.py         report.html (pure)
    outcome.py      all of that: one simulation, run, judged and written down
    reduce.py       a history → a script, and the smallest that shows the same (pure)
    replay.py       plays a script; its source goes into the file that `shrink` writes

The commands are `simulate.py`, `scenarios.py`, `check.py`, `limit.py` and
`shrink.py`, each a sub-command of ``python -m harness``.
"""
