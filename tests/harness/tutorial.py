"""The server of the tutorial, rewritten with all its defects, as a target for tests.

Usage: python3 tutorial.py HOST PORT

The server runs a thread for each client. The bytes of each `recv` are a message. A client that
closes is removed from the list, but its socket stays open, and its thread calls `recv` forever.
"""

import _thread
import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen(100)

clients: list[socket.socket] = []


def serve(connection: socket.socket, address: str) -> None:
    connection.sendall(b"Welcom to socket practice")
    while True:
        try:
            message = connection.recv(2048).decode("utf-8")
            if message:
                line = "<" + address + ">" + message
                print(line)
                broadcast(line.encode("utf-8"), connection)
            else:
                remove(connection)
        except:  # noqa: E722  (as in the tutorial)
            continue


def broadcast(message: bytes, sender: socket.socket) -> None:
    for client in clients:
        if client != sender:
            try:
                client.sendall(message)
            except:  # noqa: E722
                client.close()
                remove(client)


def remove(connection: socket.socket) -> None:
    if connection in clients:
        clients.remove(connection)


while True:
    connection, (address, _) = server.accept()
    clients.append(connection)
    print(address + " connected")
    _thread.start_new_thread(serve, (connection, address))
