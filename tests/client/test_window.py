"""Tests of the window as a user sees it: the real client, in tmux.

In most tests, the test itself acts as the room; two tests start a real room.
"""

import os
import re
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.client.drivers import Peer, Room
from tests.client.panes import Pane, pane
from tests.integration.rooms import room as real_room
from tests.system.ports import free_port

pytestmark = pytest.mark.timeout(120)

WELCOME = "Welcome to socket practice"


def greet(room: Room) -> Peer:
    """Accept and welcome the client; return the room's end of its connection."""
    peer = room.accept()
    peer.send(f"{WELCOME}\n")
    return peer


def assert_sent(peer: Peer, text: str) -> None:
    """Assert that the client sends this text next."""
    assert peer.receive(len(text.encode())).decode() == text


def test_arriving_text_leaves_the_typed_line_intact() -> None:
    with real_room("--workers", 1) as there, pane(there.host, str(there.port)) as anna:
        anna.shows(WELCOME)
        ben = there.join("127.0.0.2")
        anna.type("half a 你好")
        anna.has_typed("half a 你好")
        ben.send("good morning\n")
        anna.shows(WELCOME, "<127.0.0.2>good morning")
        ben.send("no end")
        anna.shows("<127.0.0.2>good morning", "<127.0.0.2>no end")
        assert anna.typed == "<You>half a 你好"
        anna.type(" line 🍜")
        anna.press("Enter")
        ben.expect("<127.0.0.1>half a 你好 line 🍜\n")
        anna.shows("<127.0.0.2>no end", "<You>half a 你好 line 🍜")
        anna.has_typed("")


def test_the_typed_line_can_be_edited_and_recalled(room: Room) -> None:
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        anna.type("on two")
        anna.press("Home", "Right", "Right")
        anna.type("e")
        anna.press("End", "Enter")
        assert_sent(peer, "one two\n")
        anna.type("other")
        anna.press("Enter")
        assert_sent(peer, "other\n")
        anna.press("Up", "Up")
        anna.has_typed("one two")
        anna.press("C-w")
        anna.type("three")
        anna.press("Enter")
        assert_sent(peer, "one three\n")
        anna.shows("<You>one two", "<You>other", "<You>one three")


def test_each_line_of_a_paste_is_a_message_and_waits_for_enter(room: Room) -> None:
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        anna.paste("one\ntwo\n\nthree\n")
        anna.wait(lambda: anna.typed.startswith("<You>one\ntwo\n\nthree"))
        assert anna.said == [WELCOME]
        anna.press("Enter")
        assert_sent(peer, "one\ntwo\n\nthree\n")
        anna.shows("<You>one", "<You>two", "<You>", "<You>three")
        anna.type("four")
        anna.press("Enter")
        assert_sent(peer, "four\n")


def test_an_empty_line_is_not_sent(room: Room) -> None:
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        anna.press("Enter")
        anna.paste("\n\n")
        anna.press("Enter")
        anna.type("one")
        anna.press("Enter")
        assert_sent(peer, "one\n")
        anna.shows(WELCOME, "<You>one")


def test_a_command_is_not_sent(room: Room) -> None:
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        peer.send("<127.0.0.2>one\n<room>two\n<127.0.0.3>no end")
        anna.shows("<127.0.0.3>no end")
        anna.type("/who")
        anna.press("Enter")
        anna.shows(
            "── 127.0.0.2, 127.0.0.3 sent messages; a room does not list", "  silent members"
        )
        anna.has_typed("")
        anna.type("/help")
        anna.press("Enter")
        anna.wait(lambda: "── //text  send /text" in anna.said)
        anna.type("/etc/hosts is a file")
        anna.press("Enter")
        anna.shows("── /etc/hosts: no such command (see /help); //text sends", "  /text")
        anna.has_typed("/etc/hosts is a file")
        anna.press("Home")
        anna.type("/")
        anna.press("Enter")
        anna.shows("<You>/etc/hosts is a file")
        assert_sent(peer, "/etc/hosts is a file\n")
        anna.paste("/bin\n//sbin\n")
        anna.press("Enter")
        anna.shows("<You>/bin", "<You>//sbin")
        assert_sent(peer, "/bin\n//sbin\n")
        anna.type("/clear")
        anna.press("Enter")
        # An unfinished line is not cleared.
        anna.wait(lambda: anna.said == ["<127.0.0.3>no end"])
        peer.send(" now\n<127.0.0.2>three\n")
        anna.shows("<127.0.0.3>no end now", "<127.0.0.2>three")
        anna.type("/quit")
        anna.press("Enter")
        assert peer.receive_all() == b""
        peer.close()
        assert anna.end() == 0


def test_a_long_typed_line_leaves_rows_for_the_conversation(room: Room) -> None:
    with pane(*room.address, rows=6) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        for number in range(4):
            peer.send(f"<127.0.0.2>{number}\n")
        anna.shows("<127.0.0.2>3")
        anna.type("a" * 500 + "the end")
        anna.wait(lambda: anna.typed.endswith("the end"))
        assert anna.said == ["<127.0.0.2>2", "<127.0.0.2>3"]
        assert len(anna.typed.split("\n")) == 3
        anna.resize(60, 3)
        anna.wait(lambda: len(anna.rows) == 3 and anna.rows[0] == "<127.0.0.2>3")
        assert anna.rows[2].endswith("the end")


def test_typed_control_characters_are_shown_and_have_no_effect(room: Room) -> None:
    """Prove TEXT-3 in the window, for control characters that the user types."""
    with pane(*room.address) as anna:
        greet(room)
        anna.shows(WELCOME)
        anna.paste("my \x1b[31mown\u202e")
        anna.has_typed("my ␛[31mown\ufffd")
        anna.press("Enter")
        anna.shows("<You>my ␛[31mown\ufffd")


# tmux and prompt_toolkit give different numbers of cells to each of these texts. tmux 3.3 gives a
# Tamil vowel sign a cell, and does not show emoji that it does not know.
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("🇩🇪xxxxxxx0x9", ["🇩 🇪 xxxxxxx0x9"]),
        ("நி நி x", ["நி நி x"]),
        ("🫨🩵", [""]),
        ("\u3164\u3164x", ["\ufffd\ufffdx"]),
        ("e\u0301" * 18, ["e\u0301" * 18]),
        ("e\u0301" * 19, ["e\u0301" * 18, "  e\u0301"]),
        ("👩‍🔬❤️👍🏽 x", ["👩🔬❤👍 x"]),
    ],
)
def test_a_row_of_disputed_width_does_not_change_other_rows(
    room: Room, text: str, rows: list[str]
) -> None:
    with pane(*room.address, columns=30, rows=20) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        expected = []
        for number in range(6):
            paid = f"<127.100.100.100>pay {number}00 euros"
            peer.send(f"<127.0.0.5>{text}\n{paid}\n")
            expected += [f"<127.0.0.5>{rows[0]}", *rows[1:], paid]
            anna.shows(paid)
        assert without_emoji(anna.said)[-12:] == expected[-12:]


def without_emoji(rows: list[str]) -> list[str]:
    """Return the rows without the emoji that a newer tmux shows."""
    return [re.sub("[🫨🩵]", "", row).rstrip() for row in rows]


def test_a_typed_line_of_disputed_width_is_shown_intact(room: Room) -> None:
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        line = "👨‍👩‍👧 🇩🇪 நி \u3164e\u0301"
        shown = "👨👩👧 🇩 🇪  நி \ufffde\u0301"
        anna.type(line)
        anna.has_typed(shown)
        anna.press("Home")
        anna.type("Z")
        anna.has_typed(f"Z{shown}")
        assert anna.cursor == len("<You>Z")
        anna.press("End")
        anna.type("z")
        anna.has_typed(f"Z{shown}z")
        anna.press("Enter")
        assert_sent(peer, f"Z{line}z\n")
        anna.shows(f"<You>Z{shown}z")


def test_a_right_to_left_letter_does_not_change_the_direction_of_a_row(room: Room) -> None:
    """Prove PREFIX-4 in the window, at a terminal that detects the direction of each row."""
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        peer.send("<127.0.0.5>\u05d0 <10.0.0.1>hello\n")
        anna.shows("<127.0.0.5>\u200e\u05d0 <10.0.0.1>hello")
        anna.type("\u05d0\u05d1")
        anna.has_typed("\u200e\u05d0\u05d1")
        anna.press("C-c")
        peer.close()
        assert anna.end() == 0
        assert "<127.0.0.5>\u200e\u05d0 <10.0.0.1>hello" in anna.left


def test_many_accents_on_one_letter_do_not_slow_the_window(room: Room) -> None:
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        pile = "a" + "\u0301" * 3900
        for _ in range(16):
            peer.send(f"<127.0.0.2>{pile}\n")
        peer.send("<127.0.0.2>over\n")
        anna.shows("<127.0.0.2>over")
        anna.paste(pile)
        anna.wait(lambda: anna.typed.endswith("\ufffd"))
        used = Path(f"/proc/{anna.client}/stat").read_text().rpartition(")")[2].split()
        assert (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK") < 4


def test_each_sender_has_a_colour(room: Room) -> None:
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        for last in (2, 3):
            peer.send(f"<127.0.0.{last}>hello\n")
            anna.shows(f"<127.0.0.{last}>hello")
        peer.send("<127.0.0.2>again\n")
        anna.shows("<127.0.0.2>again")
        found = re.findall(r"\x1b\[([0-9;]+)m<127\.0\.0\.(\d)>\x1b\[39m(\w+)", anna.colours)
        assert [(last, text) for _, last, text in found] == [
            ("2", "hello"),
            ("3", "hello"),
            ("2", "again"),
        ]
        first, other, again = (colour for colour, *_ in found)
        assert first == again != other


def test_no_color_turns_colours_off(room: Room) -> None:
    with pane(*room.address, env={"NO_COLOR": "1"}) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        peer.send("<127.0.0.2>hello\n")
        anna.shows("<127.0.0.2>hello")
        # Bold and reverse are not colours.
        attributes = re.findall(r"\x1b\[([0-9;]*)m", anna.colours)
        assert {int(code) for codes in attributes for code in codes.split(";") if code} <= {
            0,
            1,
            3,
            7,
            39,
            49,
        }


def test_the_time_option_puts_a_time_before_each_line(room: Room) -> None:
    with pane("--time", *room.address) as anna:
        peer = greet(room)
        before = time.strftime("%H:%M", time.gmtime())
        anna.wait(lambda: WELCOME in anna.said[-1])
        peer.send("<127.0.0.2>hello\n")
        anna.wait(lambda: "hello" in anna.said[-1])
        after = time.strftime("%H:%M", time.gmtime())
        assert anna.said[-1][:5] in (before, after)
        assert anna.said[-1][5:] == " <127.0.0.2>hello"


@pytest.mark.parametrize("options", [[], ["--bell"]], ids=["without --bell", "with --bell"])
def test_the_bell_option_rings_for_a_message(room: Room, options: list[str]) -> None:
    with pane(*options, *room.address) as anna:
        peer = greet(room)
        # tmux sets the bell flag only for a window that is not visible.
        anna.run("new-window", "sleep 1000")
        first = ["-t", ":0"]

        def rung() -> bool:
            return anna.run("display-message", *first, "-p", "#{window_bell_flag}") == "1\n"

        def seen(text: str) -> bool:
            return text in anna.run("capture-pane", *first, "-p")

        anna.wait(lambda: seen(WELCOME))
        assert not rung()
        peer.send("[127.0.0.2] hello\n")
        anna.wait(lambda: seen("[127.0.0.2] hello"))
        if options:
            anna.wait(rung)
        else:
            assert not rung()


def test_a_scrolled_window_shows_the_number_of_unread_lines(room: Room) -> None:
    with pane(*room.address, rows=7) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        for number in range(20):
            peer.send(f"<127.0.0.2>{number}\n")
        anna.shows(*(f"<127.0.0.2>{number}" for number in range(15, 20)))
        anna.press("PageUp")
        seen = [f"<127.0.0.2>{number}" for number in range(11, 16)]
        anna.shows(*seen)
        assert "unread" not in anna.status
        for number in (20, 21, 22):
            peer.send(f"<127.0.0.2>{number}\n")
        anna.wait(lambda: "3 unread" in anna.status)
        assert anna.said == seen
        anna.press("PageDown")
        anna.shows(*(f"<127.0.0.2>{number}" for number in range(15, 20)))
        anna.press("PageDown")
        anna.shows(*(f"<127.0.0.2>{number}" for number in range(18, 23)))
        anna.wait(lambda: "unread" not in anna.status and "scrolled" not in anna.status)
        for _ in range(10):
            anna.press("PageUp")
        anna.wait(lambda: anna.said[0] == WELCOME)
        anna.type("back")
        anna.press("Enter")
        anna.shows("<127.0.0.2>22", "<You>back")


def test_text_is_searched_and_end_returns_to_the_end(room: Room) -> None:
    with pane(*room.address, rows=7) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        for number in range(30):
            peer.send(f"<127.0.0.2>{number}\n")
        anna.shows("<127.0.0.2>29")
        anna.type("2>1")
        anna.has_typed("2>1")
        anna.press("C-r")
        anna.shows("<127.0.0.2>19")
        anna.wait(lambda: re.search(r"7m[^<\n]*<127\.0\.0\.2>19", anna.colours) is not None)
        anna.press("C-r")
        anna.shows("<127.0.0.2>18")
        anna.press("End")
        anna.shows("<127.0.0.2>29")
        anna.has_typed("2>1")


def test_a_line_that_names_the_user_is_bold(room: Room) -> None:
    with pane("--name", "Anna", *room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        said = ["ask ANNA, please", "ask 127.0.0.1.", "Annabel", "127.0.0.12", "127.0.0.1.2"]
        peer.send("".join(f"<127.0.0.2>{text}\n" for text in said))
        anna.shows("<127.0.0.2>127.0.0.1.2")
        bold = re.findall(r"\x1b\[(?:0;)?1m(?:\x1b\[[0-9;]+m)*([^\x1b<]+)", anna.colours)
        assert [text.strip() for text in bold] == said[:2]


def test_the_conversation_is_logged(room: Room, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    with pane("--log", str(log), *room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        peer.send("<127.0.0.2>no")
        anna.shows("<127.0.0.2>no")
        anna.type("mine")
        anna.press("Enter")
        assert_sent(peer, "mine\n")
        anna.shows("<You>mine")
        peer.send(" end\n<127.0.0.2>\u05d0\n<127.0.0.2>unfinished")
        anna.shows("<127.0.0.2>unfinished")
        anna.press("C-c")
        assert peer.receive_all() == b""
        peer.close()
        assert anna.end() == 0
    before, *lines = log.read_text(encoding="utf-8").splitlines()
    assert before == "before"
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    assert [line[20:] for line in lines] == [
        WELCOME,
        "<You>mine",
        "<127.0.0.2>no end",
        "<127.0.0.2>\u200e\u05d0",
        "<127.0.0.2>unfinished",
    ]


def test_a_log_that_cannot_be_written_is_reported_once(room: Room) -> None:
    with pane("--log", "/dev/full", *room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME, "── no more lines are written to the log: No space left on", "  device")
        peer.send("<127.0.0.2>one\n")
        anna.shows("  device", "<127.0.0.2>one")
        anna.press("C-c")
        assert peer.receive_all() == b""
        peer.close()
        assert anna.end() == 0


def test_a_log_that_cannot_be_opened_is_a_wrong_argument(room: Room) -> None:
    with pane("--log", "/", *room.address, columns=90) as anna:
        assert anna.end() == 2
        said = (
            "python -m chatroom.client: argument --log: /: Is a directory (--help shows the usage)"
        )
        assert anna.left == [said]


def test_a_narrow_window_shortens_its_status(room: Room) -> None:
    with pane(*room.address, columns=20, rows=5) as anna:
        peer = greet(room)
        anna.wait(lambda: anna.rows[1].startswith("Welcome"))
        assert anna.rows[3] == " " + ":".join(room.address)
        for number in range(10):
            peer.send(f"<127.0.0.2>{number}\n")
        anna.wait(lambda: anna.rows[2] == "<127.0.0.2>9")
        anna.press("PageUp")
        anna.wait(lambda: anna.rows[3] == " scrolled: PageDown")
        peer.send("<127.0.0.2>10\n")
        anna.wait(lambda: anna.rows[3] == " 1 unread: PageDown")
        anna.press("PageDown", "PageDown", "PageDown")
        anna.wait(lambda: anna.rows[3].startswith(" 127.0.0.1"))
        room.close()
        anna.wait(lambda: anna.rows[3].startswith(" not connected: "))
        anna.resize(40, 5)
        anna.wait(lambda: anna.rows[3].startswith(" not connected, trying again "))


def takes_mouse(pane: Pane) -> bool:
    return pane.run("display-message", "-p", "#{mouse_any_flag}") == "1\n"


def test_the_mouse_is_left_to_the_terminal_by_default(room: Room) -> None:
    with pane(*room.address) as anna:
        greet(room)
        anna.shows(WELCOME)
        assert not takes_mouse(anna)


def test_the_mouse_option_makes_the_wheel_scroll(room: Room) -> None:
    with pane("--mouse", *room.address, rows=7) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        for number in range(20):
            peer.send(f"<127.0.0.2>{number}\n")
        anna.shows("<127.0.0.2>19")
        assert takes_mouse(anna)
        anna.type("\x1b[<64;3;3M")
        anna.shows("<127.0.0.2>16")
        anna.type("\x1b[<65;3;3M")
        anna.shows("<127.0.0.2>19")


def test_a_resized_window_wraps_all_lines_again(room: Room) -> None:
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        peer.send("<127.0.0.2>a line that has to be wrapped, sooner or later 你好\n")
        anna.shows("<127.0.0.2>a line that has to be wrapped, sooner or later", "  你好")
        anna.type("typing")
        anna.resize(30, 10)
        anna.shows(
            WELCOME, "<127.0.0.2>a line that has to", "  be wrapped, sooner or later", "  你好"
        )
        anna.has_typed("typing")
        anna.resize(80, 5)
        anna.shows(WELCOME, "<127.0.0.2>a line that has to be wrapped, sooner or later 你好")
        anna.has_typed("typing")


def test_the_window_reconnects_when_the_room_is_back() -> None:
    port = free_port()
    with real_room("--workers", 1, port=port) as there, pane("127.0.0.1", str(port)) as anna:
        anna.shows(WELCOME)
        there.stop()
        lost = (WELCOME, "── connection lost: closed by the server")
        # The rows need not be the last ones: the reason why the client can't reconnect follows
        # soon.
        anna.wait(lambda: lost in pairwise(anna.said), "the reason why the connection was lost")
        anna.wait(lambda: "not connected, trying again" in anna.status)
        anna.press("Enter")
        anna.type("kep")
        anna.press("Enter", "Enter")
        anna.type("t")
        anna.has_typed("kept")
        notices = [row for row in anna.said if "not sent" in row]
        assert notices == ["── not sent: there is no connection; your line is kept"]
        with real_room("--workers", 1, port=port) as again:
            anna.shows("── connected again", WELCOME)
            assert "connected just now" in anna.status
            ben = again.join("127.0.0.2")
            anna.press("Enter")
            ben.expect("<127.0.0.1>kept\n")
            anna.shows("<You>kept")


def test_no_reconnect_ends_the_window_with_the_reason(room: Room) -> None:
    with pane("--no-reconnect", *room.address) as anna:
        greet(room)
        anna.shows(WELCOME)
        room.close()
        assert anna.end() == 1
        welcome, *error = anna.left  # the error is wider than the pane
        assert welcome == WELCOME
        assert "".join(error) == "python -m chatroom.client: connection lost: closed by the server"


def test_a_member_that_is_kicked_sees_the_reason_and_does_not_reconnect(room: Room) -> None:
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        peer.send("<room>You were kicked\n")
        peer.close()
        assert anna.end() == 1
        said = "python -m chatroom.client: connection lost: you were kicked"
        assert anna.left == [WELCOME, "<room>You were kicked", said]


@pytest.mark.sample(2)
@pytest.mark.parametrize("keys", ["C-c", "C-d"])
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "not connected"])
def test_a_key_ends_the_window(room: Room, keys: str, connected: bool) -> None:
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        if connected:
            anna.press(keys)
            assert peer.receive_all() == b""
            peer.close()
        else:
            room.close()
            anna.wait(lambda: "not connected" in anna.status)
            anna.press(keys)
        assert anna.end() == 0
        assert anna.left[0] == WELCOME


def test_the_conversation_and_unsent_text_stay_on_the_screen(room: Room) -> None:
    with pane(*room.address) as anna:
        peer = greet(room)
        anna.shows(WELCOME)
        peer.send("<127.0.0.2>hello\n")
        anna.shows("<127.0.0.2>hello")
        anna.type("not yet")
        anna.has_typed("not yet")
        anna.press("C-d")
        anna.press("C-c")
        assert peer.receive_all() == b""
        peer.close()
        assert anna.end() == 0
        assert anna.left == [WELCOME, "<127.0.0.2>hello", "── not sent: not yet"]


def test_a_signal_ends_the_window(room: Room) -> None:
    with pane(*room.address) as anna:
        greet(room)
        anna.shows(WELCOME)
        os.kill(anna.client, signal.SIGTERM)
        assert anna.end() == 143
        assert anna.left == [WELCOME]
