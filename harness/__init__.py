"""Judges chat servers from outside: it speaks to a socket and starts commands.

It never imports the server under test, so it can judge any server. In reading order:

    clauses.py       the clauses, read from PROTOCOL.md
    toml_reader.py   dataclasses from TOML
    profile.py       how a server speaks, and what it claims to hold; profiles/ ship
    target/          the server under test
    clients/         scripted clients, and the room that they are in
    conformance/     the tests of the clauses, and their verdicts
    report/          what people read of a run
    reference/       a correct server, and those that are broken on purpose
    simulation/      crowds by script, and faults; scenarios/ ship
    bench/           speed
    cli/             one file for each sub-command
    entry.py         what pytest loads where the harness is installed
    errors.py        how a check can end, other than well
"""
