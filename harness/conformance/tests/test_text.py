"""Tests of the section Text of PROTOCOL.md."""

from __future__ import annotations

import itertools

import pytest

from harness.clients.client import Client
from harness.clients.room import Room, expect, expect_equal
from harness.conformance.evidence import PROVED

LANGUAGES = (
    "Grüße, ça va, ¿qué tal?",
    "Да, с удовольствием",
    "你好，世界",
    "こんにちは",
    "안녕하세요",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते",
    "🍜👋🏽👩‍👩‍👧‍👦🏳️‍🌈",
    "e\u0301 \u00e9 \ufb01 \u2026 \u20ac \U0001d54f",
    "\ufffd",
)

NOT_UTF8 = (
    b"\xff",
    b"\xc3(",
    b"\xe2\x82",
    b"\xf0\x9f\x91",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"caf\xe9",
)

C0 = bytes(code for code in range(0x20) if code not in b"\t\n\r")
REPLACED = (
    *(chr(code) for code in (0x80, 0x85, 0x9B, 0x9F)),
    *"\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029",
)


async def relayed(room: Room, speaker: Client, listener: Client, text: bytes) -> bytes:
    """Send a text between two tokens; return what the listener receives between them."""
    begin, end = room.tokens(2)
    await speaker.say(begin + text + end + b"\n")
    await listener.hears(begin)
    return (await listener.hears_line(end)).removesuffix(end)


@pytest.mark.clause("TEXT-1", PROVED)
async def test_utf8_arrives_unchanged(room: Room) -> None:
    """Texts in many scripts, and emoji, are sent between two tokens in one line, and arrive as they
    were sent."""
    speaker, listener = await room.join(2)
    for text in LANGUAGES:
        heard = await relayed(room, speaker, listener, text.encode())
        expect_equal("UTF-8 text arrived changed", text.encode(), heard)


@pytest.mark.clause("TEXT-1", PROVED)
async def test_long_lines_of_utf8_arrive_unchanged(room: Room) -> None:
    """Lines of 340, 682 and 1,366 three-byte characters are sent, each twice: the second time with
    one more letter before them. So a read of 1,024, 2,048 or 4,096 bytes ends inside a character of
    one of the two lines. Without line ends and prefixes, the text arrives as it was sent."""
    speaker, listener = await room.join(2)
    for size, letters in itertools.product((340, 682, 1366), ("", "x")):
        text = letters + "€" * size
        begin, end = room.tokens(2)
        await speaker.say(begin + text.encode() + end + b"\n")
        heard = (await room.hears_through(listener, end)).partition(begin)[2].removesuffix(end)
        expect_equal("UTF-8 text arrived changed", text.encode(), heard)


@pytest.mark.clause("TEXT-2", PROVED)
async def test_invalid_utf8_is_replaced_and_disturbs_nobody(room: Room) -> None:
    """Bytes that are not UTF-8 are sent between two tokens. The text that is received between the
    tokens is UTF-8 and contains U+FFFD. The sender can send more messages."""
    speaker, listener = await room.join(2)
    for text in NOT_UTF8:
        heard = await relayed(room, speaker, listener, text)
        shown = heard.decode("utf-8", "backslashreplace")
        expect("\ufffd" in shown, f"{text!r} has not become U+FFFD", "\ufffd".encode(), heard)
        expect_equal("the delivered text is not UTF-8", shown.encode(), heard)
        await room.barrier(speaker, listener)


@pytest.mark.clause("TEXT-3", PROVED)
async def test_control_characters_are_made_visible(room: Room) -> None:
    """C0 characters except TAB and LF, and DEL, arrive as their control pictures. Some C1,
    bidirectional and separator characters arrive as U+FFFD. TAB arrives unchanged, and the CR of
    CR LF does not arrive."""
    speaker, listener = await room.join(2)
    for code in [*C0, 0x0D, 0x7F]:
        picture = chr(0x2421 if code == 0x7F else 0x2400 + code).encode()
        heard = await relayed(room, speaker, listener, b"a" + bytes([code]) + b"b")
        expect_equal(f"U+{code:04X} was not replaced by its picture", b"a" + picture + b"b", heard)
    for character in REPLACED:
        heard = await relayed(room, speaker, listener, character.encode())
        expect_equal(f"U+{ord(character):04X} was not replaced by U+FFFD", "\ufffd".encode(), heard)
    heard = await relayed(room, speaker, listener, b"\t")
    expect_equal("TAB, which is text, was changed", b"\t", heard)
    first, second = room.tokens(2)
    await speaker.say(first + b"\r\n" + second + b"\r\n")
    await listener.hears(first)
    heard = await listener.hears(second)
    expect(b"\r" not in heard, "the CR of CR LF was delivered", None, heard)
