"""``python -m harness.reference``: a correct server, and servers that are broken on purpose.

The harness is tested with them: each check must fail on a broken server. In reading order:

- `server`    the reference: one small server that keeps every clause of PROTOCOL.md, except
  LOAD-4, because it has no worker processes
- `dialects`  the reference in other dialects: with names, with CR LF, with echo
- `broken`    servers with one defect each, registered with the clauses that it breaks
- `hopeless`  targets that do not work as servers
"""
