"""The texts of messages in a simulation, as sent and as delivered. Pure.

A message has a name, `msgSENDER.NUMBER`, which is unique in the run. Its text begins with a token:
the name and a colon. So the judge can find a message in any line, even if the message is
incomplete. A token begins with letters, so an address, a port or a time in a server's prefix is not
mistaken for a token. The rest of the text consists of random characters of an alphabet. A message
is one line with LF at its end.
"""

from __future__ import annotations

import random
import re

from harness.reference.server import VISIBLE

TOKEN = re.compile(rb"(msg(\d+)\.(\d+)):")
"""Token. Its groups: the message's name, the sender's session, the message's number in the session.
"""

TOKEN_BEGUN = re.compile(r"m(s(g(\d+(\.\d*)?)?)?)?")
"""Beginning of a token, without its colon."""

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

None of them contains a telnet command (0xFF and a byte above 0xEB), which a server may remove.
"""

_ALPHABETS = {
    "ascii": "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,;:!?'\"()-",
    "cjk": "你好世界今天天气很好我们一起去吃饭吧日本語話聞読書한국어말씀",
    "emoji": "🙂🎉🍜👩🏽‍💻🇻🇳❤️🚀🧩",
    "rtl": "שלום עולם مرحبا بالعالم كيف الحال",
}

MOST = 2000
"""Maximum number of bytes in a text. With token and LF, the line has less than 2,048 bytes, so a
server must deliver it whole (LINE-7)."""


def name_of(sender: int, number: int) -> str:
    """Return the name of a message. sender: number of the session that sends it."""
    return f"msg{sender}.{number}"


def numbers_of(name: str) -> tuple[int, int]:
    """Return the two numbers in a message's name: the sender's session, the message's number."""
    sender, _, number = name.removeprefix("msg").partition(".")
    return int(sender), int(number)


def token(sender: int, number: int) -> bytes:
    return name_of(sender, number).encode() + b":"


def name_in(line: bytes) -> str:
    """Return the name of the message in a line, which may be damaged; empty if there is none."""
    found = TOKEN.search(line)
    return found[1].decode() if found else ""


def payload(chance: random.Random, alphabet: str, size: int) -> bytes:
    """Return a random text of `size` characters; of about `size` bytes if it is hostile.

    The text has at most MOST bytes, contains no LF, and does not end with CR.
    """
    if alphabet == "hostile":
        text = b""
        while len(text) < min(size, MOST - 100):
            text += chance.choice(_HOSTILE)
        return text + b"."
    text = "".join(chance.choices(_ALPHABETS[alphabet], k=size)).encode()[:MOST]
    return text.decode(errors="ignore").encode()


def harmless(text: bytes) -> bytes:
    """Return the text that a server should deliver for this text (TEXT-2, TEXT-3).

    Neither text includes the LF.
    """
    return text.decode("utf-8", "replace").translate(VISIBLE).encode()
