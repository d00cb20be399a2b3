"""Judge chat servers from outside, through their sockets and their processes.

The harness never imports the server under test, so it can judge any server. In reading order:

    clauses.py       the clauses, read from PROTOCOL.md
    toml_reader.py   dataclasses from TOML
    profile.py       the dialect of a server, and the clauses that it claims; files in profiles/
    target/          the server under test
    clients/         scripted clients, and a room of them
    probe/           the dialect of an unknown server
    conformance/     the tests of the clauses, and the verdicts
    report/          the reports of a run, on a terminal and as pages
    reference/       a correct server, and servers that are broken on purpose
    simulation/      simulated crowds and faults; files in scenarios/
    bench/           benchmarks
    scale/           the machines for a large room, from measured costs
    cli/             one file for each sub-command
    entry.py         the pytest plugin's entry point, where the harness is installed
    descriptors.py   the limit on this process's descriptors
    encoding.py      standard output in an encoding that lacks characters
    errors.py        the exceptions that end a check without a pass
    wording.py       numbers in sentences
"""
