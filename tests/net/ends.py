"""The end of a connection, as the other end sees it."""

import socket


def has_ended(end: socket.socket) -> bool:
    """Whether all that came was read, and then the end. It waits no more from now on."""
    end.setblocking(False)
    try:
        return end.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
