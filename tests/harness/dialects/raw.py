"""A server that relays the bytes of each `recv` to the others as they are, without a prefix.

Usage: python3 raw.py HOST PORT [--defect NAME]
"""

import socket
import sys
import threading

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""
if DEFECT == "spins":
    sys.setswitchinterval(0.05)  # many threads that spin leave the others no time

members: set[socket.socket] = set()
lock = threading.Lock()


def serve(connection: socket.socket) -> None:
    try:
        while (data := connection.recv(1024)) or DEFECT == "spins":
            while not data:  # the client has closed its side
                pass
            with lock:
                relay(connection, data)
    except OSError:
        pass
    finally:
        with lock:
            members.discard(connection)
        connection.close()


def relay(sender: socket.socket, data: bytes) -> None:
    for member in members:
        if member is not sender:
            try:
                member.sendall(data)
            except OSError:
                continue  # the member's thread removes it


with socket.create_server((HOST, PORT), backlog=200) as server:
    while True:
        client, _ = server.accept()
        with lock:
            members.add(client)
        threading.Thread(target=serve, args=(client,), daemon=True).start()
