"""The client that comes with the room: what arrives never tears the line that is being typed.

In reading order:

    editor.py    pure: bytes from the keyboard in, lines to send out
    cells.py     pure: how much of the screen text takes
    screen.py    pure: what to write to a terminal around the line that is being typed
    front.py     pure: what is sent and what is shown, on a terminal and off it
    session.py   one loop between the room and the user; neither may block the other
    signals.py streams.py terminal.py  what that loop waits on
    command.py   the command line: arguments in, exit code and at most one line of error out

`nc HOST PORT` is a full client too: nothing here is needed to talk to the room.
"""

from chatroom.client.command import main

__all__ = ["main"]
