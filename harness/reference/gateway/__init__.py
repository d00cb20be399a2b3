"""``python -m harness.reference.gateway``: a correct WebSocket server, and broken ones.

The tests of the harness use these servers: each test of a clause on WebSockets must fail on a
broken server. The modules, in reading order:

- `server`  one WebSocket of the reference server, which keeps every clause WS-… of PROTOCOL.md
- `broken`  servers with one defect each, registered with the clauses that the defect breaks
"""
