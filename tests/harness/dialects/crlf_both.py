"""A server that sends and accepts only lines that end with CR LF: `<IP>hello`. It uses asyncio.

Usage: python3 crlf_both.py HOST PORT [--defect NAME]
"""

import asyncio
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

members: set[asyncio.StreamWriter] = set()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    number, held = 0, b""
    try:
        peer = writer.get_extra_info("peername")
        if not peer:
            return
        writer.write(b"220 Welcome to the chat\r\n")
        members.add(writer)
        while text := await read(reader):
            number += 1
            line = b"<" + peer[0].encode() + b">" + text.removesuffix(b"\r\n") + b"\r\n"
            if DEFECT == "mixes-order" and number == 30:
                held = line
                continue
            broadcast(writer, line + held)
            held = b""
    except ConnectionError:
        pass
    finally:
        members.discard(writer)
        writer.close()


async def read(reader: asyncio.StreamReader) -> bytes:
    """Return the next line with its line end, or the rest if the input ends."""
    try:
        return await reader.readuntil(b"\r\n")
    except asyncio.IncompleteReadError as end:
        return end.partial


def broadcast(sender: asyncio.StreamWriter, line: bytes) -> None:
    for member in members:
        if member is not sender:
            member.write(line)


async def main() -> None:
    server = await asyncio.start_server(serve, HOST, PORT, limit=1 << 20, backlog=200)
    async with server:
        await server.serve_forever()


asyncio.run(main())
