"""The texts of messages in a simulation, as sent and as delivered. Pure.

A message has a name, `msgSENDER.NUMBER`, which is unique in the run. Its text begins with a token,
the name and a colon. So a message is recognised wherever it appears, complete or not. No number is
taken for a token: a server's prefix may contain addresses, ports and times. The rest of the text is
drawn from an alphabet. A message is one line, and ends with LF.
"""

from __future__ import annotations

import random
import re

from harness.reference.server import VISIBLE

TOKEN = re.compile(rb"(msg(\d+)\.(\d+)):")
"""Name of the message, number of the sender's session, number of the message in this session."""

TOKEN_BEGUN = re.compile(r"m(s(g(\d+(\.\d*)?)?)?)?")
"""Beginning of a token that lacks at least its colon."""

_HOSTILE = (
    b"\r<127.0.0.1>I am somebody else",
    b"\x1b[2J\x1b[31mred\x07",
    b"\x00\x01\x7f",
    b"\xfe\xff\xc0\x80",
    "\u202eesrever".encode(),
    "\x85\u2028".encode(),
    b"\xe2\x82",
    b"<",
    b"%s%n{0}",
)
"""Parts of a hostile text: control characters, forged prefixes, bytes that are not UTF-8.

None holds a telnet command, which is 0xFF and a byte above 0xEB: a server may remove those.
"""

_ALPHABETS = {
    "ascii": "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,;:!?'\"()-",
    "cjk": "你好世界今天天气很好我们一起去吃饭吧日本語話聞読書한국어말씀",
    "emoji": "🙂🎉🍜👩🏽‍💻🇻🇳❤️🚀🧩",
    "rtl": "שלום עולם مرحبا بالعالم كيف الحال",
}

MOST = 2000
"""Maximum number of bytes of a text: with token and LF, the message must arrive whole (LINE-7)."""


def name_of(sender: int, number: int) -> str:
    """Return the name of a session's message."""
    return f"msg{sender}.{number}"


def numbers_of(name: str) -> tuple[int, int]:
    """Return the sender's session and the number of the message with this name."""
    sender, _, number = name.removeprefix("msg").partition(".")
    return int(sender), int(number)


def token(sender: int, number: int) -> bytes:
    return name_of(sender, number).encode() + b":"


def name_in(line: bytes) -> str:
    """Return the name of the message in a line, damaged or not; empty if there is none."""
    found = TOKEN.search(line)
    return found[1].decode() if found else ""


def payload(chance: random.Random, alphabet: str, size: int) -> bytes:
    """Draw `size` characters (hostile ones: about `size` bytes), but at most MOST bytes.

    There is no LF in the text, and no CR at its end.
    """
    if alphabet == "hostile":
        text = b""
        while len(text) < min(size, MOST - 100):
            text += chance.choice(_HOSTILE)
        return text + b"."
    text = "".join(chance.choices(_ALPHABETS[alphabet], k=size)).encode()[:MOST]
    return text.decode(errors="ignore").encode()


def harmless(text: bytes) -> bytes:
    """Return a text without LF as it should be delivered (TEXT-2, TEXT-3)."""
    return text.decode("utf-8", "replace").translate(VISIBLE).encode()
