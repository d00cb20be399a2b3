"""Conformance: each clause of PROTOCOL.md, judged by tests.

    tests/        the tests, a file for each section of PROTOCOL.md
    plugin.py     the pytest plugin: a target for each process, a room for each test
    runner.py     run the tests by pytest in this process
    evidence.py   what a pass rests on
    verdicts.py   from the results of tests to the verdict of each clause, and of the run

    pytest --pyargs harness.conformance --command "python3 server.py {host} {port}"

They run under pytest with the plugin `harness.conformance.plugin`, which `harness.entry`
loads for them. Each drives the target's room, then checks; it never looks inside.
"""
