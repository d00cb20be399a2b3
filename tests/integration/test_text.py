"""Lines, text, prefixes: LINE-1 to LINE-7, TEXT-1 to TEXT-3, PREFIX-1 and PREFIX-4."""

import random

import pytest

from tests.integration.clients import Client, exchange
from tests.integration.rooms import NEVER_SILENT, UNLIMITED, Room, addresses, room

LONGEST = 8 * 1024
"""Bytes in a line, unless an option sets it otherwise."""


def two(here: Room) -> tuple[Client, Client]:
    """Speaker and listener, each on a worker of its own where there are two."""
    speaker, listener = here.join_all(["127.0.0.2", "127.0.0.3"])
    return speaker, listener


def check_all_was_heard(speaker: Client, listener: Client) -> None:
    """Nothing of what the speaker said is still to come, and nothing came back to it."""
    speaker.say("that was all\n")
    listener.hear(speaker.prefix + b"that was all\n")
    listener.say("so it was\n")
    speaker.hear(listener.prefix + b"so it was\n")


# --- lines ---------------------------------------------------------------------------------------


LINES = [
    # What is said, and the messages that it makes.
    (b"hello\n", [b"hello\n"]),
    (b"hello\r\n", [b"hello\n"]),
    (b"\n", [b"\n"]),
    (b"\r\n\n", [b"\n", b"\n"]),
    (b"one\ntwo\r\n\nthree\n", [b"one\n", b"two\n", b"\n", b"three\n"]),
    (b" kept \t\n", [b" kept \t\n"]),
]


@pytest.mark.parametrize("workers", [1, 2])
def test_lines(workers: int) -> None:
    """LINE-1 (CR LF counts as LF), LINE-3 (each has its prefix), LINE-4 (an empty one), CAST-3."""
    with room("--workers", workers) as here:
        speaker, listener = two(here)
        for said, messages in LINES:
            speaker.say(said)
            listener.hear(b"".join(b"<127.0.0.2>" + message for message in messages))
        check_all_was_heard(speaker, listener)


def test_a_line_in_pieces_cut_anywhere() -> None:
    """LINE-2: inside a character too, where the tutorial loses it; each piece is read by itself."""
    line = "Việt 👋\r\n".encode()
    with room("--workers", 1, *NEVER_SILENT) as here:
        speaker, listener = two(here)
        for cut in range(1, len(line)):
            speaker.say(line[:cut])
            here.wait_until_read(speaker)
            speaker.say(line[cut:])
            listener.hear("<127.0.0.2>Việt 👋\n")
        for number in range(len(line)):
            speaker.say(line[number : number + 1])
            here.wait_until_read(speaker)
        listener.hear("<127.0.0.2>Việt 👋\n")
        check_all_was_heard(speaker, listener)


@pytest.mark.parametrize("workers", [1, 2])
def test_text_without_line_end(workers: int) -> None:
    """LINE-5: delivered all the same, with nothing added; LINE-6: ended before what comes next."""
    with room("--workers", workers) as here:
        speaker, listener = two(here)
        third = here.join("127.0.0.4")
        speaker.say("no end")
        listener.hear("<127.0.0.2>no end")
        listener.say("my line\n")
        third.hear("<127.0.0.2>no end\n<127.0.0.3>my line\n")
        # The LF that ends it is part of the speaker's message: the speaker does not see it.
        speaker.hear("<127.0.0.3>my line\n")
        third.say("mine\n")
        listener.hear("\n<127.0.0.4>mine\n")
        speaker.hear("<127.0.0.4>mine\n")


def test_text_without_line_end_and_more_of_it_later() -> None:
    """LINE-5, LINE-6: what the speaker says next is another message, on a line of its own."""
    with room("--workers", 2) as here:
        speaker, listener = two(here)
        for _ in range(2):
            speaker.say("one")
            listener.hear("<127.0.0.2>one")
            speaker.say("two\n")
            listener.hear("\n<127.0.0.2>two\n")
        check_all_was_heard(speaker, listener)


def test_a_character_that_is_typed_slowly_is_not_torn() -> None:
    """LINE-2, LINE-5, TEXT-1: a silence in the middle of it delivers what is before it."""
    with room("--workers", 1) as here:
        speaker, listener = two(here)
        hand = "👋".encode()
        speaker.say(b"hello " + hand[:2])
        listener.hear("<127.0.0.2>hello ")
        speaker.say(hand[2:] + b"\n")
        listener.hear("\n<127.0.0.2>👋\n")
        check_all_was_heard(speaker, listener)


def test_a_long_line_arrives_whole() -> None:
    """LINE-7: of 2,048 bytes as everywhere, and of the 8 KiB that are ours."""
    with room("--workers", 2, *NEVER_SILENT) as here:
        speaker, listener = two(here)
        for size in (2048, LONGEST):
            text = b"0123456789abcdef" * (size // 16)
            speaker.say(text + b"\n")
            listener.hear(b"<127.0.0.2>" + text + b"\n")
        check_all_was_heard(speaker, listener)


@pytest.mark.parametrize("limit", ["100", "8K"])
def test_a_longer_line_arrives_in_pieces_and_none_of_it_is_lost(limit: str) -> None:
    """LINE-7, PREFIX-4, TEXT-1: each piece is a message; none is cut inside a character."""
    with room("--workers", 2, "--max-line", limit, *NEVER_SILENT) as here:
        speaker, listener = two(here)
        text = "Một hai ba bốn năm, 👋 " * 2000
        speaker.say(text + "\n")
        speaker.say("end\n")
        *lines, _ = listener.hear_until(">end\n").decode().split("\n")[:-1]
        assert all(line.startswith("<127.0.0.2>") for line in lines)
        pieces = [line.removeprefix("<127.0.0.2>") for line in lines]
        assert "".join(pieces) == text
        most = 100 if limit == "100" else LONGEST
        assert max(len(piece.encode()) for piece in pieces) <= most
        assert min(len(piece.encode()) for piece in pieces[:-1]) > most - 4


def test_a_flood_without_line_end_does_not_stall_the_room() -> None:
    """LINE-7, CAST-1: as it did ssh-chat's (#118). Others talk meanwhile; no byte of it is lost."""
    with room("--workers", 2, *NEVER_SILENT, *UNLIMITED) as here:
        flooder, listener = two(here)
        speaker = here.join("127.0.0.4")
        text = bytes(random.Random(1).choices(b"abcdefghijklmnopqrstuvwxyz ", k=1 << 16)) * 32
        flood = [text[start : start + 50_000] for start in range(0, len(text), 50_000)]
        talk = [b"%d\n" % number for number in range(1000)]
        talked = b"".join(speaker.prefix + line for line in talk)
        size = len(text) + len(text) // LONGEST * len("<127.0.0.2>\n") + len(talked)
        exchange({flooder: [*flood, b"\n"], speaker: talk}, {listener: size}, ahead=1 << 20)
        flooder.hear(talked)
        heard = listener.take(size).splitlines(keepends=True)
        pieces = [line for line in heard if line.startswith(flooder.prefix)]
        assert b"".join(line[len(flooder.prefix) : -1] for line in pieces) == text
        assert b"".join(line for line in heard if line not in pieces) == talked


@pytest.mark.parametrize("workers", [1, 2])
def test_a_paste_of_a_megabyte_arrives_whole(workers: int) -> None:
    """CAST-3, CAST-4, LINE-3: where others refuse or lose it (ssh-chat #318, #363)."""
    with room("--workers", workers, *NEVER_SILENT) as here:
        speaker, listener = two(here)
        lines = [f"{number}: a line that was pasted 你好\n".encode() for number in range(30_000)]
        heard = b"".join(speaker.prefix + line for line in lines)
        assert sum(map(len, lines)) > 1_000_000
        exchange({speaker: [b"".join(lines)]}, {listener: len(heard)})
        listener.hear(heard)
        check_all_was_heard(speaker, listener)


# --- text ----------------------------------------------------------------------------------------


def test_every_character_arrives_unharmed() -> None:
    """TEXT-1: every letter, mark, number, symbol of Unicode that is not a control."""
    harmful = {*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F}
    harmful |= {*range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)}
    codes = [code for code in range(0x20, 0x110000, 1) if code not in harmful]
    with room("--workers", 2, *NEVER_SILENT) as here:
        speaker, listener = two(here)
        # All of the first plane, and a sample of the others.
        kept = [code for code in codes if code < 0x10000 or code % 97 == 0]
        text = "".join(map(chr, kept))
        lines = [text[start : start + 1000] for start in range(0, len(text), 1000)]
        speaker.say("".join(line + "\n" for line in lines))
        listener.hear("".join(f"<127.0.0.2>{line}\n" for line in lines))
        check_all_was_heard(speaker, listener)


NOT_UTF8 = [
    b"\xff\xfe",
    b"caf\xe9",  # Latin-1
    b"\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80",  # overlong, a surrogate, beyond Unicode
    b"cut \xf0\x9f\x91",
    bytes(range(0x80, 0x100)),
]


def test_bytes_that_are_not_utf8() -> None:
    """TEXT-2: delivered as U+FFFD, and harm neither the connection nor the room."""
    with room("--workers", 1) as here:
        speaker, listener = two(here)
        for said in NOT_UTF8:
            speaker.say(said + b"\n")
            listener.hear("<127.0.0.2>" + said.decode(errors="replace") + "\n")
        check_all_was_heard(speaker, listener)


def test_control_characters_cant_reach_anothers_terminal() -> None:
    """TEXT-3: C0 (TAB excepted) and DEL as their pictures; C1, directions, separators as U+FFFD."""
    c0 = [code for code in range(0x20) if chr(code) not in "\t\n"]
    replaced = [*range(0x80, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F)]
    replaced += [*range(0x2066, 0x206A), 0x2028, 0x2029]
    with room("--workers", 2) as here:
        speaker, listener = two(here)
        speaker.say("".join(chr(code) + "-" for code in c0) + "\x7f\ttab\n")
        pictures = "".join(chr(0x2400 + code) + "-" for code in c0)
        listener.hear(f"<127.0.0.2>{pictures}\N{SYMBOL FOR DELETE}\ttab\n")
        speaker.say("".join(chr(code) + "-" for code in replaced) + "\n")
        listener.hear("<127.0.0.2>" + "\ufffd-" * len(replaced) + "\n")
        check_all_was_heard(speaker, listener)
        here.prints("<127.0.0.2>that was all\n")


def test_nobody_speaks_in_anothers_name() -> None:
    """PREFIX-4: whatever a line is made of, every line that a terminal shows begins truly."""
    ends = ["\r", "\r\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\n\r"]
    moves = ["\x1b[2K\x1b[1G", "\x1b[A", "\x1bM", "\x9b1G", "\u202e", "\0", "\b" * 20, "\x7f" * 20]
    with room("--workers", 2) as here:
        speaker, listener = two(here)
        for trick in ends + moves:
            speaker.say(f"x{trick}<127.0.0.9>I am not 127.0.0.2\n")
        speaker.say(f"x{''.join(ends + moves)}<127.0.0.9>nor am I\nend\n")
        heard = listener.hear_until(">end\n").decode()
        for line in heard.splitlines():  # which knows more line ends than LF
            assert line.startswith("<127.0.0.2>"), heard
        for harmful in "\r\x1b\x9b\u202e\0\b\x7f":
            assert harmful not in heard
        # Nor by text without line end, and what comes behind it.
        speaker.say("<127.0.0.9>")
        listener.hear("<127.0.0.2><127.0.0.9>")
        speaker.say("<127.0.0.9>no\n")
        listener.hear("\n<127.0.0.2><127.0.0.9>no\n")


def test_garbage() -> None:
    """TEXT-2, PREFIX-4, LEAVE-1: half a megabyte of random bytes from each of four; all talk on."""
    with room("--workers", 2) as here:
        vandals = here.join_all(addresses(4))
        one, other = here.join("127.0.8.8"), here.join("127.0.8.9")
        for number, vandal in enumerate(vandals):
            noise = random.Random(number).randbytes(1 << 19)
            assert vandal.say_what_fits(noise)
            vandal.reset()
        one.say("what was that?\n")
        heard = other.hear_until("\n<127.0.8.8>what was that?\n")
        for line in heard.decode().removesuffix("\n").split("\n"):
            assert line.startswith(("<127.0.0.", "<127.0.8.8>"))
        other.say("noise\n")
        assert one.hear_until("<127.0.8.9>noise\n").endswith(b"\n<127.0.8.9>noise\n")


def test_an_urgent_byte_is_text() -> None:
    """CAST-3: a byte that is sent out of band stays in its place, and nothing else happens."""
    with room("--workers", 1, *NEVER_SILENT) as here:
        speaker, listener = two(here)
        speaker.say("one ")
        speaker.say_urgently(b"!")
        speaker.say(" two\n")
        listener.hear("<127.0.0.2>one ! two\n")
        speaker.say_urgently(b"\n")
        listener.hear("<127.0.0.2>\n")
        check_all_was_heard(speaker, listener)
