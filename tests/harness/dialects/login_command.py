"""A server whose clients log in with `/login NAME`. It sends lines as `[anna] hello`.

Usage: python3 login_command.py HOST PORT [--defect NAME]
"""

import asyncio
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

names: dict[asyncio.StreamWriter, bytes] = {}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    number = 0
    try:
        writer.write(b"Log in with /login NAME\n")
        while line := await reader.readline():
            text = line.rstrip(b"\r\n")
            if writer in names:
                number += 1
                twice = DEFECT == "delivers-twice" and number > 20
                broadcast(writer, text, times=2 if twice else 1)
            elif text.startswith(b"/login "):
                name = text.removeprefix(b"/login ").strip()
                if name in names.values():
                    writer.write(b"This name is taken\n")
                    continue
                writer.write(b"OK " + name + b"\n")
                names[writer] = name
            else:
                writer.write(b"You are not logged in\n")
    except ConnectionError:
        pass
    finally:
        if DEFECT != "keeps-names":
            names.pop(writer, None)
        writer.close()


def broadcast(sender: asyncio.StreamWriter, text: bytes, times: int) -> None:
    line = b"[" + names[sender] + b"] " + text + b"\n"
    for member in names:
        if member is not sender:
            member.write(line * times)


async def main() -> None:
    server = await asyncio.start_server(serve, HOST, PORT, limit=1 << 20, backlog=200)
    async with server:
        await server.serve_forever()


asyncio.run(main())
