"""``python -m harness.reference``: a server that is right, and others that are wrong.

Who judges servers has to be judged: a check that never failed proves nothing.
In reading order:

- `server`    the reference: one small server that keeps every clause of
  PROTOCOL.md but LOAD-4, which is about worker processes, and it has none
- `broken`    servers that differ from it in one thing, and break the clauses
  that their registry names
- `hopeless`  targets that are no servers at all
"""
