"""The client that comes with the room.

At a terminal with prompt_toolkit (`pip install prompt_toolkit`) it shows a window: see view/.
Everywhere else it has a plain form: standard input is sent to the room, the room's output is
printed, and a terminal edits its lines itself.

In reading order:

    command.py      the command line: parse the arguments, run the client, return an exit code
    address.py      the address of a room, and how to connect to it
    connection.py   a connection, with or without TLS
    text.py         pure functions: make text safe to show at a terminal
    session.py      the plain form: bytes between the standard streams and the room
    streams.py      standard input and output for asyncio
    signals.py      signals for asyncio
    view/           the window

Nobody needs this package to join a room: `nc HOST PORT` is enough.
"""
