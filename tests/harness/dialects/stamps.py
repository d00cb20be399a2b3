"""A server that asks for a name, and sends times and colours: `[12:30:01] anna: hello`.

Usage: python3 stamps.py HOST PORT [--defect NAME]
"""

import socket
import sys
import threading
import time

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

GREY, GREEN, PLAIN = b"\x1b[90m", b"\x1b[1;32m", b"\x1b[0m"

members: set[socket.socket] = set()
lock = threading.Lock()


def prefix(name: bytes) -> bytes:
    now = time.strftime("[%H:%M:%S] ").encode()
    return GREY + now + GREEN + name + PLAIN + b": "


def serve(connection: socket.socket) -> None:
    try:
        with connection.makefile("rb") as lines:
            connection.sendall(GREEN + b"Your name?" + PLAIN + b" ")
            name = lines.readline().strip()
            if not name:
                return
            with lock:
                connection.sendall(b"Hi " + GREEN + name + PLAIN + b"!\n")
                members.add(connection)
            for line in lines:
                text = line.rstrip(b"\r\n")
                if DEFECT == "cuts-at-1000-bytes":
                    text = text[:1000]
                broadcast(connection, prefix(name) + text + b"\n")
    except OSError:
        pass
    finally:
        with lock:
            members.discard(connection)
        connection.close()


def broadcast(sender: socket.socket, line: bytes) -> None:
    with lock:
        for member in members:
            if member is not sender:
                try:
                    member.sendall(line)
                except OSError:
                    continue  # the member's thread removes it


with socket.create_server((HOST, PORT), backlog=200) as server:
    while True:
        client, _ = server.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()
