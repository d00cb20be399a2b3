"""The tests of conformance: a file for each section of PROTOCOL.md.

    pytest --pyargs harness.conformance --command "python3 server.py {host} {port}"

They run under pytest with the plugin `harness.plugin`, which `harness.entry`
loads for them. Each drives the target's room, then checks; it never looks inside.
"""
