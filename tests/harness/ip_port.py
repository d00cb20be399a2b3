"""A correct chat server with a common prefix, the sender's address and port: `IP:PORT: `.

python3 tests/harness/ip_port.py HOST PORT

It has a thread for each client, and sends each line to all others.
"""

import contextlib
import socket
import sys
import threading

members: set[socket.socket] = set()
lock = threading.Lock()


def serve(connection: socket.socket, address: tuple[str, int]) -> None:
    with contextlib.suppress(OSError), connection.makefile("rb") as lines:
        for line in lines:
            message = b"%s:%d: %s\n" % (address[0].encode(), address[1], line.rstrip(b"\n"))
            with lock:  # all members receive all lines in the same order
                for member in members - {connection}:
                    with contextlib.suppress(OSError):
                        member.sendall(message)
    with lock:
        members.discard(connection)
    connection.close()


def main(host: str, port: str) -> None:
    listener = socket.create_server((host, int(port)), backlog=100)
    while True:
        connection, address = listener.accept()
        with lock:
            members.add(connection)
            connection.sendall(b"Welcome\n")
        threading.Thread(target=serve, args=(connection, address), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
