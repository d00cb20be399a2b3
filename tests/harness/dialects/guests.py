"""A server that gives its clients the names `guest`, `guest2`, `guest3` and so on.

Usage: python3 guests.py HOST PORT [--defect NAME]
"""

import asyncio
import itertools
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

members: dict[asyncio.StreamWriter, bytes] = {}
numbers = itertools.count(1)


def new_name() -> bytes:
    if DEFECT == "one-name-for-all":
        return b"guest"
    number = next(numbers)
    if DEFECT == "names-two-alike":
        number //= 2
    elif DEFECT == "counts-members":  # after a leave, the next client gets a name that is in use
        number = len(members) + 1
    return b"guest" if number == 1 else b"guest%d" % number


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = new_name()
    members[writer] = name
    writer.write(b"You are " + name + b"\n")
    try:
        while line := await reader.readline():
            broadcast(writer, name + b": " + line.rstrip(b"\r\n") + b"\n")
    except ConnectionError:
        pass
    finally:
        del members[writer]
        writer.close()


def broadcast(sender: asyncio.StreamWriter, line: bytes) -> None:
    for member in members:
        if member is not sender:
            member.write(line)


async def main() -> None:
    server = await asyncio.start_server(serve, HOST, PORT, limit=1 << 20, backlog=200)
    async with server:
        await server.serve_forever()


asyncio.run(main())
