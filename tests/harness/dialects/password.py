"""A server that asks for a name and the password `sesame`: `anna says: hello`. It uses threads.

Usage: python3 password.py HOST PORT [--defect NAME]
"""

import socket
import sys
import threading

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

members: set[socket.socket] = set()
lock = threading.Lock()


def serve(connection: socket.socket) -> None:
    try:
        lines = connection.makefile("rb")
        connection.sendall(b"Welcome to the club!\nName: ")
        name = lines.readline().strip()
        connection.sendall(b"Password: ")
        if lines.readline().strip() != b"sesame":
            connection.sendall(b"Wrong password\n")
            return
        with lock:
            connection.sendall(b"Hello " + name + b"\n")
            members.add(connection)
        for line in lines:
            with lock:
                broadcast(connection, name + b" says: " + line.rstrip(b"\r\n") + b"\n")
    except OSError:
        pass
    finally:
        if DEFECT != "keeps-those-who-left":  # sending to such a member raises OSError
            with lock:
                members.discard(connection)
        if DEFECT == "never-closes":
            threading.Event().wait()
        lines.close()
        connection.close()


def broadcast(sender: socket.socket, line: bytes) -> None:
    others = [member for member in members if member is not sender]
    if DEFECT == "fails-alone" and not others:
        raise OSError("there is nobody")
    for member in others:
        try:
            member.sendall(line)
        except OSError:
            if DEFECT == "keeps-those-who-left":
                raise
            # the member's thread removes it


with socket.create_server((HOST, PORT), backlog=200) as server:
    while True:
        client, _ = server.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()
