"""A server that sends the length of each text before it, in ten characters: `5         hello`.

Usage: python3 length_framing.py HOST PORT
"""

import asyncio
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
HEADER = 10

names: dict[asyncio.StreamWriter, bytes] = {}


async def read(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readexactly(HEADER))
    return await reader.readexactly(size)


def packed(text: bytes) -> bytes:
    return b"%-10d" % len(text) + text


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        names[writer] = await read(reader)
        while True:
            text = await read(reader)
            for member in names:
                if member is not writer:
                    member.write(packed(names[writer]) + packed(text))
    except (ConnectionError, asyncio.IncompleteReadError, ValueError):
        pass
    finally:
        names.pop(writer, None)
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, HOST, PORT, backlog=200)
    async with server:
        await server.serve_forever()


asyncio.run(main())
