"""``python -m harness.reference``: a correct server, and servers that are broken on purpose.

The tests of the harness use these servers: each check of the harness must fail on a broken server.
The modules, in reading order:

- `server`    the reference server: a small server that keeps every clause of PROTOCOL.md, except
  LOAD-4, because it has no worker processes
- `dialects`  the reference server in other dialects: with names, with CR LF, with echo
- `broken`    servers with one defect each, registered with the clauses that the defect breaks
- `hopeless`  targets that do not work as servers
- `gateway`   the same for WebSockets: a correct server, and broken ones
"""
