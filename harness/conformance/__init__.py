"""Conformance: tests of the clauses of PROTOCOL.md, and their verdicts.

    tests/        the tests, a file for each section of PROTOCOL.md; test_websocket.py judges a
                  gateway, and all others judge a room of lines
    plugin.py     the pytest plugin: one target per process, one room per test
    trial.py      one run of a test, and the clause to blame for a failure
    runner.py     runs the tests with pytest, in this process
    evidence.py   the kinds of evidence for a pass
    verdicts.py   the verdict of each clause, and of the run, from the tests' results
    diagnosis/    describes a failure in words: what was sent, what arrived, and the usual cause

    pytest --pyargs harness.conformance --command "python3 server.py {host} {port}"

The tests run under pytest with the plugin `harness.conformance.plugin`, which `harness.entry`
loads for them. Each test runs clients in the target's room and checks what they receive; it never
looks inside the server.
"""
