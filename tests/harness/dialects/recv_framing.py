"""A server that treats the bytes of each `recv` as a message: `<IP>hello`. It uses threads.

Usage: python3 recv_framing.py HOST PORT [--defect NAME]
"""

import socket
import sys
import threading

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

size = 1024 if DEFECT in ("small-buffer", "decodes-each-recv") else 4096
members: list[socket.socket] = []
lock = threading.Lock()


def serve(connection: socket.socket, address: str) -> None:
    try:
        with lock:
            connection.sendall(b"Welcome to the chat\n")
            members.append(connection)
        while data := connection.recv(size):
            if DEFECT == "decodes-each-recv":
                data = data.decode().encode()
            broadcast(connection, b"<" + address.encode() + b">" + data)
    except (OSError, UnicodeDecodeError):
        pass
    finally:
        with lock:
            if connection in members:
                members.remove(connection)
        connection.close()


def broadcast(sender: socket.socket, data: bytes) -> None:
    with lock:
        for member in members:
            if member is not sender:
                try:
                    member.sendall(data)
                except OSError:
                    continue  # the member's thread removes it


with socket.create_server((HOST, PORT), backlog=200) as server:
    while True:
        client, (address, _) = server.accept()
        threading.Thread(target=serve, args=(client, address), daemon=True).start()
