"""A server that asks for a name, and announces joins and leaves: `*** anna has joined`.

Usage: python3 notices.py HOST PORT [--defect NAME]
"""

import asyncio
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

members: dict[asyncio.StreamWriter, bytes] = {}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        writer.write(b"Please enter your username: ")
        name = (await reader.readline()).strip()
        if not name:
            return
        join(writer, name)
        while line := await reader.readline():
            broadcast(writer, b"<" + name + b"> " + line.rstrip(b"\r\n") + b"\n")
    except ConnectionError:
        pass
    finally:
        if writer in members:
            name = members.pop(writer)
            broadcast(writer, b"*** " + name + b" has left\n")
        writer.close()


def join(writer: asyncio.StreamWriter, name: bytes) -> None:
    welcome = b"Welcome to the room, " + name + b"\n"
    writer.write(welcome)
    members[writer] = name
    others = b"*** " + name + b" has joined\n"
    broadcast(writer, welcome if DEFECT == "welcomes-to-all" else others)


def broadcast(sender: asyncio.StreamWriter, line: bytes) -> None:
    for member in members:
        if member is not sender:
            member.write(line)


async def main() -> None:
    server = await asyncio.start_server(serve, HOST, PORT, limit=1 << 20, backlog=200)
    async with server:
        await server.serve_forever()


asyncio.run(main())
