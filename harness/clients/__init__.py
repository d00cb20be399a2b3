"""Scripted clients.

client.py   one client, and a log of the bytes that it sends and receives
stream.py   a client's bytes as lines
room.py     a target's room, with the clients of one test
"""
