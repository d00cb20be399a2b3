"""The texts of messages in a simulation, as sent and as delivered. Pure.

A message begins with a token, `SENDER.NUMBER:`, which is unique in the run. So a message is
recognised wherever it appears, complete or not. The rest of its text is drawn from an alphabet.
A message is one line, and ends with LF.
"""

from __future__ import annotations

import random
import re

from harness.reference.server import VISIBLE

TOKEN = re.compile(rb"(\d+)\.(\d+):")
"""Number of the sender's session, and number of the message in this session."""

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


def token(sender: int, number: int) -> bytes:
    return b"%d.%d:" % (sender, number)


def name_in(line: bytes) -> str:
    """Return the name of the message in a line, damaged or not; empty if there is none."""
    found = TOKEN.search(line)
    return found[0][:-1].decode() if found else ""


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
