"""A server that asks for a name: `anna: hello`. It runs a thread for each client, with one lock.

Usage: python3 name_prompt.py HOST PORT [--defect NAME]
"""

import socket
import sys
import threading

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

members: dict[socket.socket, bytes] = {}
lock = threading.Lock()
latest: socket.socket
"""Connection of the client that connected last."""


def log_in(connection: socket.socket) -> bytes:
    """Return the name that the client sends, or b"" if it closes the connection."""
    connection.sendall(b"What is your name? ")
    answer = b""
    while not answer.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        answer += byte
    return answer.strip()


def talk(connection: socket.socket, name: bytes) -> None:
    with lock:
        connection.sendall(b"Welcome, " + name + b"!\n")
        members[latest if DEFECT == "mixes-up-logins" else connection] = name
    for line in connection.makefile("rb"):
        with lock:
            if DEFECT == "another-name":  # the name of the client that joined last
                name = list(members.values())[-1]
            if DEFECT == "skips-empty-lines" and not line.strip():
                continue
            broadcast(connection, name + b": " + line.rstrip(b"\r\n") + b"\n")


def broadcast(sender: socket.socket, line: bytes) -> None:
    for member in members:
        if member is not sender:
            try:
                member.sendall(line)
            except OSError:
                continue  # the member's thread removes it


def serve(connection: socket.socket, name: bytes = b"") -> None:
    try:
        if DEFECT == "joins-before-name":
            with lock:
                members[connection] = b"nobody"
        name = name or log_in(connection)
        if name:
            talk(connection, name)
    except OSError:
        pass
    finally:
        with lock:
            members.pop(connection, None)
        connection.close()


with socket.create_server((HOST, PORT), backlog=200) as server:
    while True:
        client, _ = server.accept()
        latest = client
        known = b""
        if DEFECT == "asks-in-accept-loop":  # no other client can join until this one answers
            try:
                known = log_in(client)
            except OSError:
                continue
            if not known:
                client.close()
                continue
        threading.Thread(target=serve, args=(client, known), daemon=True).start()
