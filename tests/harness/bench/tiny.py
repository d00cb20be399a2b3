"""A small chat server that can be started with a fault.

    python tiny.py [FAULT [FROM]]

The fault affects message number FROM (default: 1) and every later message. Its victim is
the client that joined last, not counting the sender.
"""

import os
import selectors
import socket
import struct
import sys
from collections.abc import Callable
from types import SimpleNamespace

FAULT = sys.argv[1] if len(sys.argv) > 1 else ""
FROM = int(sys.argv[2]) if len(sys.argv) > 2 else 1
PREFIX = b"<127.0.0.1>"

#: Functions from a line to the text that the victim receives, by the name of the fault.
INSTEAD: dict[str, Callable[[bytes], bytes]] = {
    "lose": lambda _: b"",
    "double": lambda line: line * 2,
    "noise": lambda line: b"hm? " + line,
    "garble": lambda line: line.replace(b"o", b"0"),
    "misname": lambda line: line.replace(PREFIX, b"<127.0.0.9>"),
}

room = SimpleNamespace(clients=[], said=0, late=[], begun={})
selector = selectors.DefaultSelector()


def accept(listener: socket.socket) -> None:
    client, _ = listener.accept()
    if FAULT == "close at once":
        client.close()
        return
    selector.register(client, selectors.EVENT_READ, hear)
    room.clients.append(client)
    if FAULT != "mute":
        client.sendall(b"Welcome\n")


def hear(client: socket.socket) -> None:
    try:
        data = client.recv(65536)
    except ConnectionResetError:
        data = b""
    if not data:
        leave(client)
    *texts, begun = (room.begun.pop(client, b"") + data).split(b"\n")
    if begun:  # a read may end inside a line
        room.begun[client] = begun
    for text in (text + b"\n" for text in texts):
        room.said += 1
        say(client, text, FAULT if room.said >= FROM else "")


def leave(client: socket.socket, reset: bool = False) -> None:
    selector.unregister(client)
    room.clients.remove(client)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def say(speaker: socket.socket, text: bytes, fault: str) -> None:
    line = PREFIX + text
    *others, victim = [client for client in room.clients if client is not speaker]
    for other in others:
        other.sendall(line)
    if fault in ("close", "reset"):
        leave(victim, reset=fault == "reset")
    elif fault == "die":
        print("out of luck", flush=True)
        os._exit(7)
    else:
        victim.sendall(INSTEAD[fault](line) if fault in INSTEAD else line)
    if fault == "echo":
        speaker.sendall(line)
    if fault == "late":
        room.late.append((victim, line))


with socket.create_server(("127.0.0.1", 0)) as listener:
    selector.register(listener, selectors.EVENT_READ, accept)
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        ready = selector.select(0.02 if room.late else None)
        for key, _ in ready:
            key.data(key.fileobj)
        if not ready:
            for victim, data in room.late:
                victim.sendall(data)
            room.late.clear()
