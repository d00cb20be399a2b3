"""The client: its pure parts by example and byte by byte, and the real program at a real terminal.

What the screen shows is judged by pyte, which interprets what was written as a terminal does.
"""

import contextlib
import errno
import hashlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chatroom
from chatroom.client import main
from chatroom.client import session as session_module
from chatroom.client.cells import Place, cells, place, tail
from chatroom.client.editor import Action, Editor, Leave, Send
from chatroom.client.front import Plain, Prompt, Reaction
from chatroom.client.screen import ELLIPSIS, Screen
from chatroom.client.session import FULL, Ending, Session
from chatroom.client.signals import Signals
from chatroom.client.streams import CHUNK
from tests.client_drivers import (
    CLIENT,
    ROOT,
    Display,
    Peer,
    Room,
    Typist,
    read_until,
    running,
    unread,
    until,
)

pytestmark = pytest.mark.timeout(30)

LINES = b"0123456789abcde\n" * (CHUNK // 16)

# --- the editor: keys in, actions out ------------------------------------------------------------

KEYS: list[tuple[str, bytes, list[Action], str]] = [
    # what is typed, its bytes, what is done, what is left in the line
    ("nothing", b"", [], ""),
    ("text", b"hello", [], "hello"),
    ("Enter", b"hello\r", [Send("hello")], ""),
    ("Enter where the terminal makes LF of it", b"hello\n", [Send("hello")], ""),
    ("an empty line", b"\n", [Send("")], ""),
    ("two lines", b"a\nb\nc", [Send("a"), Send("b")], "c"),
    ("a character of each length", "aé你👍\n".encode(), [Send("aé你👍")], ""),
    ("bytes that are no UTF-8", b"a\xffb\n", [Send("a\ufffdb")], ""),
    ("a tab", b"a\tb", [], "a\tb"),
    ("other control characters", b"a\x00\x01\x0b\xc2\x85b", [], "ab"),
    ("Backspace", b"ab\x7f", [], "a"),
    ("Backspace as Ctrl-H", b"ab\b", [], "a"),
    ("Backspace with nothing left", b"a\x7f\x7f\x7fb", [], "b"),
    ("Backspace over a wide character", "a你".encode() + b"\x7f", [], "a"),
    ("Backspace over an accent of its own", b"ae\xcc\x81\x7f", [], "a"),
    ("Backspace over joined characters", "a👩‍🔬".encode() + b"\x7f", [], "a"),
    ("Backspace over an accent alone", b"\xcc\x81\x7f", [], ""),
    ("Ctrl-U", b"one two\x15three", [], "three"),
    ("Ctrl-W", b"one two\x17", [], "one "),
    ("Ctrl-W behind a space", b"one two  \x17", [], "one "),
    ("Ctrl-W twice", b"one two\x17\x17", [], ""),
    ("Ctrl-W with nothing left", b"\x17a", [], "a"),
    ("Ctrl-D", b"\x04", [Leave()], ""),
    ("Ctrl-D in a line", b"ab\x04c", [], "abc"),
    ("Ctrl-D after a line", b"ab\n\x04c\n", [Send("ab"), Leave()], ""),
    ("Ctrl-C as a character", b"ab\x03c", [Leave()], "ab"),
    ("arrows", b"a\x1b[A\x1b[D\x1b[1;5Cb\x1bOA\x1bOBc", [], "abc"),
    ("Delete and function keys", b"a\x1b[3~\x1b[15~\x1bOPb", [], "ab"),
    ("the Linux console's F1", b"a\x1b[[Ab", [], "ab"),
    ("the Escape key", b"a\x1bb\x1b\n", [Send("ab")], ""),
    ("the Escape key, then an arrow", b"a\x1b\x1b[Ab", [], "ab"),
    ("Enter in a broken sequence", b"a\x1b[1\nb\x1bO\n", [Send("a"), Send("b")], ""),
    ("a bracketed paste", b"\x1b[200~a\rb\r\x1b[201~c", [Send("a"), Send("b")], "c"),
]
KEY_IDS = [name for name, *_ in KEYS]


@pytest.mark.parametrize(("keys", "actions", "line"), [row[1:] for row in KEYS], ids=KEY_IDS)
def test_keys_are_understood(keys: bytes, actions: list[Action], line: str) -> None:
    editor = Editor()
    assert editor.feed(keys) == actions
    assert editor.line == line


@pytest.mark.parametrize(("keys", "actions", "line"), [row[1:] for row in KEYS], ids=KEY_IDS)
def test_keys_are_understood_byte_by_byte(keys: bytes, actions: list[Action], line: str) -> None:
    editor = Editor()
    done: list[Action] = []
    for byte in keys:
        done += editor.feed(bytes([byte]))
        if Leave() in done:
            break
    assert done == actions
    assert editor.line == line


# --- cells: how much of the screen text takes ----------------------------------------------------


@pytest.mark.parametrize(
    ("char", "width"),
    [
        ("a", 1),
        ("é", 1),
        ("␛", 1),
        ("\ufffd", 1),
        ("…", 1),
        ("你", 2),
        ("Ａ", 2),
        ("👍", 2),
        ("한", 2),
        ("\u0301", 0),
        ("\u200d", 0),
        ("\ufe0f", 0),
        ("\u1161", 0),
    ],
)
def test_a_character_takes_its_cells(char: str, width: int) -> None:
    assert cells(char) == width


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("", 0, (0, 0)),
        ("abc", 0, (0, 3)),
        ("abc", 2, (0, 5)),
        ("0123456789", 0, (0, 10)),
        ("0123456789a", 0, (1, 1)),
        ("0123456789" * 3, 0, (2, 10)),
        ("你好你好你", 0, (0, 10)),
        ("a你好你好你", 0, (1, 2)),
        ("e\u0301" * 10, 0, (0, 10)),
        ("\t", 0, (0, 8)),
        ("a\tb", 0, (0, 9)),
        ("\t\t\tb", 0, (0, 10)),
        ("0123456789\tb", 0, (1, 1)),
    ],
)
def test_text_ends_in_its_place(text: str, start: int, expected: tuple[int, int]) -> None:
    assert place(text, 10, start) == Place(*expected)


@pytest.mark.parametrize(
    ("text", "room", "end"),
    [
        ("abc", 3, "abc"),
        ("abc", 2, "bc"),
        ("abc", 0, ""),
        ("abc", -1, ""),
        ("", -1, ""),
        ("a你好", 4, "你好"),
        ("a你好", 3, "好"),
        ("a\tb", 9, "\tb"),
        ("a\tb", 8, "b"),
    ],
)
def test_the_tail_of_a_text_fits(text: str, room: int, end: str) -> None:
    assert tail(text, room) == end


# --- the screen: what arrives never tears what is being typed ------------------------------------


class Glass:
    """A terminal that shows what a `Screen` writes."""

    def __init__(self, columns: int = 20, rows: int = 8) -> None:
        self._display = Display(columns, rows)
        self._stream = pyte.Stream(self._display)
        self.screen = Screen(columns, rows)
        self.show(self.screen.open())

    def show(self, text: str) -> None:
        self._stream.feed(text)

    def resize(self, columns: int, rows: int) -> None:
        self._display.resize(lines=rows, columns=columns)
        self.show(self.screen.resized(columns, rows))

    @property
    def rows(self) -> list[str]:
        return self._display.rows

    @property
    def cursor(self) -> tuple[int, int]:
        return self._display.place


@pytest.fixture
def glass() -> Glass:
    return Glass()


def test_the_prompt_waits_at_first(glass: Glass) -> None:
    assert glass.rows == ["<You>"]
    assert glass.cursor == (0, 5)


def test_what_arrives_goes_above_what_is_typed(glass: Glass) -> None:
    glass.show(glass.screen.typed("hel"))
    glass.show(glass.screen.arrived("<::1>one\n<::1>two\n"))
    glass.show(glass.screen.typed("hello"))
    assert glass.rows == ["<::1>one", "<::1>two", "<You>hello"]
    assert glass.cursor == (2, 10)


def test_what_arrives_goes_above_what_is_typed_over_several_rows(glass: Glass) -> None:
    glass.show(glass.screen.typed("a line that takes three rows of the screen"))
    glass.show(glass.screen.arrived("<::1>one\n"))
    assert glass.rows == ["<::1>one", "<You>a line that tak", "es three rows of the", " screen"]
    glass.show(glass.screen.typed(""))
    assert glass.rows == ["<::1>one", "<You>"]


def test_what_is_typed_may_fill_its_row(glass: Glass) -> None:
    glass.show(glass.screen.typed("fifteen letters"))
    glass.show(glass.screen.arrived("one\n"))
    assert glass.rows == ["one", "<You>fifteen letters"]
    glass.show(glass.screen.sent("fifteen letters"))
    assert glass.rows == ["one", "<You>fifteen letters", "<You>"]


def test_wide_characters_are_counted_as_such(glass: Glass) -> None:
    # 14 cells: the eighth character does not fit at the right edge, and leaves a cell unused there.
    glass.show(glass.screen.typed("你好你好你好你好"))
    glass.show(glass.screen.arrived("one\n"))
    assert [row.replace(" ", "") for row in glass.rows] == ["one", "<You>你好你好你好你", "好"]
    assert glass.cursor == (2, 2)


def test_ones_own_line_stays(glass: Glass) -> None:
    glass.show(glass.screen.typed("mine"))
    glass.show(glass.screen.sent("mine"))
    glass.show(glass.screen.arrived("theirs\n"))
    assert glass.rows == ["<You>mine", "theirs", "<You>"]


def test_a_line_without_end_goes_on_where_it_ended(glass: Glass) -> None:
    glass.show(glass.screen.typed("ty"))
    glass.show(glass.screen.arrived("no"))
    assert glass.rows == ["no", "<You>ty"]
    glass.show(glass.screen.typed("typed"))
    glass.show(glass.screen.arrived(" end"))
    assert glass.rows == ["no end", "<You>typed"]
    glass.show(glass.screen.arrived("\n"))
    assert glass.rows == ["no end", "<You>typed"]
    glass.show(glass.screen.arrived("next\n"))
    assert glass.rows == ["no end", "next", "<You>typed"]


def test_a_line_without_end_may_fill_its_row(glass: Glass) -> None:
    glass.show(glass.screen.arrived("exactly twenty cells"))
    assert glass.rows == ["exactly twenty cells", "<You>"]
    glass.show(glass.screen.arrived(" and more"))
    assert glass.rows == ["exactly twenty cells", " and more", "<You>"]


def test_the_end_of_a_line_that_filled_its_row_adds_none(glass: Glass) -> None:
    glass.show(glass.screen.arrived("exactly twenty cells"))
    glass.show(glass.screen.arrived("\n"))
    glass.show(glass.screen.arrived("\n"))
    assert glass.rows == ["exactly twenty cells", "", "<You>"]


def test_a_line_without_end_goes_on_below_ones_own(glass: Glass) -> None:
    glass.show(glass.screen.arrived("no end"))
    glass.show(glass.screen.sent("mine"))
    glass.show(glass.screen.arrived("\nnext\n"))
    assert glass.rows == ["no end", "<You>mine", "next", "<You>"]


def test_a_line_without_end_that_wraps_goes_on_where_it_ended(glass: Glass) -> None:
    glass.show(glass.screen.arrived("a line that is longer than"))
    glass.show(glass.screen.arrived(" the screen is wide, by far"))
    assert glass.rows == ["a line that is longe", "r than the screen is", " wide, by far", "<You>"]


def test_a_tab_is_where_the_terminal_puts_it(glass: Glass) -> None:
    glass.show(glass.screen.arrived("a\tb"))
    glass.show(glass.screen.arrived("c\td\te"))
    glass.show(glass.screen.arrived("f\n"))
    assert glass.rows == ["a       bc      d  e", "f", "<You>"]


def test_of_a_line_higher_than_the_screen_the_end_is_shown() -> None:
    glass = Glass(columns=20, rows=4)
    typed = "".join(f"{number:03} " for number in range(100))
    glass.show(glass.screen.arrived("one\n"))
    glass.show(glass.screen.typed(typed))
    assert glass.rows[0] == "one"
    assert "".join(glass.rows[1:]).startswith(f"<You>{ELLIPSIS}")
    assert "".join(glass.rows).endswith(" 098 099")
    glass.show(glass.screen.arrived("two\n"))
    assert glass.rows[0] == "two"
    glass.show(glass.screen.typed(""))
    assert glass.rows == ["two", "<You>"]


def test_a_sent_line_is_shown_whole_however_long() -> None:
    glass = Glass(columns=20, rows=4)
    typed = " ".join(f"{number:03}" for number in range(1, 22))
    glass.show(glass.screen.typed(typed))
    glass.show(glass.screen.sent(typed))
    assert glass.rows == [" 010 011 012 013 014", " 015 016 017 018 019", " 020 021", "<You>"]


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (2, 1), (5, 1), (6, 2)])
def test_a_tiny_screen_breaks_nothing(columns: int, rows: int) -> None:
    glass = Glass(columns, rows)
    glass.show(glass.screen.typed("typed 你好"))
    glass.show(glass.screen.arrived("arrived\nno end"))
    glass.show(glass.screen.sent("typed 你好"))
    glass.show(glass.screen.close())
    assert glass.rows[-1] == ""


def test_a_narrower_screen_is_counted_as_such(glass: Glass) -> None:
    glass.show(glass.screen.typed("four"))
    glass.resize(10, 8)
    glass.show(glass.screen.typed("four and some"))
    glass.show(glass.screen.arrived("one\n"))
    assert glass.rows == ["one", "<You>four", "and some"]


def test_what_the_terminal_wrapped_anew_is_erased_as_it_is_now() -> None:
    screen = Screen(20, 8)
    screen.open()
    screen.typed("fifteen letters")
    # Twenty cells at a width of eight: the cursor is in the third row.
    assert screen.resized(8, 8) == "\r\x1b[K\x1b[A" * 2 + "\r\x1b[K<You>fifteen letters"


def test_after_another_size_a_line_without_end_goes_on_below(glass: Glass) -> None:
    glass.show(glass.screen.arrived("no end"))
    glass.resize(30, 8)
    glass.show(glass.screen.arrived(" here"))
    assert glass.rows == ["no end", " here", "<You>"]
    glass.resize(20, 8)
    glass.show(glass.screen.arrived("\nnext\n"))
    assert glass.rows == ["no end", " here", "next", "<You>"]


def test_after_another_program_had_the_screen_its_text_stays(glass: Glass) -> None:
    glass.show(glass.screen.typed("a line that takes two rows"))
    glass.show(glass.screen.arrived("no end"))
    glass.show("\r\n$ fg\r\n")
    glass.show(glass.screen.resumed(20, 8))
    glass.show(glass.screen.arrived("here\n"))
    typed = ["<You>a line that tak", "es two rows"]
    assert glass.rows == ["no end", *typed, "$ fg", "here", *typed]


def test_at_the_end_the_prompt_is_taken_away(glass: Glass) -> None:
    glass.show(glass.screen.arrived("one\n"))
    glass.show(glass.screen.close())
    assert glass.rows == ["one", ""]
    glass.show(glass.screen.arrived("no end"))
    glass.show(glass.screen.arrived(" here"))
    assert glass.rows == ["one", "no end here", ""]


def test_at_the_end_what_was_typed_stays(glass: Glass) -> None:
    glass.show(glass.screen.arrived("no end"))
    glass.show(glass.screen.typed("not sent"))
    glass.show(glass.screen.close())
    glass.show(glass.screen.close())
    glass.show(glass.screen.arrived("here\n"))
    assert glass.rows == ["no end", "<You>not sent", "here", ""]


def test_an_accent_that_arrives_late_finds_its_letter(glass: Glass) -> None:
    glass.show(glass.screen.arrived("cafe"))
    glass.show(glass.screen.arrived("\u0301s\n"))
    assert glass.rows == ["cafés", "<You>"]


# Not in it: tabs, on which terminals differ at the right edge.
CHARACTERS = ["a", "b", "c", " ", "你", "👍", "e\u0301"]
TYPED = st.lists(st.sampled_from(CHARACTERS), max_size=25).map("".join)
ARRIVED = st.lists(st.sampled_from([*CHARACTERS, "\n"]), max_size=40).map("".join)
DEEDS = st.lists(
    st.tuples(st.just("arrived"), ARRIVED)
    | st.tuples(st.just("typed"), TYPED)
    | st.tuples(st.just("sent"), TYPED),
    max_size=12,
)


def transcript(deeds: list[tuple[str, str]]) -> list[str]:
    """What should stand on the screen: what arrived, in whole lines, one's own, and the prompt."""
    lines: list[str] = []
    typed = ""
    unended = below = False  # The last line that arrived has yet to end; one's own is below it.
    for deed, text in deeds:
        if deed == "typed":
            typed = text
        elif deed == "sent":
            lines.append("<You>" + text)
            typed, below = "", True
        elif unended and below and text == "\n":
            unended = False
        elif text:
            if unended:
                text = text.removeprefix("\n") if below else lines.pop() + text  # noqa: PLW2901
            *ended, rest = text.split("\n")
            lines += [*ended, rest] if rest else ended
            unended, below = bool(rest), False
    return [*lines, "<You>" + typed]


@pytest.mark.parametrize("rows", [10, 1000])
@given(columns=st.integers(6, 20).map(lambda half: 2 * half), deeds=DEEDS)
def test_whatever_comes_when_the_screen_shows_whole_lines(
    rows: int, columns: int, deeds: list[tuple[str, str]]
) -> None:
    glass = Glass(columns, rows)
    for deed, text in deeds:
        glass.show(getattr(glass.screen, deed)(text))
    expected = Display(columns, 4000)
    pyte.Stream(expected).feed("\r\n".join(transcript(deeds)))
    # What was above may have scrolled off.
    assert glass.rows == expected.rows[-len(glass.rows) :]
    assert glass.cursor[1] == expected.place[1]


# --- the fronts: what is sent, and what is shown -------------------------------------------------


def test_off_the_terminal_everything_goes_through() -> None:
    front = Plain()
    assert front.open() == ""
    assert front.typed(b"any\xff\r\nthing") == Reaction(send=b"any\xff\r\nthing")
    assert front.arrived("text") == "text"
    assert front.close() == ""


def test_lines_are_sent_when_they_are_complete() -> None:
    prompt = Prompt(20, 8)
    prompt.open()
    assert prompt.typed(b"on") == Reaction(show="\r\x1b[K<You>on")
    sent, shown, leave = prompt.typed("e 你\ntwo\nth".encode())
    assert sent == "one 你\ntwo\n".encode()
    assert re.findall(r"<You>([^\r]*)\r\n", shown) == ["one 你", "two"]
    assert shown.endswith("<You>th")
    assert not leave


def test_who_leaves_has_sent_what_came_before() -> None:
    prompt = Prompt(20, 8)
    prompt.open()
    prompt.typed(b"not this")
    reaction = prompt.typed(b"\x15this\n\x04")
    assert reaction.send == b"this\n"
    assert reaction.leave
    assert prompt.close() == "\r\x1b[K"


def test_what_was_taken_back_before_leaving_is_taken_away() -> None:
    prompt = Prompt(20, 8)
    prompt.open()
    prompt.typed(b"not this")
    assert prompt.typed(b"\x15\x04") == Reaction(show="\r\x1b[K<You>", leave=True)
    assert prompt.close() == "\r\x1b[K"


def test_what_is_typed_is_no_more_trusted_than_what_arrives() -> None:
    prompt = Prompt(20, 8)
    prompt.open()
    # A bidirectional control, from a paste: sent as it is, but not shown.
    assert prompt.typed("a\u202eb".encode()).show.endswith("<You>a\ufffdb")
    sent, shown, _ = prompt.typed(b"\n")
    assert sent == "a\u202eb\n".encode()
    assert "<You>a\ufffdb\r\n" in shown


# --- the program at a terminal -------------------------------------------------------------------


@pytest.fixture
def room() -> Iterator[Room]:
    with contextlib.closing(Room()) as room:
        yield room


Sit = Callable[..., Typist]


@pytest.fixture
def sit() -> Iterator[Sit]:
    """Sit down at a terminal on which a program was started."""
    with contextlib.ExitStack() as stack:

        def sit_down(command: list[str], **options: Any) -> Typist:
            return stack.enter_context(contextlib.closing(Typist(command, **options)))

        yield sit_down


@pytest.fixture
def typist(room: Room, sit: Sit) -> Typist:
    """A user who sees the prompt."""
    typist = sit([*CLIENT, *room.address])
    typist.sees("<You>")
    return typist


@pytest.fixture
def peer(room: Room, typist: Typist) -> Peer:
    return room.accept()


def test_a_conversation(typist: Typist, peer: Peer) -> None:
    peer.say("Welcome\n")
    typist.sees("Welcome", "<You>")
    typist.type("hal")
    typist.sees("Welcome", "<You>hal")
    peer.say("<::1>good morning\n")
    typist.sees("Welcome", "<::1>good morning", "<You>hal")
    typist.type("\x7f\x7fello 你好\r")
    assert peer.hear(13) == "hello 你好\n".encode()
    typist.sees("Welcome", "<::1>good morning", "<You>hello 你好", "<You>")


def test_a_line_that_wraps_is_not_torn(typist: Typist, peer: Peer) -> None:
    typist.type("你好, this is more than fits into one row of the screen on which it is typed")
    rows = ["<You>你好, this is more than fits into one row of the screen", " on which it is typed"]
    typist.sees(*rows)
    peer.say("one\ntwo\n")
    typist.sees("one", "two", *rows)


def test_a_character_that_is_cut_arrives_whole(typist: Typist, peer: Peer) -> None:
    peer.say(b"a\xe4\xbd")
    typist.sees("a", "<You>")
    peer.say(b"\xa0b\xf0\x9f")
    typist.sees("a你b", "<You>")
    peer.say(b"\x91\x8d\n")
    typist.sees("a你b👍", "<You>")


def test_a_text_without_end_is_shown_and_ended_later(typist: Typist, peer: Peer) -> None:
    typist.type("ty")
    peer.say("<::1>no end")
    typist.sees("<::1>no end", "<You>ty")
    peer.say("\n<::2>next\n")
    typist.sees("<::1>no end", "<::2>next", "<You>ty")


def test_control_characters_do_not_reach_the_terminal(typist: Typist, peer: Peer) -> None:
    peer.say("<::1>a\x1b[2J\rb\x9b2J\u202e\n")
    typist.sees("<::1>a␛[2J␍b\ufffd2J\ufffd", "<You>")


def test_each_pasted_line_is_sent(typist: Typist, peer: Peer) -> None:
    typist.type("\x1b[200~one\rtwo\r\x1b[201~three")
    typist.sees("<You>one", "<You>two", "<You>three")
    assert peer.hear(8) == b"one\ntwo\n"


def test_ctrl_d_leaves(typist: Typist, peer: Peer) -> None:
    assert typist.modes() != typist.found
    typist.type("last\n\x04")
    assert peer.hear_all() == b"last\n"
    typist.sees("<You>last", "")
    peer.say("goodbye\n")
    peer.close()
    assert typist.end() == 0
    assert typist.screen.rows == ["<You>last", "goodbye", ""]
    assert typist.modes() == typist.found


def test_ctrl_d_leaves_though_the_line_is_cut(typist: Typist, peer: Peer) -> None:
    typist.type("\x04")
    assert peer.hear_all() == b""
    peer.reset()
    assert typist.end() == 0
    assert typist.screen.rows == [""]


def test_ctrl_c_leaves_and_what_was_typed_stays(typist: Typist, peer: Peer) -> None:
    typist.type("not sent")
    typist.sees("<You>not sent")
    typist.type("\x03")
    assert typist.end() == 0
    assert typist.screen.rows == ["<You>not sent", ""]
    assert typist.modes() == typist.found
    assert peer.hear_all() == b""


ENDINGS = [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)]


@pytest.mark.parametrize(("number", "code"), ENDINGS)
def test_a_signal_ends_it_and_the_terminal_is_restored(
    typist: Typist, number: signal.Signals, code: int
) -> None:
    assert typist.modes() != typist.found
    typist.process.send_signal(number)
    assert typist.end() == code
    assert typist.screen.rows == [""]
    assert typist.modes() == typist.found


# A terminal that nobody reads, as when Ctrl-S stopped it or its ssh hangs, still has room when a
# write to it begins, and none before that ends.


def fill(typist: Typist, peer: Peer, said: bytes = LINES * 3) -> None:
    """Say more than the terminal holds, until it takes nothing."""
    peer.say(said)

    # Its writer is not told when a little of what it holds goes on from one of the kernel's buffers
    # into the next; that there is more to write makes it look.
    def filled() -> bool:
        peer.say("more\n")
        return typist.is_stuck()

    until(filled)


@pytest.mark.parametrize(("number", "code"), ENDINGS)
def test_a_signal_ends_it_though_nobody_reads_the_terminal(
    typist: Typist, peer: Peer, number: signal.Signals, code: int
) -> None:
    fill(typist, peer)
    typist.process.send_signal(number)
    assert typist.end() == code
    assert typist.modes() == typist.found


@pytest.mark.parametrize("key", ["\x04", "\x03"], ids=["Ctrl-D", "Ctrl-C"])
def test_a_key_leaves_though_nobody_reads_the_terminal(
    typist: Typist, peer: Peer, key: str
) -> None:
    fill(typist, peer)
    typist.type(key)
    assert typist.end() == 0
    assert typist.modes() == typist.found


@pytest.mark.parametrize(("number", "code"), ENDINGS)
def test_a_signal_ends_it_though_nobody_reads_the_terminal_it_is_piped_to(
    room: Room, sit: Sit, number: signal.Signals, code: int
) -> None:
    typist = sit([*CLIENT, *room.address], stdin=subprocess.DEVNULL)
    fill(typist, room.accept())
    typist.process.send_signal(number)
    assert typist.end() == code


def test_what_a_terminal_did_not_take_is_shown_when_it_does(typist: Typist, peer: Peer) -> None:
    said = b"".join(b"%063d\n" % number for number in range(3000))
    fill(typist, peer, said)
    typist.type("two\n")
    assert peer.hear(4) == b"two\n"
    last = said.split()[-1]
    typist.wait(lambda: last in typist.written and b"<You>two" in typist.written)
    assert re.findall(rb"\d{63}", typist.written) == said.split()


# The terminal's name can't be opened after `su`: it is another user's. Without control of it, the
# description that others share is all there is.
NAMELESS = """
import os, sys
def refused(_descriptor):
    raise PermissionError
for name in sys.argv.pop(1).split():
    setattr(os, name, refused)
from chatroom.client import main
sys.exit(main())
"""


def test_a_terminal_whose_name_cannot_be_opened_stops_nothing_either(room: Room, sit: Sit) -> None:
    typist = sit([sys.executable, "-c", NAMELESS, "ttyname", *room.address])
    typist.sees("<You>")
    fill(typist, room.accept())
    typist.type("\x04")
    assert typist.end() == 0
    assert typist.modes() == typist.found


def test_a_terminal_that_cannot_be_opened_is_written_to_all_the_same(room: Room, sit: Sit) -> None:
    typist = sit([sys.executable, "-c", NAMELESS, "ttyname tcgetpgrp", *room.address])
    typist.sees("<You>")
    room.accept().say("one\n")
    typist.sees("one", "<You>")


def test_who_shares_the_terminal_does_not_find_it_changed(typist: Typist, peer: Peer) -> None:
    peer.say("one\n")
    typist.sees("one", "<You>")
    assert typist.is_blocking()


def test_a_signal_ends_it_though_the_terminal_does_not_take_why_it_ended(
    room: Room, sit: Sit
) -> None:
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    typist = sit([*CLIENT, *room.address], **streams)
    typist.type("\x13")  # Ctrl-S
    until(typist.is_stuck)
    peer = room.accept()
    peer.socket.shutdown(socket.SHUT_WR)
    assert peer.hear_all() == b""

    # Again and again: one that comes while its handlers are being taken down is not heeded.
    def ended() -> bool:
        typist.process.send_signal(signal.SIGTERM)
        return typist.process.poll() is not None

    until(ended)


@pytest.mark.parametrize(
    ("cut", "why"),
    [(Peer.close, "closed by the server"), (Peer.reset, "Connection reset by peer")],
    ids=["closed", "reset"],
)
def test_a_lost_connection_is_said(
    typist: Typist, peer: Peer, cut: Callable[[Peer], None], why: str
) -> None:
    peer.say("Welcome\n")
    typist.type("not sent")
    typist.sees("Welcome", "<You>not sent")
    cut(peer)
    assert typist.end() == 1
    said = f"chatroom.client: connection lost: {why}"
    assert typist.screen.rows == ["Welcome", "<You>not sent", said, ""]
    assert typist.modes() == typist.found


def test_another_size_of_the_screen_is_heeded(typist: Typist, peer: Peer) -> None:
    typist.type("fifteen letters")
    typist.sees("<You>fifteen letters")
    typist.resize(25, 10)
    typist.type(" and even more")
    typist.sees("<You>fifteen letters and", "even more")
    peer.say("one\n")
    typist.sees("one", "<You>fifteen letters and", "even more")


def test_a_terminal_without_size_is_taken_for_a_usual_one(room: Room, sit: Sit) -> None:
    typist = sit([*CLIENT, *room.address], columns=80, rows=24, says_size=False)
    typist.sees("<You>")
    typist.type("a" * 74)
    typist.sees("<You>" + "a" * 74)
    typist.type("bcd")
    typist.sees("<You>" + "a" * 74 + "b", "cd")
    room.accept().say("one\n")
    typist.sees("one", "<You>" + "a" * 74 + "b", "cd")


# A shell that runs one job, and each time that it was stopped continues it when Enter is pressed.
SHELL = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = subprocess.Popen(sys.argv[1:], process_group=0)
while True:
    os.tcsetpgrp(0, job.pid)
    _, status = os.waitpid(job.pid, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        os._exit(os.waitstatus_to_exitcode(status))
    input(" stopped ")
    os.tcsetpgrp(0, job.pid)
    os.killpg(job.pid, signal.SIGCONT)
"""


def test_it_can_be_stopped_and_continued(room: Room, sit: Sit) -> None:
    typist = sit([sys.executable, "-c", SHELL, *CLIENT, *room.address])
    typist.sees("<You>")
    peer = room.accept()
    typist.type("half")
    typist.sees("<You>half")
    rows: list[str] = []
    for _ in range(2):
        typist.type("\x1a")
        rows.append("<You>half stopped")
        typist.sees(*rows)
        assert typist.modes() == typist.found
        typist.type("\n")
        typist.sees(*rows, "<You>half")
        assert typist.modes() != typist.found
        peer.say("one\n")
        rows.append("one")
        typist.sees(*rows, "<You>half")
    typist.type(" a line\n\x04")
    assert peer.hear_all() == b"half a line\n"
    peer.close()
    assert typist.end() == 0
    assert typist.modes() == typist.found


def test_it_goes_on_where_no_shell_could_continue_it(typist: Typist, peer: Peer) -> None:
    typist.type("ha")
    typist.sees("<You>ha")
    typist.type("\x1a")
    peer.say("one\n")
    typist.sees("one", "<You>ha")
    assert typist.modes() != typist.found
    typist.type("lf")
    typist.sees("one", "<You>half")


def test_a_terminal_that_hangs_up_ends_it(typist: Typist, peer: Peer) -> None:
    typist.hang_up()
    assert peer.hear_all() == b""
    assert typist.process.wait(10) == 129


def test_who_leaves_waits_for_the_room_only_so_long(typist: Typist, peer: Peer) -> None:
    typist.type("\x04")
    assert typist.end() == 0
    assert peer.hear_all() == b""


WITHOUT_TERMIOS = """
import sys
sys.modules["termios"] = None
from chatroom.client import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("command", "env"),
    [(CLIENT, {"TERM": "dumb"}), ([sys.executable, "-c", WITHOUT_TERMIOS], {})],
    ids=["a dumb terminal", "without termios"],
)
def test_where_no_line_can_be_edited_the_terminal_does_it(
    room: Room, sit: Sit, command: list[str], env: dict[str, str]
) -> None:
    typist = sit([*command, *room.address], env=env)
    peer = room.accept()
    peer.say("Welcome\n")
    typist.sees("Welcome", "")
    typist.type("one\n")
    assert peer.hear(4) == b"one\n"
    typist.sees("Welcome", "one", "")
    assert b"\x1b" not in typist.written
    typist.type("\x04")
    assert peer.hear_all() == b""
    peer.close()
    assert typist.end() == 0


def test_what_arrives_can_be_kept_while_one_types(room: Room, sit: Sit, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    with path.open("wb") as file:
        typist = sit([*CLIENT, *room.address], stdout=file)
    peer = room.accept()
    peer.say("Welcome\n")
    until(lambda: path.read_bytes() == b"Welcome\n")
    typist.type("one\n")
    assert peer.hear(4) == b"one\n"
    typist.type("\x04")
    # The room does not close: who leaves a terminal waits for it only so long.
    assert peer.hear_all() == b""
    assert typist.end() == 0
    assert typist.screen.rows == ["one", ""]
    assert path.read_bytes() == b"Welcome\n"


def test_who_pipes_something_in_sees_no_prompt(room: Room, sit: Sit) -> None:
    typist = sit([*CLIENT, *room.address], stdin=subprocess.DEVNULL)
    peer = room.accept()
    assert peer.hear_all() == b""
    peer.say("Welcome\n")
    peer.close()
    assert typist.end() == 0
    assert typist.written == b"Welcome\r\n"


# --- the program in a pipe -----------------------------------------------------------------------


@contextlib.contextmanager
def piped(
    room: Room, command: Sequence[str] = (), **options: Any
) -> Iterator[tuple[subprocess.Popen[bytes], Peer]]:
    """The client, started by `command` if need be, and the room's end of its connection."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running([*command, *CLIENT, *room.address], **(streams | options)) as process:
        yield process, room.accept()


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    """The exit code, what is left to read of standard output, and standard error."""
    assert process.stdout is not None
    assert process.stderr is not None
    output = b"" if process.stdout.closed else process.stdout.read()
    return process.wait(10), output, process.stderr.read().decode()


def put(process: subprocess.Popen[bytes], data: bytes, *, last: bool = False) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()
    if last:
        process.stdin.close()


def test_what_is_piped_in_is_sent_as_it_is(room: Room) -> None:
    with piped(room) as (process, peer):
        put(process, b"one\r\n\xff\x1b\n")
        assert peer.hear(7) == b"one\r\n\xff\x1b"[:7]
        put(process, b"no end", last=True)
        assert peer.hear_all() == b"\nno end"
        peer.say("<::1>still there\n")
        peer.close()
        assert end(process) == (0, b"<::1>still there\n", "")


@pytest.mark.parametrize("content", [b"", b"one\ntwo\n"], ids=["empty", "lines"])
def test_a_file_is_sent(room: Room, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(content)
    with path.open("rb") as file, piped(room, stdin=file) as (process, peer):
        assert peer.hear_all() == content
        peer.say("answer\n")
        peer.close()
        assert end(process) == (0, b"answer\n", "")


def test_without_input_it_listens(room: Room) -> None:
    with piped(room, stdin=subprocess.DEVNULL) as (process, peer):
        assert peer.hear_all() == b""
        peer.say("one\n")
        assert read_until(process, b"\n") == b"one\n"
        peer.close()
        assert end(process) == (0, b"", "")


def test_what_arrives_is_shown_as_it_comes(room: Room) -> None:
    with piped(room) as (process, peer):
        peer.say("one")
        assert read_until(process, b"one") == b"one"
        peer.say("\ntwo\n")
        assert read_until(process, b"two\n") == b"\ntwo\n"


def test_what_arrives_is_safe_to_show(room: Room) -> None:
    with piped(room, stdin=subprocess.DEVNULL) as (process, peer):
        peer.hear_all()
        peer.say("a\x00\x1b[2Jb\x7f\x85\u202e\u2028\r\n\tx".encode() + b"\xff\xe4\xbd")
        peer.close()
        shown = "a␀␛[2Jb␡\ufffd\ufffd\ufffd␍\n\tx\ufffd\ufffd"
        assert end(process) == (0, shown.encode(), "")


def test_a_slow_room_gets_all_of_it(room: Room, tmp_path: Path) -> None:
    lines = b"".join(b"%063d\n" % number for number in range(80_000))
    path = tmp_path / "lines"
    path.write_bytes(lines)
    room.narrow()
    with path.open("rb") as file, piped(room, stdin=file) as (process, peer):
        # It shows what arrives though what it sends is not taken.
        peer.say("one\n")
        assert read_until(process, b"\n") == b"one\n"
        heard = hashlib.sha256(peer.hear_all())
        assert heard.hexdigest() == hashlib.sha256(lines).hexdigest()
        peer.close()
        assert end(process) == (0, b"", "")


@pytest.mark.parametrize(
    ("cut", "why"),
    [(Peer.close, "closed by the server"), (Peer.reset, "Connection reset by peer")],
    ids=["closed", "reset"],
)
def test_a_connection_that_is_lost_before_all_was_sent_is_an_error(
    room: Room, cut: Callable[[Peer], None], why: str
) -> None:
    with piped(room) as (process, peer):
        peer.say("The room is full\n")
        assert read_until(process, b"\n") == b"The room is full\n"
        cut(peer)
        assert end(process) == (1, b"", f"chatroom.client: connection lost: {why}\n")


def test_a_connection_that_is_cut_after_all_was_sent_is_an_error(room: Room) -> None:
    with piped(room, stdin=subprocess.DEVNULL) as (process, peer):
        assert peer.hear_all() == b""
        peer.reset()
        why = "Connection reset by peer"
        assert end(process) == (1, b"", f"chatroom.client: connection lost: {why}\n")


def test_when_nobody_reads_its_output_it_ends_quietly(room: Room) -> None:
    with piped(room) as (process, peer):
        assert process.stdout is not None
        peer.say("one\n")
        assert read_until(process, b"\n") == b"one\n"
        process.stdout.close()
        peer.say("two\n")
        assert end(process) == (141, b"", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux")
def test_an_output_that_is_full_is_an_error(room: Room) -> None:
    with open("/dev/full", "wb") as full, piped(room, stdout=full) as (process, peer):
        peer.say("one\n")
        assert process.wait(10) == 1
        assert process.stderr is not None
        said = process.stderr.read()
        assert said == b"chatroom.client: standard output: No space left on device\n"


def test_an_input_that_cannot_be_read_is_an_error(room: Room, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, piped(room, stdin=file) as (process, _):
        said = "chatroom.client: standard input: Bad file descriptor\n"
        assert end(process) == (1, b"", said)


def test_an_input_that_does_not_block_is_waited_for(room: Room) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        with piped(room, stdin=reader) as (process, peer):
            peer.say("one\n")
            assert read_until(process, b"\n") == b"one\n"
            os.write(writer, b"two\n")
            assert peer.hear(4) == b"two\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_an_output_that_is_closed_gets_nothing(room: Room) -> None:
    with piped(room, ["sh", "-c", 'exec "$@" >&-', "sh"]) as (process, peer):
        peer.say("for standard output\n")
        put(process, b"for the room\n", last=True)
        assert peer.hear_all() == b"for the room\n"
        peer.close()
        assert end(process) == (0, b"", "")


def test_an_output_that_nobody_reads_stops_nothing_else(room: Room) -> None:
    with piped(room) as (process, peer):
        peer.say("one\n")
        until(lambda: unread(process.stdout) > 0)
        # More than the pipe holds, and than is left in it: who wrote that at once would wait.
        peer.say(LINES * 2)
        until(lambda: unread(process.stdout) > 4)
        put(process, b"two\n")
        assert peer.hear(4) == b"two\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_a_signal_that_was_ignored_stays_so(room: Room) -> None:
    with piped(room, ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]) as (process, peer):
        peer.say("one\n")
        assert read_until(process, b"\n") == b"one\n"
        process.send_signal(signal.SIGHUP)
        put(process, b"two\n", last=True)
        assert peer.hear_all() == b"two\n"
        peer.close()
        assert end(process) == (0, b"", "")


# --- the session: what a real program can't be brought to do at will -----------------------------


class Ready:
    """Something that can always be read: input that brings this and then ends, or signals."""

    def __init__(self, *reads: bytes) -> None:
        self.left = [*reads, b""]
        self._socket, other = socket.socketpair()
        other.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes:
        return self.left.pop(0)

    take = read

    def close(self) -> None:
        self._socket.close()


class Never:
    """Something that can never be read."""

    def __init__(self) -> None:
        self._socket, self._other = socket.socketpair()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes:
        raise AssertionError

    take = read

    def close(self) -> None:
        self._socket.close()
        self._other.close()


class Asked(Never):
    """A signal, once it is asked for."""

    def ask(self, number: signal.Signals) -> None:
        self._other.send(bytes([number]))

    def take(self) -> bytes:
        return self._socket.recv(1)


class Enough(Exception):
    """The test has seen what it wanted to."""


class Refusing:
    """Is not ready after all when it is said to be, `refusals` times; then it is, or gives up."""

    refusals = 0
    gives_up = False

    def refuses(self) -> bool:
        if not self.refusals:
            return False
        self.refusals -= 1
        if self.gives_up and not self.refusals:
            raise Enough
        return True


class Connection(Refusing, socket.socket):
    """A connection to a room, which brings this before anything else.

    To ask it again after it has ended would be to ask for ever.
    """

    is_gone = False
    takes = CHUNK

    def __init__(self, *, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.brings: list[bytes] = []
        self.can_recv = self.can_send = True

    def recv(self, *arguments: int) -> bytes:
        assert self.can_recv
        if self.refuses():
            raise BlockingIOError
        data = self.brings.pop(0) if self.brings else super().recv(*arguments)
        self.can_recv = bool(data)
        return data

    def send(self, data: Any, *flags: int) -> int:
        assert self.can_send
        if self.refuses():
            raise BlockingIOError
        self.can_send = False
        taken = super().send(data[: self.takes], *flags)
        self.can_send = True
        return taken

    def shutdown(self, how: int) -> None:
        if self.is_gone:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        super().shutdown(how)


class Output(Refusing, io.FileIO):
    can_be_waited_for = True

    def fileno(self) -> int:
        assert self.can_be_waited_for
        return super().fileno()

    def write(self, data: Any) -> int:
        # None is what a raw file returns, though its type does not say so.
        return cast("int", None) if self.refuses() else super().write(data)


class Bench:
    """A session whose every part is in reach."""

    def __init__(self, path: Path) -> None:
        ours, theirs = socket.socketpair()
        self.peer = Peer(theirs)
        self.room = Connection(fileno=ours.detach())
        self.room.setblocking(False)
        self._path = path
        self.output = Output(path, "w")

    def run(
        self, source: Ready | Never, signals: Ready | Never, patience: float | None = None
    ) -> Ending:
        with contextlib.closing(source), contextlib.closing(signals):
            return Session(
                self.room,
                source,
                self.output,
                Plain(),
                cast("Signals", signals),
                {},
                patience=patience,
            ).run()

    @property
    def shown(self) -> bytes:
        return self._path.read_bytes()

    def close(self) -> None:
        self.output.close()
        self.room.close()
        self.peer.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with contextlib.closing(Bench(tmp_path / "output")) as bench:
        yield bench


@pytest.mark.parametrize("waits", [True, False], ids=["posix", "Windows"])
def test_what_is_not_ready_after_all_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    monkeypatch.setattr(session_module, "WAITS_FOR_FILES", waits)
    bench.output.can_be_waited_for = waits
    bench.room.refusals = bench.output.refusals = 5
    bench.peer.say(LINES)
    bench.peer.socket.shutdown(socket.SHUT_WR)
    assert bench.run(Never(), Never()) == Ending(1, "connection lost: closed by the server")
    assert bench.shown == LINES


def test_what_is_taken_in_part_is_sent_whole(bench: Bench) -> None:
    bench.room.takes = 5000
    assert bench.run(Ready(LINES[:16_000]), Never(), patience=0.0) == Ending(0)
    assert bench.peer.hear_all() == LINES[:16_000]


def test_no_more_is_read_from_the_user_than_the_room_takes(bench: Bench) -> None:
    source = Ready(*[LINES] * 10)
    bench.room.refusals, bench.room.gives_up = 100, True
    with pytest.raises(Enough):
        bench.run(source, Never())
    assert 11 - len(source.left) == FULL // CHUNK


def test_no_more_is_read_from_the_room_than_is_shown(bench: Bench) -> None:
    bench.room.brings = [LINES] * 10
    bench.peer.socket.shutdown(socket.SHUT_WR)
    bench.output.refusals, bench.output.gives_up = 100, True
    with pytest.raises(Enough):
        bench.run(Never(), Never())
    assert 10 - len(bench.room.brings) == FULL // CHUNK


def test_what_the_room_said_last_is_shown_though_it_takes_no_more(bench: Bench) -> None:
    bench.room.brings = [LINES, LINES, b"The room is full\n"]
    bench.peer.socket.shutdown(socket.SHUT_RDWR)
    assert bench.run(Ready(b"hello\n"), Never()) == Ending(1, "connection lost: Broken pipe")
    assert bench.shown == LINES + LINES + b"The room is full\n"


def test_a_room_that_is_gone_when_all_is_sent_may_not_have_got_it(bench: Bench) -> None:
    bench.room.brings = [LINES, LINES]
    bench.room.is_gone = True
    bench.peer.socket.shutdown(socket.SHUT_WR)
    why = os.strerror(errno.ENOTCONN)
    assert bench.run(Ready(), Never()) == Ending(1, f"connection lost: {why}")


def test_who_ends_what_has_ended_does_not_wait_for_the_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = Asked()

    def refused(_data: object) -> None:
        signals.ask(signal.SIGINT)

    monkeypatch.setattr(bench.output, "write", refused)
    bench.room.brings = [b"The room is full\n"]
    bench.peer.socket.shutdown(socket.SHUT_WR)
    assert bench.run(Never(), signals) == Ending(1)


def test_a_second_signal_ends_it_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "LAST_WORDS", 3600.0)
    bench.room.brings = [LINES]
    bench.peer.socket.shutdown(socket.SHUT_WR)
    bench.output.refusals = 1000
    signals = Ready(bytes([signal.SIGTERM]), bytes([signal.SIGINT]))
    assert bench.run(Never(), signals) == Ending(128 + signal.SIGTERM)


# --- the command line ----------------------------------------------------------------------------


def run(*arguments: str, command: Sequence[str] = ()) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the client."""
    done = subprocess.run(
        [*command, *CLIENT, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=10,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "HOST, PORT"),
        (["localhost"], "PORT"),
        (["localhost", "http"], "argument PORT: a port is a number from 1 to 65535, not 'http'"),
        (["localhost", "0"], "argument PORT"),
        (["localhost", "65536"], "argument PORT"),
        (["localhost", "-1"], "argument PORT"),
        (["localhost", "9" * 5000], "argument PORT: a port is a number from 1 to 65535"),
        (["localhost", "٤٠٠٠"], "argument PORT"),
        (["localhost", "4000", "more"], "more"),
        (["--colour", "localhost", "4000"], "--colour"),
    ],
)
def test_a_wrong_argument_is_named_in_one_line(arguments: list[str], named: str) -> None:
    code, output, error = run(*arguments)
    assert (code, output) == (2, "")
    assert re.fullmatch(r"chatroom\.client: [^\n]+ \(--help shows the usage\)\n", error)
    assert named in error


def test_help_shows_the_usage() -> None:
    code, output, error = run("--help")
    assert (code, error) == (0, "")
    assert output.startswith("usage: python -m chatroom.client [--help] [--version] HOST PORT\n")
    assert "Ctrl-D" in output
    assert max(map(len, output.splitlines())) <= 100


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version") == (0, f"chatroom {chatroom.__version__}\n", "")


@pytest.mark.parametrize("command", [[], ["sh", "-c", 'exec "$@" 2>&-', "sh"]])
def test_a_refused_connection_is_said_in_one_line(command: list[str]) -> None:
    with socket.socket() as silent:  # Bound, so nobody else can listen there; it does not listen.
        silent.bind(("127.0.0.1", 0))
        port = str(silent.getsockname()[1])
        code, output, error = run("127.0.0.1", port, command=command)
    assert (code, output) == (1, "")
    said = f"chatroom.client: cannot connect to 127.0.0.1:{port}: Connection refused\n"
    assert error == ("" if command else said)


@pytest.mark.parametrize(
    "host",
    [
        "::1%nowhere",  # No interface has this name; no name server is asked to find that out.
        "no..name",
        "x" * 64,
    ],
)
def test_a_host_that_does_not_resolve_is_said_in_one_line(host: str) -> None:
    code, output, error = run(host, "4000")
    assert (code, output) == (1, "")
    assert re.fullmatch(rf"chatroom\.client: cannot connect to {re.escape(host)}:4000: .+\n", error)


def test_ctrl_c_ends_it_while_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> socket.socket:
        raise KeyboardInterrupt

    monkeypatch.setattr(socket, "create_connection", interrupted)
    assert main(["localhost", "4000"]) == 0
