"""A server that treats a client's first line as its name, and sends no welcome: `anna> hello`.

Usage: python3 name_line.py HOST PORT [--defect NAME]
"""

import asyncio
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

members: set[asyncio.StreamWriter] = set()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    number = 0
    try:
        name = (await reader.readline()).strip()
        if not name:
            return
        members.add(writer)
        while line := await reader.readline():
            number += 1
            if DEFECT == "loses-one-in-five" and number > 20 and number % 5 == 0:
                continue
            end = b"" if DEFECT == "no-line-end" else b"\n"
            broadcast(writer, name + b"> " + line.rstrip(b"\r\n") + end)
    except ConnectionError:
        pass
    finally:
        members.discard(writer)
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
