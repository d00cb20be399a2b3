"""Scripted clients.

client.py   one client, and a log of the bytes in both directions
stream.py   a client's bytes as lines
room.py     a target's room, with several clients
"""
