"""A server that sends a line to others as `anna: hello`, and to its sender as `You: hello`.

Usage: python3 echo_you.py HOST PORT [--defect NAME]
"""

import asyncio
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

members: set[asyncio.StreamWriter] = set()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        writer.write(b"Enter your nickname:\n")
        name = (await reader.readline()).strip()
        if not name:
            return
        writer.write(b"You can chat now.\n")
        members.add(writer)
        while line := await reader.readline():
            broadcast(writer, name, line.rstrip(b"\r\n") + b"\n")
    except ConnectionError:
        pass
    finally:
        members.discard(writer)
        writer.close()


def broadcast(sender: asyncio.StreamWriter, name: bytes, text: bytes) -> None:
    for member in members:
        if member is sender:
            member.write(b"You: " + text)
        if member is not sender or DEFECT == "comes-back-twice":
            member.write((b"You: " if DEFECT == "you-for-all" else name + b": ") + text)


async def main() -> None:
    reuse = DEFECT != "no-reuse-address"
    server = await asyncio.start_server(
        serve, HOST, PORT, limit=1 << 20, backlog=200, reuse_address=reuse
    )
    async with server:
        await server.serve_forever()


asyncio.run(main())
