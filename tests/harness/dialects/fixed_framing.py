"""A server whose messages have a fixed size: 256 bytes, padded with NULs.

Usage: python3 fixed_framing.py HOST PORT
"""

import asyncio
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
SIZE = 256

members: set[asyncio.StreamWriter] = set()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    members.add(writer)
    try:
        while True:
            message = await reader.readexactly(SIZE)
            for member in members:
                member.write(message)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        members.discard(writer)
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, HOST, PORT, backlog=200)
    async with server:
        await server.serve_forever()


asyncio.run(main())
