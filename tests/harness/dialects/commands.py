"""A server with the commands `/nick NAME`, `/who` and `/quit`. It uses asyncio.

Usage: python3 commands.py HOST PORT [--defect NAME]
"""

import asyncio
import itertools
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

names: dict[asyncio.StreamWriter, bytes] = {}
numbers = itertools.count(1)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        if DEFECT == "fifty-members" and len(names) >= 50:
            writer.write(b"The room is full\n")
            return
        writer.write(b"Welcome! Commands: /nick NAME, /who, /quit\n")
        names[writer] = b"user%d" % next(numbers)
        while line := await reader.readline():
            text = line.rstrip(b"\r\n")
            if text == b"/quit":
                break
            if text.startswith(b"/"):
                run_command(writer, text)
            else:
                broadcast(writer, text)
    except ConnectionError:
        pass
    finally:
        names.pop(writer, None)
        writer.close()


def run_command(writer: asyncio.StreamWriter, text: bytes) -> None:
    command, _, argument = text.partition(b" ")
    if command == b"/nick" and argument:
        names[writer] = argument
        writer.write(b"You are now " + argument + b"\n")
    elif command == b"/who":
        writer.write(b", ".join(names.values()) + b"\n")
    else:
        writer.write(b"Unknown command\n")


def broadcast(sender: asyncio.StreamWriter, text: bytes) -> None:
    for member in names:
        if member is not sender:
            member.write(b"<" + names[sender] + b"> " + text + b"\n")


async def main() -> None:
    server = await asyncio.start_server(serve, HOST, PORT, limit=1 << 20, backlog=200)
    async with server:
        await server.serve_forever()


asyncio.run(main())
