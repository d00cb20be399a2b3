"""Tests of how text is made safe for a terminal."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis.strategies import binary, text

from chatroom.protocol.text import printable, sanitize

C0 = [chr(code) for code in range(0x20)]
DEL = "\x7f"
C1 = [chr(code) for code in range(0x80, 0xA0)]
# Characters with Bidi_Control in PropList.txt of the Unicode Character Database.
BIDIRECTIONAL = [
    *"\N{ARABIC LETTER MARK}\N{LEFT-TO-RIGHT MARK}\N{RIGHT-TO-LEFT MARK}",
    *(chr(code) for code in range(0x202A, 0x202F)),
    *(chr(code) for code in range(0x2066, 0x206A)),
]
SEPARATORS = ["\N{LINE SEPARATOR}", "\N{PARAGRAPH SEPARATOR}"]

DEPRECATED = [chr(code) for code in range(0x206A, 0x2070)]
ANNOTATIONS = [chr(code) for code in range(0xFFF9, 0xFFFC)]
FILLERS = [
    "\N{HANGUL CHOSEONG FILLER}",
    "\N{HANGUL JUNGSEONG FILLER}",
    "\N{HANGUL FILLER}",
    "\N{HALFWIDTH HANGUL FILLER}",
]

WITH_PICTURE = [char for char in [*C0, DEL] if char not in "\t\n"]
REPLACED = [*C1, *BIDIRECTIONAL, *SEPARATORS, *DEPRECATED, *ANNOTATIONS, *FILLERS]
HARMFUL = {*WITH_PICTURE, *REPLACED}
#: The harmful characters, and a few harmless ones.
LETTERS = sorted({*HARMFUL, *"a<\t\né€😀\N{COMBINING DIAERESIS}"})


def harmless(shown: str) -> bool:
    return HARMFUL.isdisjoint(shown)


@pytest.mark.parametrize("char", WITH_PICTURE, ids=ascii)
def test_text_3_c0_and_del_arrive_as_their_control_pictures(char: str) -> None:
    code = 0x21 if char == DEL else ord(char)
    assert sanitize(f"a{char}b\n".encode()) == f"a{chr(0x2400 + code)}b\n".encode()


@pytest.mark.parametrize(
    ("char", "name"),
    [
        ("\0", "SYMBOL FOR NULL"),
        ("\a", "SYMBOL FOR BELL"),
        ("\r", "SYMBOL FOR CARRIAGE RETURN"),
        ("\x1b", "SYMBOL FOR ESCAPE"),
        (DEL, "SYMBOL FOR DELETE"),
    ],
)
def test_text_3_a_control_picture_shows_the_right_character(char: str, name: str) -> None:
    assert unicodedata.name(printable(char)) == name


@pytest.mark.parametrize("char", REPLACED, ids=ascii)
def test_text_3_other_controls_arrive_as_replacement_characters(char: str) -> None:
    assert sanitize(f"a{char}b\n".encode()) == "a\N{REPLACEMENT CHARACTER}b\n".encode()


def test_text_1_every_other_character_arrives_unchanged() -> None:
    surrogates = range(0xD800, 0xE000)
    safe = "".join(
        char
        for code in range(sys.maxunicode + 1)
        if code not in surrogates and (char := chr(code)) not in HARMFUL
    )
    assert "\t" in safe
    assert "\n" in safe
    assert sanitize(safe.encode()) == safe.encode()


def test_text_1_flags_and_braille_are_text() -> None:
    """Some flags contain tag characters, and Braille has a pattern without dots."""
    england = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    for shown in (england, "\u2800\u28ff"):
        assert sanitize(shown.encode()) == shown.encode()


def test_every_control_character_of_unicode_is_harmful_but_tab_and_lf() -> None:
    controls = {
        char for code in range(sys.maxunicode) if unicodedata.category(char := chr(code)) == "Cc"
    }
    assert controls - HARMFUL == {"\t", "\n"}


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        pytest.param(b"\xff", "\ufffd", id="a byte that begins no character"),
        pytest.param(b"caf\xe9!", "caf\ufffd!", id="Latin-1"),
        pytest.param(b"\xe2\x82", "\ufffd", id="a character's beginning"),
        pytest.param(b"\x82\xac", "\ufffd\ufffd", id="a character's end"),
        pytest.param(b"\xc0\xaf", "\ufffd\ufffd", id="overlong"),
        pytest.param(b"\xed\xa0\x80", "\ufffd" * 3, id="surrogate"),
        pytest.param(b"\xf4\x90\x80\x80", "\ufffd" * 4, id="beyond Unicode"),
        pytest.param(b"\xc2\x1b[2J", "\ufffd\u241b[2J", id="ESC after an incomplete character"),
        pytest.param(b"\xe2\x82\nx", "\ufffd\nx", id="LF after an incomplete character"),
        pytest.param(b"\x9b2J", "\ufffd2J", id="a C1 byte, not encoded"),
    ],
)
def test_text_2_bytes_that_are_not_utf_8_are_replaced(sent: bytes, shown: str) -> None:
    assert sanitize(sent) == shown.encode()


@given(binary())
def test_text_2_and_3_any_input_becomes_harmless_utf_8(sent: bytes) -> None:
    """TEXT-2, TEXT-3: random bytes."""
    shown = sanitize(sent)
    assert harmless(shown.decode())
    assert shown.count(b"\n") == sent.count(b"\n"), "the number of lines changes"
    assert sanitize(shown) == shown


@given(text(alphabet=LETTERS))
def test_text_3_no_character_is_lost_or_added(sent: str) -> None:
    shown = printable(sent)
    assert len(shown) == len(sent)
    assert harmless(shown)
    assert all(ours == theirs for ours, theirs in zip(shown, sent, strict=True) if harmless(theirs))
    assert sanitize(sent.encode()) == shown.encode()


def test_plain_ascii_is_returned_without_a_copy() -> None:
    plain = bytes([*b"\t\n", *range(0x20, 0x7F)])
    assert sanitize(plain) is plain
