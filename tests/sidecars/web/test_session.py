"""A browser's session: a cut of its WebSocket, at any moment, loses and duplicates nothing.

`Browser` acts as a page. It keeps each typed message until the session reports that the room has
the message. It resumes with the number of the last line that it has received. A frame, in either
direction, is in flight until it is delivered. A cut loses all frames in flight.
"""

import json
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatroom.sidecars.web import session as module
from chatroom.sidecars.web.session import ProtocolError, Session, number, parse


class Browser:
    """A page and its session, with the frames between them."""

    def __init__(self) -> None:
        self.session = Session()
        self.said: list[str] = []
        """All typed messages."""
        self.lines: dict[int, str] = {}
        self.partial: dict[int, str] = {}
        self.missed = 0
        self._reached = 0
        """Number of the last message that the room has, as far as the page knows."""
        self._next = 1
        """Number of the next message to send over the current WebSocket."""
        self._to_page: deque[str] = deque()
        self._to_session: deque[tuple[int, str]] = deque()
        self.room = b""
        """Bytes that the room has received."""
        self._unsent = b""
        """Bytes that wait to be written to the room."""
        self.connect()

    @property
    def seen(self) -> int:
        return max(self.lines, default=0)

    # --- the network ---------------------------------------------------------

    def connect(self) -> None:
        answer = self.session.attach(self.seen)
        self._reached = answer["said"]
        self._next = self._reached + 1
        self.missed += answer["missed"]

    def cut(self) -> None:
        """Lose all frames in flight."""
        self._to_page.clear()
        self._to_session.clear()
        self.session.detach()

    def move(self) -> None:
        """Cut the connection, and let another process continue the session."""
        self.cut()
        before = self.session
        state = json.loads(json.dumps(before.state()))
        self.session = Session.continued(state)
        assert self.session.state() == state
        assert self.session.last_text == before.last_text

    def wake(self) -> None:
        """Let the session send its news."""
        if frame := self.session.frame():
            self._to_page.append(frame)

    def deliver_to_page(self) -> bool:
        if not self._to_page:
            return False
        frame = json.loads(self._to_page.popleft())
        self._reached = frame.get("said", self._reached)
        for at, text, *unfinished in frame.get("lines", ()):
            if unfinished:
                self.partial[at] = text
            else:
                assert at not in self.lines, "a line arrived twice"
                assert text.startswith(self.partial.pop(at, ""))
                self.lines[at] = text
        return True

    def deliver_to_session(self) -> bool:
        if not self._to_session:
            return False
        self._unsent += self.session.say(*self._to_session.popleft())
        return True

    # --- the page and the room ----------------------------------------------

    def type(self, text: str) -> None:
        self.said.append(text)

    def send_typed(self) -> bool:
        if self._next > len(self.said):
            return False
        self._to_session.append((self._next, self.said[self._next - 1]))
        self._next += 1
        return True

    def write_to_room(self, size: int) -> bool:
        piece, self._unsent = self._unsent[:size], self._unsent[size:]
        self.room += piece
        if self.session.sent(len(piece)) and self.session.attached:
            self._to_page.append(json.dumps({"said": self.session.said}))
        return bool(piece)

    def settle(self) -> None:
        """Connect, and deliver everything."""
        self.cut()
        self.connect()
        moved = True
        while moved:
            self.wake()
            moved = any(
                (
                    self.deliver_to_page(),
                    self.send_typed(),
                    self.deliver_to_session(),
                    self.write_to_room(1 << 20),
                )
            )
        assert self._reached == len(self.said)


def feed(browser: Browser, *lines: str) -> None:
    browser.session.receive("".join(f"{line}\n" for line in lines).encode())


@pytest.mark.parametrize("cut", [Browser.cut, Browser.move])
def test_a_cut_after_any_step_loses_and_duplicates_nothing(cut: Callable[[Browser], None]) -> None:
    """A conversation is repeated for each of its steps, with a cut after this step."""
    steps: list[Any] = [
        lambda browser: feed(browser, "Welcome"),
        Browser.wake,
        lambda browser: browser.type("hello"),
        Browser.deliver_to_page,
        Browser.send_typed,
        lambda browser: feed(browser, "<a>one", "<b>two"),
        Browser.wake,
        Browser.deliver_to_session,
        lambda browser: browser.write_to_room(3),
        lambda browser: browser.type("there"),
        lambda browser: browser.session.receive(b"<a>thr"),
        lambda browser: browser.session.on_silence(),
        Browser.wake,
        Browser.send_typed,
        Browser.deliver_to_session,
        Browser.deliver_to_page,
        lambda browser: browser.write_to_room(100),
        Browser.deliver_to_page,
        Browser.deliver_to_page,
        lambda browser: browser.session.receive(b"ee\n"),
        Browser.wake,
        Browser.deliver_to_page,
    ]
    for cut_after in range(len(steps)):
        browser = Browser()
        for at, step in enumerate(steps):
            step(browser)
            if at == cut_after:
                cut(browser)
                browser.connect()
        browser.settle()
        assert browser.room == b"hello\nthere\n", cut_after
        assert [browser.lines[at] for at in sorted(browser.lines)] == [
            "Welcome",
            "<a>one",
            "<b>two",
            "<a>three",
        ], cut_after
        assert sorted(browser.lines) == [1, 2, 3, 4]
        assert browser.missed == 0


OFFLINE: dict[str, Callable[[Browser, str], object]] = {
    "type": Browser.type,
    "silence": lambda browser, _: browser.session.on_silence(),
    "write": lambda browser, _: browser.write_to_room(2),
}
ONLINE: dict[str, Callable[[Browser], object]] = {
    "wake": Browser.wake,
    "to page": Browser.deliver_to_page,
    "to session": Browser.deliver_to_session,
    "send": Browser.send_typed,
    "seen": lambda browser: browser.session.seen(browser.seen),
}
MOVES = st.one_of(
    st.tuples(st.just("line"), st.text(st.characters(exclude_characters="\r\n", codec="utf-8"))),
    st.tuples(st.just("piece"), st.sampled_from(["a", "bc", "d\n", "\n"])),
    st.tuples(st.just("type"), st.text(st.characters(exclude_characters="\n"), max_size=5)),
    st.tuples(
        st.sampled_from(["silence", "write", "cut", "away", "move", *ONLINE]),
        st.just(""),
    ),
)


@given(st.lists(MOVES, max_size=60))
def test_random_cuts_lose_and_duplicate_nothing(moves: list[tuple[str, str]]) -> None:
    browser, heard, away = Browser(), "", False
    for move, text in moves:
        if move in ("line", "piece"):
            heard += text + ("\n" if move == "line" else "")
            browser.session.receive((text + ("\n" if move == "line" else "")).encode())
        elif move in ("cut", "away", "move"):
            browser.cut() if move != "move" else browser.move()
            away = move == "away"
            if not away:
                browser.connect()
        elif move in OFFLINE:
            OFFLINE[move](browser, text)
        elif not away:
            ONLINE[move](browser)
    browser.settle()
    *lines, rest = heard.split("\n")
    assert [browser.lines[at] for at in sorted(browser.lines)] == lines
    assert sorted(browser.lines) == [*range(1, len(lines) + 1)]
    assert rest.startswith("".join(browser.partial.values()))
    typed = [
        text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in browser.said
    ]
    assert browser.room == "".join(f"{text}\n" for text in typed).encode()
    assert browser.missed == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "away", "move"])), max_size=20))
def test_missed_lines_are_counted_exactly(moves: list[tuple[int, str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEEP_LINES", 5)
        browser, total = Browser(), 0
        for lines, cut in moves:
            if cut:
                browser.cut()
            for _ in range(lines):
                total += 1
                feed(browser, f"line {total}")
            if cut == "move":
                browser.move()
            if cut:
                browser.connect()
            browser.wake()
            browser.deliver_to_page()
        browser.settle()
    assert len(browser.lines) + browser.missed == total
    assert all(text == f"line {at}" for at, text in browser.lines.items())


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize(("character", "size"), [("x", 1), ("😀", 4)])
def test_kept_lines_are_also_limited_by_their_size(
    moves: bool, character: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`size`: number of bytes that the character takes in memory."""
    monkeypatch.setattr(module, "KEEP_SIZE", 1000)
    line = character * (400 // size)
    browser = Browser()
    browser.cut()
    feed(browser, *(line for _ in range(8)))
    if moves:
        browser.move()
    feed(browser, line)
    browser.settle()
    assert browser.missed == 7
    assert sorted(browser.lines) == [8, 9]


def test_all_news_is_one_frame() -> None:
    browser = Browser()
    feed(browser, "a", 'b"\\')
    browser.session.receive("ü".encode())
    browser.session.on_silence()
    assert browser.session.frame() == '{"lines":[[1,"a"],[2,"b\\"\\\\"],[3,"ü",1]]}'
    assert browser.session.frame() is None
    browser.session.receive(b"\n")
    assert browser.session.frame() == '{"lines":[[3,"ü"]]}'


def test_a_line_that_was_not_sent_to_a_slow_browser_yet_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEEP_LINES", 3)
    browser = Browser()
    feed(browser, *"abcdefgh")
    browser.wake()
    browser.deliver_to_page()
    assert "".join(browser.lines.values()) == "abcdefgh"
    browser.settle()
    assert browser.missed == 0


@pytest.mark.parametrize(
    "frame", ["", "[1]", "1", '"a"', "{", '{"a":', "[" * 100_000, "9" * 10_000]
)
def test_a_frame_that_is_no_object_is_refused(frame: str) -> None:
    with pytest.raises(ProtocolError, match="a frame must be a JSON object"):
        parse(frame)


@pytest.mark.parametrize("value", ["1", -1, 1.5, True, [], None])
def test_a_value_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ProtocolError, match="seen must be a number from 0"):
        number({"seen": value}, "seen")


def test_impossible_numbers_are_refused() -> None:
    browser = Browser()
    feed(browser, "a")
    with pytest.raises(ProtocolError, match="line 1 was not sent; the last one is 0"):
        browser.session.seen(1)
    with pytest.raises(ProtocolError, match="message 2 follows message 0"):
        browser.session.say(2, "")
    assert browser.session.say(1, "x") == b"x\n"
    assert browser.session.say(1, "again") == b""
    with pytest.raises(ProtocolError, match="line 2 does not exist; the last one is 1"):
        browser.session.attach(2)


def test_seen_returns_true_only_if_it_confirms_a_new_line() -> None:
    """A page repeats a `seen` to ask whether the connection is alive. The gateway answers only such
    a `seen`."""
    browser = Browser()
    feed(browser, "a", "b")
    browser.session.attach(0)
    browser.session.frame()
    assert [browser.session.seen(number) for number in (0, 1, 1, 2, 2, 1)] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]


def test_a_lone_surrogate_is_replaced() -> None:
    assert Session().say(1, "a\ud83d b \U0001f389") == "a\ufffd b \U0001f389\n".encode()
