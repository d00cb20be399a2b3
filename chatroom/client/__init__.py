"""The client that comes with the room.

At a terminal, where prompt_toolkit is installed (`pip install prompt_toolkit`), it is a window:
see view/. Everywhere else it is the plain form: what comes from standard input is sent, what comes
from the room is shown, and a terminal's lines are the terminal's own business.

In reading order:

    command.py   the command line: arguments in, exit code and at most one line of error out
    reach.py tls.py   the way to a room, where it is behind something that ends TLS too
    session.py   the plain form: one loop between the room and the user, neither blocks the other
    signals.py streams.py   what that loop waits on
    view/        the window

`nc HOST PORT` is a full client too: nothing here is needed to talk to the room.
"""

from chatroom.client.command import main

__all__ = ["main"]
