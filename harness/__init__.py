"""Judge chat servers from outside, through their sockets and their processes.

The harness never imports the server under test, so it can judge any server. In reading order:

    clauses.py       the clauses, read from PROTOCOL.md
    toml_reader.py   read dataclasses from TOML files
    profile.py       the dialect of a server, and the clauses that it claims; files in profiles/
    target/          the server under test
    clients/         scripted clients, and a room of them
    probe/           find out the dialect of an unknown server
    conformance/     the tests of the clauses, and the verdicts
    report/          the reports of a run, on a terminal and as pages
    reference/       a correct server, and servers that are broken on purpose
    simulation/      simulated crowds and faults; files in scenarios/
    bench/           benchmarks
    scale/           the machines that a large room needs, computed from measured costs
    cli/             one file for each sub-command
    entry.py         the entry point through which pytest finds the plugin in conformance/
    descriptors.py   the limit on this process's file descriptors
    encoding.py      the encoding of standard output
    frames.py        frames of WebSockets, as bytes
    linger.py        the reset of a TCP connection
    errors.py        the exceptions that a check raises if it does not pass
    wording.py       numbers, names and bytes as text in messages
"""
