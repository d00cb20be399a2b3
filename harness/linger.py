"""Reset a TCP connection."""

import socket
import struct

_RESET = struct.pack("ii", 1, 0)
"""Value of SO_LINGER: on, 0 seconds."""


def reset_on_close(connection: socket.socket) -> None:
    """Make the close of a socket reset the connection; the kernel then drops unsent data.

    Raise OSError if the system refuses this, because the connection has already ended (macOS).
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
