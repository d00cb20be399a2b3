"""Judges chat servers from outside: it speaks to a socket and starts commands.

It never imports the server under test, so it can judge any server. In reading order:

    clauses.py profile.py     what has to hold, and how a server speaks
    wire.py target.py         one scripted client; the server under test
    room.py                   what a test has: people in the room, tokens, barriers
    conformance/              the tests, a file for each section of PROTOCOL.md
    entry.py plugin.py        how pytest finds them, and runs them
    evidence.py               what a pass rests on
    verdicts.py               from the tests to the verdict of each clause, and of the run
    conform.py runner.py      `conform`; show.py progress.py page.py: what it shows
    probe.py explain.py matrix.py
    reference/                a correct server, and those that are broken on purpose
    simulation/ scenarios/    `simulate`, `check`, `limit`, `shrink`: crowds by script, and faults
    bench/                    `bench`: speed
"""
