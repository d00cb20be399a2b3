"""Scripted clients.

client.py     one client, and a log of the bytes that it sends and receives
dialect.py    translates a client's text to and from the server's dialect
stream.py     splits a client's received text into lines
strangers.py  finds lines of clients that do not belong to this run
room.py       the room of a target, with the clients of one test
websocket.py  a WebSocket, and the room of a gateway
"""
