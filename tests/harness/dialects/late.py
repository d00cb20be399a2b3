"""A server with threads of unequal speed: the lines of every second client are 50 ms late.

Usage: python3 late.py HOST PORT
"""

import socket
import sys
import threading
import time

HOST, PORT = sys.argv[1], int(sys.argv[2])

members: dict[socket.socket, bytes] = {}
lock = threading.Lock()


def serve(connection: socket.socket, name: bytes, delay: float) -> None:
    try:
        with lock:
            connection.sendall(b"You are " + name + b"\n")
            members[connection] = name
        last = 0.0
        for line in connection.makefile("rb"):
            if time.monotonic() > last + delay:  # lines that follow at once wait only once
                time.sleep(delay)
            last = time.monotonic()
            with lock:
                broadcast(connection, name + b": " + line.rstrip(b"\r\n") + b"\n")
    except OSError:
        pass
    finally:
        with lock:
            members.pop(connection, None)
        connection.close()


def broadcast(sender: socket.socket, line: bytes) -> None:
    for member in members:
        if member is not sender:
            try:
                member.sendall(line)
            except OSError:
                continue  # the member's thread removes it


with socket.create_server((HOST, PORT), backlog=200) as server:
    number = 0
    while True:
        client, _ = server.accept()
        number += 1
        arguments = client, b"client%d" % number, 0.05 * (number % 2 == 0)
        threading.Thread(target=serve, args=arguments, daemon=True).start()
