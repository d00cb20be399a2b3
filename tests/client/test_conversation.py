"""Tests of the lines of a conversation and the rows that show them, with examples and random
data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from chatroom.client.view import conversation as module
from chatroom.client.view.cells import ACCENTS, FILLER, settled
from chatroom.client.view.conversation import KEPT, LONGEST, NOW, PEOPLE, Conversation
from chatroom.client.view.pages import Pages, wrap


@pytest.fixture
def conversation() -> Conversation:
    return Conversation(lambda: 0.0)


def texts(text: str, width: int, head: int = 0) -> list[str]:
    return [row.text for row in wrap(text, width, head)]


def shown(conversation: Conversation) -> list[str]:
    return [line.shown for line in conversation.lines]


# --- what was said -------------------------------------------------------------------------------

TEXT = "Welcome\n<::1>one\n\n<127.0.0.1>two 你好\n<::1>no end"


def test_text_becomes_lines(conversation: Conversation) -> None:
    conversation.arrived(TEXT)
    assert shown(conversation) == TEXT.split("\n")
    assert [line.head for line in conversation.lines] == ["", "<::1>", "", "<127.0.0.1>", "<::1>"]


@given(cuts=st.lists(st.integers(0, len(TEXT))))
def test_text_may_be_cut_anywhere(cuts: list[int]) -> None:
    whole, pieces = Conversation(lambda: 0.0), Conversation(lambda: 0.0)
    whole.arrived(TEXT)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(TEXT)], strict=True):
        pieces.arrived(TEXT[start:end])
    assert pieces.lines == whole.lines


def test_the_rest_of_a_line_is_appended_to_that_line(conversation: Conversation) -> None:
    conversation.arrived("<::1>no")
    conversation.own("mine")
    conversation.note("something")
    conversation.arrived(" end\n<::1>next\n")
    assert shown(conversation) == ["<::1>no end", "<You>mine", "── something", "<::1>next"]


def test_hist_1_a_notice_follows_the_earlier_messages(conversation: Conversation) -> None:
    """The notice follows at each join. A member's message with the text of the room's line has no
    effect."""
    for _ in range(2):
        conversation.arrived("Welcome\n<room>2 earlier messages:\n<::1>one\n<::2>t")
        assert conversation.lines[-1].kind == "said"
        conversation.arrived("wo\n<::1>new\n<room>1 earlier message:\n<::1>x\n")
        assert shown(conversation)[-7:] == [
            "<room>2 earlier messages:",
            "<::1>one",
            "<::2>two",
            f"── {NOW}",
            "<::1>new",
            "<room>1 earlier message:",
            "<::1>x",
        ]
        conversation.ended()


def test_a_line_does_not_continue_across_connections(conversation: Conversation) -> None:
    conversation.arrived("<::1>no")
    conversation.ended()
    conversation.arrived("Welcome\n")
    assert shown(conversation) == ["<::1>no", "Welcome"]


def test_a_message_with_any_prefix_is_distinguished_from_the_greeting(
    conversation: Conversation,
) -> None:
    for _ in range(2):
        told = ["Wel", "come\n", "", "<::1>hel", "lo\n", "[7] hello\n", "hi", "\nhi", "\n", "\n"]
        said = [conversation.arrived(text) for text in told]
        assert said == [False, False, False, True, False, True, True, True, False, True]
        conversation.ended()
    assert conversation.arrived("Welcome\n<::1>hello\n")


def test_people_are_numbered_in_the_order_of_their_first_message(
    conversation: Conversation,
) -> None:
    conversation.arrived("<::1>a\n<::2>b\n<::1>c\n<::3>d\n")
    assert [line.person for line in conversation.lines] == [0, 1, 0, 2]


def test_people_lines_and_the_length_of_a_line_are_bounded(
    conversation: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(PEOPLE + 5):
        conversation.arrived(f"<::{number:x}>a\n")
    assert max(line.person for line in conversation.lines) == PEOPLE - 1
    conversation.arrived("<::1>" + "a" * (2 * LONGEST + 5))
    assert [len(line.text) for line in conversation.lines[-3:]] == [LONGEST, LONGEST, 5]
    monkeypatch.setattr(module, "KEPT", 10)
    conversation.arrived("\n" * 3)
    total = conversation.total
    assert len(conversation.lines) <= 11
    assert total == PEOPLE + 5 + 3 + 2
    assert KEPT > 1000


def test_control_characters_are_replaced_in_every_line(conversation: Conversation) -> None:
    conversation.arrived("<::1>\x1b[2J\x9b\u202e\u2066\u2069\r\n")
    conversation.own("\x07")
    conversation.note("\x07")
    assert shown(conversation) == ["<::1>␛[2J\ufffd\ufffd\ufffd\ufffd␍", "<You>␇", "── ␇"]


def test_a_tab_is_shown_as_spaces(conversation: Conversation) -> None:
    conversation.arrived("a\tb")
    assert shown(conversation) == ["a       b"]


# --- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a b é 你", "a b é 你"),
        ("👩‍🔬", "👩🔬"),
        ("👍🏽 ❤️ ❤️‍🔥", "👍 ❤ ❤🔥"),
        ("🏴\U000e0067\U000e0062\U000e007f a", "🏴 a"),
        ("क्‍ष", "क्‍ष"),
        ("e\u0301", "e\u0301"),
        ("நி", f"நி{FILLER}"),
        ("🌡", f"🌡{FILLER}"),
        ("각", "각"),  # a Hangul syllable as separate letters
    ],
)
def test_every_terminal_shows_a_character_in_the_same_number_of_cells(text: str, seen: str) -> None:
    assert settled(text) == seen


@pytest.mark.parametrize("emoji", ["🫨", "🩵", "🇩", "🀄", "🅰"])
def test_an_emoji_that_the_library_does_not_know_has_two_cells(emoji: str) -> None:
    assert get_cwidth(settled(emoji)) == 2


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", [""]),
        ("0123456789", ["0123456789"]),
        ("0123456789a", ["0123456789", "  a"]),
        ("one two three", ["one two", "  three"]),
        ("one two th four", ["one two th", "  four"]),
        ("one twoooooo", ["one", "  twoooooo"]),
        ("one twooooooo", ["one", "  twoooooo", "  o"]),
        ("one twooooooooooo", ["one", "  twoooooo", "  ooooo"]),
        ("a你好你好", ["a你好你好"]),
        ("a你好你好你", ["a你好你好", "  你"]),
        ("a你好你好你你你你你", ["a你好你好", "  你你你", "  你你"]),
        ("a你好你好i\u0bbf", ["a你好你好", f"  i\u0bbf{FILLER}"]),
        ("01234567i\u0bbf", [f"01234567i\u0bbf{FILLER}"]),
        ("<::1>hello" + " " * 80 + "<::2>me", ["<::1>hello", "  <::2>me"]),
        ("01234567e\u0301", ["01234567e\u0301"]),
        ("012345678e\u0301", ["012345678", "  e\u0301"]),
    ],
)
def test_text_is_wrapped(text: str, rows: list[str]) -> None:
    assert texts(text, 10) == rows


@pytest.mark.parametrize("accent", ["\u0301", "\u200b", "\U000e0100"])
def test_accents_beyond_the_limit_of_a_cell_are_replaced(accent: str) -> None:
    for character in ("a", "你"):
        most = character + accent * ACCENTS
        assert texts(most + "b", 20) == [most + "b"]
        assert texts(most + accent * 3 + most, 20) == [most + "\ufffd" * 3 + most]


CHARACTERS = ["a", "b", " ", "你", "🍜", "e\u0301"]


def test_a_prefix_stays_with_the_first_word() -> None:
    assert texts("12:34 <::1>longword", 12) == ["12:34", "  <::1>longw", "  ord"]
    assert texts("12:34 <::1>longword", 12, 11) == ["12:34 <::1>l", "  ongword"]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (
            "<::1>see http://a.example/b now",
            ["<::1>see", "  http://a", ".example/b", "  now"],
        ),
        ("<::1>http://a.example", ["<::1>http:", "//a.exampl", "e"]),
        # A row never begins with a false prefix, even inside text that looks like a URL.
        ("<::1>http://a<::2>hello", ["<::1>http:", "//a<::2>he", "  llo"]),
        ("<::1>http:/<::2>hello", ["<::1>http:", "  /<::2>he", "  llo"]),
        ("<::1>http://aa<::2>hello", ["<::1>http:", "//aa<::2>h", "  ello"]),
        ("<::1>http://aaaaaaaa<::2>hello", ["<::1>http:", "//aaaaaaaa", "  <::2>hel", "  lo"]),
    ],
)
def test_a_url_is_not_indented(text: str, rows: list[str]) -> None:
    assert texts(text, 10, 5) == rows


def test_a_url_is_indented_where_prefixes_have_no_brackets() -> None:
    assert texts("::1:http://a.example", 10, 0) == ["::1:http:/", "  /a.examp", "  le"]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("(see https://a.example/b?c=d#e).", "https://a.example/b?c=d#e"),
        ("http://a.example,", "http://a.example"),
        ("http://a.example/\u05d0", "http://a.example/"),
        ('href="http://a.example"', "http://a.example"),
        ("<http://[::1]:80/>", "http://[::1]:80/"),
    ],
)
def test_the_end_of_a_url_is_found(text: str, url: str) -> None:
    [row] = wrap(text, 80)
    [part] = row.urls
    assert part.url == url == row.text[part.start : part.end]


def test_each_part_of_a_url_has_the_whole_url() -> None:
    rows = wrap("<::1>http://a.example/long", 10, 5)
    parts = [row.text[part.start : part.end] for row in rows for part in row.urls]
    assert "".join(parts) == "http://a.example/long"
    assert {part.url for row in rows for part in row.urls} == {"http://a.example/long"}


@given(st.lists(st.sampled_from(CHARACTERS), max_size=60), st.integers(1, 12))
def test_rows_fit_and_lose_nothing(characters: list[str], width: int) -> None:
    text = "".join(characters)
    rows = texts(text, width)
    assert "".join(rows).replace(" ", "") == text.replace(" ", "")
    assert all(get_cwidth(row.rstrip()) <= max(width, 2) for row in rows)


# --- pages ---------------------------------------------------------------------------------------


def page(pages: Pages, height: int = 3, width: int = 10) -> list[str]:
    return [row.text for row in pages.show(width, height)]


@pytest.fixture
def pages(conversation: Conversation) -> Pages:
    conversation.arrived("".join(f"{number}\n" for number in range(10)))
    return Pages(conversation)


def test_the_last_rows_are_shown_by_default(conversation: Conversation, pages: Pages) -> None:
    assert page(pages) == ["7", "8", "9"]
    conversation.arrived("10\n")
    assert pages.unread == 1
    assert page(pages) == ["8", "9", "10"]
    assert pages.unread == 0


def test_earlier_lines_are_found_from_the_last_to_the_first(conversation: Conversation) -> None:
    conversation.arrived("<::1>One\n<::1>two\n<::1>one\n" + "<::1>x\n" * 9)
    pages = Pages(conversation)
    page(pages)
    assert pages.find("ONE")
    assert page(pages) == ["<::1>One", "<::1>two", "<::1>one"]
    assert pages.find("ONE")
    assert pages.found == 0
    # The page is full, although the found line is not its last one.
    assert page(pages) == ["<::1>One", "<::1>two", "<::1>one"]
    assert not pages.find("ONE")
    assert pages.find("ONE")
    assert pages.found == 2
    assert pages.find("two")
    assert not pages.find("three")
    assert not pages.find("")
    pages.end()
    assert page(pages) == ["<::1>x"] * 3


def test_a_conversation_is_cleared(conversation: Conversation) -> None:
    conversation.arrived("<::1>one\n<room>two\n<::2>no")
    pages = Pages(conversation)
    conversation.clear()
    assert page(pages) == ["<::2>no"]
    conversation.arrived("de\n<::1>three\n")
    assert page(pages) == ["<::2>node", "<::1>three"]
    assert conversation.senders == ["::1", "::2"]
    assert conversation.total == 4
    conversation.clear()
    assert page(pages) == []


def test_an_empty_conversation_has_no_rows(conversation: Conversation) -> None:
    pages = Pages(conversation)
    assert page(pages) == []
    pages.page(-1)
    pages.page(1)
    assert page(pages) == []
    assert pages.unread == 0


def test_paging_keeps_one_row_of_the_previous_page(pages: Pages) -> None:
    page(pages)
    pages.page(-1)
    assert page(pages) == ["5", "6", "7"]
    pages.page(1)
    assert page(pages) == ["7", "8", "9"]
    assert not pages.scrolled


def test_a_scrolled_page_stays_when_lines_arrive(conversation: Conversation, pages: Pages) -> None:
    page(pages)
    pages.page(-1)
    conversation.arrived("10\n11\n")
    assert page(pages) == ["5", "6", "7"]
    assert pages.unread == 2
    pages.page(1)
    assert page(pages) == ["7", "8", "9"]
    assert pages.unread == 2
    pages.page(1)
    assert page(pages) == ["9", "10", "11"]
    assert pages.unread == 0
    assert not pages.scrolled


def test_scrolling_stops_at_the_beginning(pages: Pages) -> None:
    page(pages)
    for _ in range(10):
        pages.page(-1)
    assert page(pages) == ["0", "1", "2"]
    pages.end()
    assert page(pages) == ["7", "8", "9"]


def test_a_conversation_that_fits_does_not_scroll(pages: Pages) -> None:
    assert len(page(pages, height=20)) == 10
    pages.page(-1)
    assert not pages.scrolled


def test_a_line_higher_than_the_screen_scrolls_row_by_row(conversation: Conversation) -> None:
    conversation.arrived("before\n" + "".join(f"{number:<10}" for number in range(8)) + "\nafter\n")
    pages = Pages(conversation)
    assert page(pages) == ["  6", "  7         ", "after"]
    seen = []
    for _ in range(7):
        pages.scroll(-1)
        seen.append(page(pages)[0].strip())
    assert seen == ["5", "4", "3", "2", "1", "0", "before"]
    pages.scroll(4)
    assert page(pages)[0] == "  3"


@pytest.mark.parametrize("clock", [False, True])
def test_no_further_row_of_a_long_line_looks_like_a_first_row(
    conversation: Conversation, clock: bool
) -> None:
    """No further row of a line looks like the first row of another sender's line."""
    conversation.arrived("<::1>" + "a" * LONGEST)
    conversation.arrived("<::2>hello\n")
    pages = Pages(conversation, clock=clock)
    *above, last = page(pages, height=LONGEST, width=80)
    assert last == "  <::2>hello"
    assert [row for row in above if not row.startswith("  a")] == above[:1]
    assert [line.head for line in conversation.lines] == ["<::1>", ""]


def test_a_new_width_keeps_the_scroll_position(conversation: Conversation) -> None:
    conversation.arrived("".join(f"{number} and {number}\n" for number in range(10)))
    pages = Pages(conversation)
    page(pages, width=20)
    pages.page(-1)
    assert page(pages, width=20) == ["5 and 5", "6 and 6", "7 and 7"]
    assert page(pages, width=5)[-1] in ("7 and", " 7")


def test_a_wider_screen_skips_no_rows(conversation: Conversation) -> None:
    conversation.arrived("a" * 40 + "\n" + "".join(f"{number}\n" for number in range(9)))
    pages = Pages(conversation)
    page(pages)
    pages.scroll(-9)
    assert page(pages) == ["  aaaaaaaa", "  aaaaaaaa", "  aaaaaa"]
    assert page(pages, width=40) == ["a" * 40]
    pages.scroll(1)
    assert page(pages, width=40) == ["a" * 40, "0"]


def test_a_page_of_dropped_lines_moves_to_the_oldest_line(
    conversation: Conversation, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    page(pages)
    pages.page(-1)
    monkeypatch.setattr(module, "KEPT", 10)
    conversation.arrived("".join(f"{number}\n" for number in range(10, 40)))
    assert page(pages) == [str(conversation.dropped)]
    pages.page(1)
    assert page(pages)[-1] == str(conversation.dropped + 2)


@given(
    st.lists(st.text("ab 你", max_size=30), max_size=30),
    st.lists(st.integers(-9, 9), max_size=9),
    st.integers(2, 12),
    st.integers(1, 9),
)
def test_any_scrolling_shows_consecutive_rows(
    said: list[str], moves: list[int], width: int, height: int
) -> None:
    conversation = Conversation(lambda: 0.0)
    conversation.arrived("".join(f"{text}\n" for text in said))
    pages = Pages(conversation)
    rows = [row for text in said for row in texts(text, width)]
    bottom = len(rows)
    assert page(pages, height, width) == rows[-height:]
    for move in moves:
        pages.scroll(move)
        bottom = min(max(bottom + move, min(height, len(rows))), len(rows))
        assert page(pages, height, width) == rows[max(bottom - height, 0) : bottom]
        assert pages.scrolled == (bottom < len(rows))
