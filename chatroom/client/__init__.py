"""The client that comes with the room.

At a terminal, where prompt_toolkit is installed (`pip install prompt_toolkit`), it is a window:
see view/. Everywhere else it is the plain form: what comes from standard input is sent, what comes
from the room is shown, and a terminal's lines are the terminal's own business.

In reading order:

    command.py   the command line: arguments in, exit code and at most one line of error out
    address.py connection.py   how to connect to a room, and the connection, by TLS too
    session.py   the plain form: bytes between standard streams and the room
    streams.py signals.py      standard input and output, and signals, for asyncio
    view/        the window

`nc HOST PORT` is a full client too: nothing here is needed to talk to the room.
"""

from chatroom.client.command import main

__all__ = ["main"]
