"""A server that accepts LF and CR LF, and sends lines with CR LF: `<IP>hello`. It uses threads.

Usage: python3 crlf_out.py HOST PORT [--defect NAME]
"""

import socket
import sys
import threading

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

members: list[socket.socket] = []
lock = threading.Lock()


def serve(connection: socket.socket, address: str) -> None:
    try:
        with lock:
            connection.sendall(b"Hello. Type and press Enter.\r\n")
            members.append(connection)
        for line in connection.makefile("rb"):
            text = line.rstrip(b"\r\n")
            broadcast(connection, b"<" + address.encode() + b">" + text + b"\r\n")
    except OSError:
        pass
    finally:
        with lock:
            if connection in members:
                members.remove(connection)
        connection.close()


def broadcast(sender: socket.socket, line: bytes) -> None:
    with lock:
        for member in members:
            if member is not sender or DEFECT == "echoes":
                try:
                    member.sendall(line)
                except OSError:
                    continue  # the member's thread removes it


with socket.create_server((HOST, PORT), backlog=200) as server:
    while True:
        client, (address, _) = server.accept()
        threading.Thread(target=serve, args=(client, address), daemon=True).start()
