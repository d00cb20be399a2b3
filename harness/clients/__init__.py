"""Scripted clients.

client.py     one client, and a log of the bytes that it sends and receives
dialect.py    a client's bytes in the server's dialect
stream.py     a client's bytes as lines
strangers.py  lines of clients that are not of this run
room.py       a target's room, with the clients of one test
"""
