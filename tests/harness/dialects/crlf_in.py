"""A server that accepts only lines with CR LF, and sends lines with LF: `<IP>hello`.

Usage: python3 crlf_in.py HOST PORT [--defect NAME]
"""

import asyncio
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
DEFECT = sys.argv[4] if sys.argv[3:] else ""

members: set["Member"] = set()


class Member(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""
        self.address: bytes = (transport.get_extra_info("peername") or ["?"])[0].encode()
        transport.write(b"Hello\n")
        members.add(self)

    def data_received(self, data: bytes) -> None:
        *lines, self.buffer = (self.buffer + data).split(b"\r\n")
        for line in lines:
            self.say(line)

    def eof_received(self) -> None:
        if self.buffer and DEFECT != "loses-the-last-words":
            self.say(self.buffer)

    def connection_lost(self, error: Exception | None) -> None:
        members.discard(self)

    def say(self, line: bytes) -> None:
        for member in members:
            if member is not self:
                member.transport.write(b"<" + self.address + b">" + line + b"\n")


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Member, HOST, PORT, backlog=200)
    async with server:
        await server.serve_forever()


asyncio.run(main())
