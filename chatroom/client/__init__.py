"""The client that comes with the room.

At a terminal with prompt_toolkit (`pip install prompt_toolkit`) it shows a window: see view/.
Everywhere else, it has no window: it sends standard input to the room and prints what the room
sends. If standard input is a terminal, the terminal edits the line that the user types.

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
