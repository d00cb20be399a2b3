"""``python -m harness.reference``: a correct server, and servers that are broken on purpose.

The harness is tested with them: a check that never failed proves nothing. In reading
order:

- `server`    the reference: one small server that holds every clause of PROTOCOL.md,
  except LOAD-4, which is about worker processes: it has none
- `broken`    servers that differ from it in one thing, and break the clauses
  that their registry names
- `hopeless`  targets that are not servers at all
"""
