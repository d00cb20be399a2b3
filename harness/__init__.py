"""Judges chat servers from outside: it speaks to a socket and starts commands.

It never imports the server under test, so it can judge any server.

``python -m harness bench`` measures speed (`harness.bench`).
"""
