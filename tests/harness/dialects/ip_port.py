"""A server that shows the sender's address and port: `192.0.2.7:50123: hello`. It uses threads.

It serves IPv6, too: `[2001:db8::7]:50123: hello`.

Usage: python3 ip_port.py HOST PORT [--defect NAME]
"""

import socket
import sys
import threading

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

members: dict[socket.socket, bytes] = {}
lock = threading.Lock()


def serve(connection: socket.socket, peer: bytes) -> None:
    try:
        with lock:
            connection.sendall(b"Connected as " + peer + b"\n")
            members[connection] = peer
        for line in connection.makefile("rb"):
            with lock:
                if DEFECT == "another-port":  # the port of the client that joined last
                    peer = list(members.values())[-1]
                broadcast(connection, peer + b": " + line.rstrip(b"\r\n") + b"\n")
    except OSError:
        if DEFECT == "drops-all-at-a-reset":
            with lock:
                for member in members:
                    member.shutdown(socket.SHUT_RDWR)
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


def shown(address: str) -> str:
    if DEFECT != "shows-mapped-addresses":
        address = address.removeprefix("::ffff:")
    return f"[{address}]" if ":" in address else address


family = socket.AF_INET6 if ":" in HOST else socket.AF_INET
with socket.create_server(
    (HOST, PORT), family=family, backlog=200, dualstack_ipv6=HOST == "::"
) as server:
    while True:
        client, (address, port, *_) = server.accept()
        peer = f"{shown(address)}:{port}".encode()
        threading.Thread(target=serve, args=(client, peer), daemon=True).start()
