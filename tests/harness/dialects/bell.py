"""A server that asks for a name, and sends BEL (0x07) after each text. It uses threads.

Usage: python3 bell.py HOST PORT [--defect NAME]
"""

import socket
import sys
import threading

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

members: dict[socket.socket, str] = {}
lock = threading.Lock()


def serve(connection: socket.socket, address: str) -> None:
    try:
        with connection.makefile("rb") as lines:
            connection.sendall(b"Welcome to chat!\nWhat's your name?\n")
            name = lines.readline().strip()
            if not name:
                return
            with lock:
                connection.sendall(b"Hello, " + name + b"! The chat has started.\n")
                members[connection] = address
            for line in lines:
                broadcast(connection, name + b": " + line.rstrip(b"\r\n") + b"\a\n")
    except OSError:
        pass
    finally:
        with lock:
            members.pop(connection, None)
        connection.close()


def broadcast(sender: socket.socket, line: bytes) -> None:
    with lock:
        others = [member for member in members if member is not sender]
        if DEFECT == "one-per-address":
            others = [*{members[member]: member for member in others}.values()]
        for member in others:
            try:
                member.sendall(line)
            except OSError:
                continue  # the member's thread removes it


with socket.create_server((HOST, PORT), backlog=200) as server:
    while True:
        client, (address, _) = server.accept()
        threading.Thread(target=serve, args=(client, address), daemon=True).start()
