"""Patterns of texts that are changed or lost."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from harness.conformance.diagnosis.case import LONG, Case, is_utf8
from harness.conformance.diagnosis.pattern import pattern
from harness.wording import quoted


@dataclass(frozen=True)
class Change:
    """A change that servers make to a text. words: end of the sentence about the received text. of:
    function that returns the changed text."""

    words: str
    of: Callable[[str], str]
    cause: str = ""


_STRIP = "strip() or trim() removes more than the line end."
_ASCII = "The server decodes the bytes, or encodes the text, as ASCII."
_LATIN = (
    "The server decodes the bytes with the wrong encoding. Decode and encode with UTF-8, or pass"
    " the bytes on."
)


def _not_ascii(text: str, each: Callable[[bytes], str]) -> str:
    """Replace each character that is not ASCII by the result of `each`, called with its bytes."""
    return re.sub("[^\x00-\x7f]", lambda found: each(found[0].encode()), text)


CHANGES = (
    Change("in lower case", str.lower),
    Change("in upper case", str.upper),
    Change("without the spaces around it", lambda text: text.strip(" "), _STRIP),
    Change("without the spaces at its beginning", lambda text: text.lstrip(" "), _STRIP),
    Change("without the spaces at its end", lambda text: text.rstrip(" "), _STRIP),
    Change("without the white space around it", str.strip, _STRIP),
    Change("without the white space at its end", str.rstrip, _STRIP),
    Change("with one space for several", lambda text: re.sub(" +", " ", text)),
    Change(
        "with one space between its words",
        lambda text: " ".join(text.split()),
        "The server splits the line into words.",
    ),
    Change("with spaces instead of the tab", str.expandtabs),
    Change("with ␉ instead of the tab", lambda text: text.replace("\t", "␉")),
    Change("without its tab", lambda text: text.replace("\t", "")),
    Change("its UTF-8 was read as Latin-1", lambda text: text.encode().decode("latin-1"), _LATIN),
    Change(
        "its UTF-8 was read as code page 1252",
        lambda text: text.encode().decode("cp1252", "replace"),
        _LATIN,
    ),
    Change(
        "with U+FFFD for each byte that is not ASCII",
        lambda text: _not_ascii(text, lambda data: "\ufffd" * len(data)),
        _ASCII,
    ),
    Change(
        "with ? for each byte that is not ASCII",
        lambda text: _not_ascii(text, lambda data: "?" * len(data)),
        _ASCII,
    ),
    Change(
        "with ? for each character that is not ASCII",
        lambda text: _not_ascii(text, lambda _: "?"),
        _ASCII,
    ),
    Change(
        "without the characters that are not ASCII",
        lambda text: _not_ascii(text, lambda _: ""),
        _ASCII,
    ),
    Change(
        "with octal escapes",
        lambda text: _not_ascii(text, lambda data: "".join(f"\\{byte:o}" for byte in data)),
    ),
    Change(
        "with escapes for the characters that are not ASCII",
        lambda text: text.encode("ascii", "backslashreplace").decode(),
        _ASCII,
    ),
    Change(
        "as Python shows bytes",
        lambda text: repr(text.encode()),
        "str() or an f-string was given bytes. Decode them, or pass them on as they are.",
    ),
    Change("with HTML's escapes", html.escape, "The server escapes the text as for a web page."),
    Change("with composed characters (NFC)", lambda text: unicodedata.normalize("NFC", text)),
    Change("with separate accents (NFD)", lambda text: unicodedata.normalize("NFD", text)),
    Change("without its zero-width joiners", lambda text: text.replace("\u200d", "")),
)
"""Known changes of a text. The first change that fits is used."""


@pattern("a known change")
def changed(case: Case) -> str | tuple[str, str]:
    expected, actual = case.change
    if not (case.message and case.sent_as_expected and is_utf8(expected)) or not expected.strip(
        b"\r\n"
    ):
        return ""
    text, came = expected.decode(), _C1.sub("\ufffd", actual.decode(errors="replace"))
    for change in CHANGES:
        if (other := change.of(text)) != text and _C1.sub("\ufffd", other) == came:
            return (
                f"{case.message.speaker} sent {quoted(expected)}, and it arrived as"
                f" {quoted(actual)}: {change.words}.",
                change.cause,
            )
    return ""


_C1 = re.compile("[\x80-\x9f]")
"""C1 control characters. The server may have replaced them, too."""


@pattern(
    "a torn character",
    "The server decodes each read separately, and a read ended inside the character. Collect the"
    " bytes of a whole line before you decode them.",
)
def torn_character(case: Case) -> str:
    """Match if some characters that are not ASCII have become U+FFFD, and others have not."""
    expected, actual = case.change
    if not (case.sent_as_expected and is_utf8(expected) and b"\n" not in expected):
        return ""
    text, came = expected.decode(), actual.decode(errors="replace")
    parts = (char if char.isascii() else f"{char}|\ufffd{{1,4}}" for char in map(re.escape, text))
    if "\ufffd" in text or "\ufffd" not in came:
        return ""
    if not re.fullmatch("".join(f"(?:{part})" for part in parts), came):
        return ""
    begin = next(n for n, (one, other) in enumerate(zip(text, came, strict=False)) if one != other)
    if not any(char in came for char in text if not char.isascii()):
        return ""
    return (
        f"The character {text[begin]}, at byte {len(text[:begin].encode()):,} of the text, arrived"
        " as U+FFFD; other characters that are not ASCII arrived unchanged."
    )


@pattern(
    "a read with a torn character was dropped",
    "decode() raises an exception if a read ends inside a character, and the server drops the whole"
    " read. Collect the bytes of a whole line before you decode them.",
)
def torn_read_lost(case: Case) -> str:
    """Match if the beginning of a long line with characters of several bytes does not arrive."""
    message = case.message
    if case.clause != "TEXT-1" or not message or message.size < SHORTEST_TORN:
        return ""
    if message.text.isascii() or any(message.text[:LONG] in h for h in case.received.values()):
        return ""
    return (
        f"{message.speaker} sent {quoted(message.text, message.size)}, a line with characters of"
        " several bytes, and nobody received it."
    )


SHORTEST_TORN = 1024
"""Number of bytes of the shortest line that a read of a common size may cut."""


@pattern(
    "a command",
    "The server treats a text that begins with / as a command. If this is intended, set `commands`"
    " in the profile.",
)
def command(case: Case) -> str:
    message = case.message
    if (
        message
        and message.text.startswith(b"/")
        and not any(message.text.strip() in heard for heard in case.received.values())
    ):
        return (
            f"{message.speaker} sent {quoted(message.text)} as a message, and {case.reception()}."
        )
    return ""


@pattern(
    "bad bytes were dropped",
    "decode() raises an exception for bytes that are not UTF-8, and the server drops the whole"
    " text. Decode with U+FFFD for such bytes (errors='replace' in Python).",
)
def bad_bytes_lost(case: Case) -> str:
    message = case.message
    if message and not message.is_utf8 and not any(case.received.values()):
        return (
            f"{message.speaker} sent {quoted(message.text)}, which is not UTF-8, and nobody"
            " received anything."
        )
    return ""


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters: C0 except TAB and LF, DEL, C1, bidirectional controls and separators."""


@pattern(
    "a control character passes",
    "The server passes control characters on. Replace them before you send a text to others.",
)
def control_character_passes(case: Case) -> str:
    message = case.message
    if message is None or case.clause not in ("TEXT-3", "PREFIX-4"):
        return ""
    sent = _CONTROLS.search(message.text.rstrip(b"\r\n").decode(errors="ignore"))
    for client, heard in case.received.items():
        if sent and sent[0].encode() in heard:
            return (
                f"{message.speaker} sent {quoted(message.text)}, and {client} received"
                f" {quoted(heard)}: U+{ord(sent[0]):04X} arrived as it was."
            )
    return ""
