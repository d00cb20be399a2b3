"""The reference server in other dialects. Each server keeps every clause, in its dialect's form.

The attribute `profile` names the profile that describes the dialect. The module `broken` combines
these classes with defects, to make broken servers in the same dialects.
"""

from __future__ import annotations

from harness.reference.server import Member, Options, Server


class NameFirst(Server):
    """A server that asks each client for a name. The name is the prefix of the client's messages.

    A client becomes a member when it has sent its name.
    """

    profile = "reference-names"
    question = b"Your name? "

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.asked: dict[Member, bytes] = {}
        """Clients that have not sent a whole name, each with the part received so far."""
        self.names: dict[Member, str] = {}

    def welcome(self, member: Member) -> None:
        self.asked[member] = b""
        self.deliver(member, self.question)

    def enter(self, member: Member) -> None:
        """Do nothing: a client without a name is not a member yet. `hear` makes it a member."""

    def hear(self, member: Member, data: bytes) -> None:
        if member not in self.asked:
            super().hear(member, data)
            return
        line, end, rest = (self.asked[member] + data).partition(b"\n")
        if not end:
            self.asked[member] = line
            return
        del self.asked[member]
        self.names[member] = self.encode(line.decode(errors="replace").strip()).decode()
        super().welcome(member)
        super().enter(member)
        if rest:
            super().hear(member, rest)

    def prefix(self, sender: Member, receiver: Member) -> bytes:  # noqa: ARG002
        return b"%s: " % self.name(sender).encode()

    def name(self, sender: Member) -> str:
        return self.names[sender]

    def close(self, member: Member) -> None:
        super().close(member)
        self.asked.pop(member, None)
        self.names.pop(member, None)


class CrLf(Server):
    """A server that ends lines with CR LF, and accepts only CR LF as a line end, as in telnet."""

    profile = "reference-crlf"
    line_end = b"\r\n"

    def frame(self, member: Member, data: bytes) -> list[bytes]:
        """Pass CR LF to the framing as LF, and any other LF as a control picture.

        Keep a CR at the end of `data` until the next bytes arrive.
        """
        held, member.held = member.held + data, b""
        if held.endswith(b"\r"):
            held, member.held = held[:-1], b"\r"
        lines = [line.replace(b"\n", "␊".encode()) for line in held.split(b"\r\n")]
        return super().frame(member, b"\n".join(lines))

    def deliver(self, receiver: Member, data: bytes) -> None:
        super().deliver(receiver, data.replace(b"\n", self.line_end))


class Echo(Server):
    """A server that also returns each line to its sender, with another prefix, `own_prefix`.

    It delivers an unfinished line only when its sender leaves.
    """

    profile = "reference-echo"
    own_prefix = b"you: "

    def flush(self, member: Member) -> list[bytes]:  # noqa: ARG002
        return []

    def broadcast(self, sender: Member, message: bytes) -> None:
        super().broadcast(sender, message)
        if sender in self.members:
            self.echo(sender, message)

    def echo(self, sender: Member, message: bytes) -> None:
        self.deliver(sender, self.own_prefix + message)


DIALECTS: dict[str, type[Server]] = {"names": NameFirst, "crlf": CrLf, "echo": Echo}
"""Correct servers, by the name of their dialect."""
