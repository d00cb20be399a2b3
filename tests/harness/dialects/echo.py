"""A server that sends each line to all members and its sender: `<IP>hello`. It uses `select`.

Usage: python3 echo.py HOST PORT [--defect NAME]
"""

import contextlib
import select
import socket
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

server = socket.create_server((HOST, PORT), backlog=200)
addresses: dict[socket.socket, bytes] = {}
unfinished: dict[socket.socket, bytes] = {}


def join(connection: socket.socket, address: str) -> None:
    addresses[connection] = address.encode()
    unfinished[connection] = b""
    send(connection, b"Welcome! You hear what you say.\n")


def read(connection: socket.socket) -> None:
    try:
        data = connection.recv(4096)
    except OSError:
        data = b""
    *lines, unfinished[connection] = (unfinished[connection] + data).split(b"\n")
    if not data and unfinished[connection]:
        lines.append(unfinished[connection])
    for line in lines:
        text = line.removesuffix(b"\r")
        if DEFECT == "strips-spaces":
            text = text.strip()
        for member in list(addresses):
            send(member, b"<" + addresses[connection] + b">" + text + b"\n")
            if DEFECT == "delivers-twice-to-others" and member is not connection:
                send(member, b"<" + addresses[connection] + b">" + text + b"\n")
    if not data:
        del addresses[connection], unfinished[connection]
        connection.close()


def send(member: socket.socket, line: bytes) -> None:
    with contextlib.suppress(OSError):  # `read` removes a member that has left
        member.sendall(line)


while True:
    for ready in select.select([server, *addresses], [], [])[0]:
        if ready is not server:
            read(ready)
            continue
        try:
            client, (address, _) = server.accept()
        except OSError:
            continue
        join(client, address)
