"""A server that expects a NUL after each message, and no LF.

Usage: python3 nul_framing.py HOST PORT
"""

import asyncio
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])

members: set[asyncio.StreamWriter] = set()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    members.add(writer)
    try:
        while True:
            message = await reader.readuntil(b"\0")
            for member in members:
                member.write(message)
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        members.discard(writer)
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, HOST, PORT, backlog=200)
    async with server:
        await server.serve_forever()


asyncio.run(main())
