"""The contents of the screen, and the keys.

From top to bottom: the conversation, the status, and the typed line. prompt_toolkit does the
editing, the history and pasting; this module does the rest.
"""

import os
import re
import signal
import termios
from bisect import bisect_right
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from itertools import accumulate, islice
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from prompt_toolkit.application import Application, run_in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.layout import (
    BufferControl,
    Dimension,
    FormattedTextControl,
    HSplit,
    Layout,
    UIContent,
    UIControl,
    VSplit,
    Window,
)
from prompt_toolkit.layout.processors import (
    BeforeInput,
    Processor,
    Transformation,
    TransformationInput,
)
from prompt_toolkit.layout.utils import explode_text_fragments
from prompt_toolkit.mouse_events import MouseEvent, MouseEventType
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Attrs, Style
from prompt_toolkit.utils import get_cwidth

from chatroom.client.address import reason
from chatroom.client.session import Ending
from chatroom.client.text import visible
from chatroom.client.view.cells import shown
from chatroom.client.view.conversation import YOU, Conversation, Line
from chatroom.client.view.link import Link
from chatroom.client.view.output import Output
from chatroom.client.view.pages import Pages, Row, UrlPart

if TYPE_CHECKING:
    from prompt_toolkit.key_binding.key_bindings import NotImplementedOrNone

#: Colours of medium brightness, readable on black and on white.
PEOPLE = (
    "#1e78d3",
    "#b06519",
    "#148a14",
    "#ce1dce",
    "#138585",
    "#e23131",
    "#6767e9",
    "#7b7b12",
    "#df2281",
    "#14894e",
    "#9b50e6",
    "#4c8513",
)

STYLE = Style.from_dict(
    {
        "clock": "#888888",
        "you": "bold",
        "notice": "italic #888888",
        "mention": "bold",
        "found": "reverse",
        "status": "reverse",
        "lost": "bold",
        **{f"person{number}": colour for number, colour in enumerate(PEOPLE)},
    }
)

#: Answer to /help.
HELP = (
    "/help   list the commands",
    "/who    list the addresses that have sent messages since the client started",
    "/clear  clear the screen",
    "/quit   leave the room; Ctrl-C does the same",
    "//text  send /text",
    "Keys: Enter sends; Up recalls lines; PageUp, PageDown and End scroll; Ctrl-R searches for the"
    " typed text",
)

#: Minimum time in seconds between two frames.
FRAME = 0.05
#: Seconds between two updates of the status.
TICK = 1.0
#: Rows to scroll for a step of the wheel.
NOTCH = 3
#: Maximum number of visible rows of the typed line.
HIGHEST_INPUT = 8
#: Minimum number of rows for the conversation, if the screen has enough rows.
MIN_CONVERSATION = 2
#: Minimum length of a shortened name; a shorter name is not shown.
SHORTEST_NAME = 6
#: Minimum time in seconds between two bells.
SILENCE = 1.0


def format_duration(seconds: float) -> str:
    """Return a duration in words, in its two largest units."""
    minutes = int(seconds) // 60
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"for {days} d {hours_left} h"
    if hours:
        return f"for {hours} h {minutes_left} min"
    return f"for {minutes} min" if minutes else "just now"


def fit_status(alarms: str, shorter: str, name: str, since: str, width: int) -> tuple[str, str]:
    """Return the two parts of a status line of at most `width` cells: the alarms, and the rest.

    If `alarms` do not fit, they are replaced by `shorter`. If there is no space, `name` is
    shortened, and `since` is left out.
    """
    alarms = alarms if get_cwidth(alarms) <= width else shorter
    left = width - get_cwidth(alarms)
    if get_cwidth(name) <= left:
        fits = get_cwidth(name + since) <= left
        return alarms, name + since if fits else name
    while name and get_cwidth(name) >= left:
        name = name[:-1]
    return alarms, f"{name}…" if len(name) > SHORTEST_NAME else ""


def linked(row: StyleAndTextTuples, urls: Iterable[UrlPart], number: int) -> StyleAndTextTuples:
    """Return a row whose URLs are links (OSC 8). `number`: number of the line, used as the links'
    id."""
    chars = list(explode_text_fragments(row))
    for start, end, url in reversed([*urls]):
        chars.insert(end, ("[ZeroWidthEscape]", "\x1b]8;;\x1b\\"))
        chars.insert(start, ("[ZeroWidthEscape]", f"\x1b]8;id={number};{url}\x1b\\"))
    return chars


def fragments(row: Row, clock: bool, mention: bool = False) -> StyleAndTextTuples:
    """Return a row with its styles. The first row of a line has styles for time and sender.

    `mention`: the line mentions the user.
    """
    style = "class:mention" if mention else ""
    line = row.line
    if row.found:
        return [("class:found", row.text)]
    if line.kind == "notice":
        return [("class:notice", row.text)]
    if row.place.row or line.rest:
        return [(style, row.text)]
    time = len(line.clock()) if clock else 0
    head = time + len(line.head)
    sender = "class:you" if line.kind == "own" else f"class:person{line.person % len(PEOPLE)}"
    return [
        ("class:clock", row.text[:time]),
        (sender, row.text[time:head]),
        (style, row.text[head:]),
    ]


@cache
def _named(name: str) -> re.Pattern[str]:
    """Return a pattern that finds a name as a whole word, not as a part of a longer word or
    address."""
    return re.compile(rf"(?<![\w.:]){re.escape(name)}(?!\w|[.:]\w)", re.IGNORECASE)


def stop_all() -> None:
    """Stop our process group, as SIGTSTP does by default."""
    handler = signal.getsignal(signal.SIGTSTP)
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(0, signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)


class Visible(Processor):
    """A filter that shows the typed line in the same way as received text."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        fragments = transformation_input.fragments
        # Each of these functions except `shown` replaces a character by a single character.
        cells = shown(visible("".join(text for _, text, *_ in fragments)).replace("\t", " "))
        ends = [0, *accumulate(map(len, cells))]
        rest = iter(cells)
        return Transformation(
            [(style, "".join(islice(rest, len(text)))) for style, text, *_ in fragments],
            source_to_display=lambda index: ends[min(index, len(cells))],
            display_to_source=lambda index: bisect_right(ends, index) - 1,
        )


class ConversationView(UIControl):
    """The visible part of the conversation, aligned to the bottom."""

    def __init__(self, pages: Pages, clock: bool, mentions: Callable[[Line], bool]) -> None:
        self._pages = pages
        self._mentions = mentions
        self._clock = clock

    def create_content(self, width: int, height: int) -> UIContent:
        seen = [
            linked(fragments(row, self._clock, self._mentions(row.line)), row.urls, row.place.line)
            for row in self._pages.show(width, height)
        ]
        rows: list[StyleAndTextTuples] = [[]] * (height - len(seen)) + seen
        return UIContent(rows.__getitem__, len(rows), show_cursor=False)

    def mouse_handler(self, mouse_event: MouseEvent) -> "NotImplementedOrNone":
        match mouse_event.event_type:
            case MouseEventType.SCROLL_UP:
                self._pages.scroll(-NOTCH)
            case MouseEventType.SCROLL_DOWN:
                self._pages.scroll(NOTCH)
            case _:
                return NotImplemented
        return None


class Chat(Application[Ending]):
    """The window, which receives a link's events. It is open until the user leaves, or `end` is
    called."""

    def __init__(
        self,
        name: str,
        output: Output,
        link: Link,
        *,
        clock: bool,
        bell: bool,
        mouse: bool,
        nickname: str = "",
        log: TextIO | None = None,
    ) -> None:
        """`nickname`: a name by which others call the user. `log`: file for the conversation."""
        self._name = name
        self._nickname = nickname
        self._log = log
        self._link = link
        self._bell = bell
        self._conversation = Conversation(finished=self._write_log)
        self._rung = 0.0
        self._unsent_noted = False  # True once the user was told that a line was not sent.
        self._screen = output
        output.drained = self.invalidate
        self.pages = Pages(self._conversation, clock=clock)
        self.typed = Buffer(history=InMemoryHistory(), multiline=False)
        self._look = cache(self._attributes)
        super().__init__(
            layout=self._make_layout(clock),
            style=STYLE,
            key_bindings=self._keys(),
            output=output,
            color_depth=ColorDepth.from_env(),
            full_screen=True,
            mouse_support=mouse,
            enable_page_navigation_bindings=False,  # These keys would scroll the typed line.
            min_redraw_interval=FRAME,
            refresh_interval=TICK,
        )
        self.after_render += self._draw

    # --- events of the link -----------------------------------------------------------------------

    def on_text(self, text: str) -> None:
        if self._conversation.arrived(text) and self._bell:
            self.ring()
        self.invalidate()

    def on_notice(self, text: str) -> None:
        self._conversation.note(text)
        self.invalidate()

    def _write_log(self, line: Line) -> None:
        if self._log:
            try:
                print(line.logged, file=self._log, flush=True)
            except OSError as error:
                self._log = None
                self.on_notice(f"no more lines are written to the log: {reason(error)}")

    def mentions(self, line: Line) -> bool:
        """Return True if the line contains the user's address or nickname."""
        names = [name for name in (self._link.own_address, self._nickname) if name]
        return line.kind == "said" and any(_named(name).search(line.text) for name in names)

    def on_lost(self) -> None:
        self._conversation.ended()
        self._unsent_noted = False  # Tell the user again when a line can't be sent.

    # --- the window -------------------------------------------------------------------------------

    @property
    def _is_open(self) -> bool:
        return self.is_running and not self.is_done

    def end(self, ending: Ending) -> None:
        """Close the window, unless it is closing already."""
        if self._is_open:
            self.exit(result=ending)

    def invalidate(self) -> None:
        """Draw a frame soon, but only if the terminal has accepted the whole last frame."""
        self._screen.retry()
        if not self._screen.stuck:
            super().invalidate()

    def _attributes(self, style: str) -> Attrs:
        return self.renderer.style.get_attrs_for_style_str(style)

    def _draw(self, _: object) -> None:
        if screen := self.renderer.last_rendered_screen:
            cursor = screen.get_cursor_position(self.layout.current_window)
            self._screen.draw(screen, cursor, self._look, self.color_depth)

    def stop(self) -> None:
        """Release the terminal and stop the process until the shell continues it (SIGTSTP)."""
        if self._is_open:
            run_in_terminal(stop_all)

    def resume(self) -> None:
        """Take over the terminal again after the shell has used it (SIGCONT)."""
        if self._is_open:
            with suppress(termios.error):  # The terminal was closed.
                # `__exit__` is not called: at the end, the library restores the mode that it saved
                # at the start.
                self.input.raw_mode().__enter__()
            self.renderer.reset()
            self.invalidate()

    def ring(self) -> None:
        """Ring the terminal's bell, at most once in SILENCE seconds."""
        if monotonic() - self._rung >= SILENCE and not self._screen.stuck:
            self._rung = monotonic()
            self._screen.bell()

    def enter(self) -> None:
        """Send the typed lines, or run a command. If this fails, keep the typed lines.

        Pasted text of several lines is not a command: its lines may begin with the path of a file.
        """
        text = self.typed.text.strip("\n")
        if not text.startswith("/") or "\n" in text:
            self.send(text)
        elif text.startswith("//"):
            self.send(text[1:])
        elif self._carry_out(text):
            self._done()

    def send(self, text: str) -> None:
        """Send lines; if they can't be sent, the typed line is kept."""
        # Send no empty message: pasted text often ends with a line end, and Enter may be pressed
        # twice.
        lines = text.split("\n") if text else []
        self._link.reconnect_now()
        if not lines:
            self.typed.reset()
            return
        if not self._link.send("".join(f"{line}\n" for line in lines)):
            if not self._unsent_noted:
                lost = self._link.since is None
                why = "there is no connection" if lost else "the room is not reading"
                self._conversation.note(f"not sent: {why}; your line is kept")
            self._unsent_noted = True
            return
        self._unsent_noted = False
        for line in lines:
            self._conversation.own(line)
        self._done()

    def _done(self) -> None:
        """Clear the typed line, and return to the end of the conversation."""
        self.typed.reset(append_to_history=True)
        self.typed.load_history_if_not_yet_loaded()  # Do not wait for the next frame.
        self.pages.end()

    def find(self) -> None:
        """Scroll to the last line that contains the typed text; if repeated, to the previous such
        line."""
        if not self.pages.find(self.typed.text):
            self._screen.bell()  # as a shell's search does

    def _carry_out(self, text: str) -> bool:
        """Run a command; return False if there is no such command."""
        match text.split():
            case ["/quit"]:
                self.end(Ending(0))
            case ["/clear"]:
                self._conversation.clear()
            case ["/help"]:
                for line in HELP:
                    self._conversation.note(line)
            case ["/who"]:
                who = ", ".join(self._conversation.senders) or "nobody"
                self._conversation.note(f"{who} sent messages; a room does not list silent members")
            case [name, *_]:
                self._conversation.note(f"{name}: no such command (see /help); //text sends /text")
                return False
        return True

    def _make_layout(self, clock: bool) -> Layout:
        field = Window(
            BufferControl(self.typed, input_processors=[Visible(), BeforeInput(YOU, "class:you")]),
            height=self._input_height,
            dont_extend_height=True,
            wrap_lines=True,
        )
        # The last column stays free: there, terminals misplace an accent.
        line = VSplit([field, Window(width=1)])
        view = ConversationView(self.pages, clock, self.mentions)
        status = Window(FormattedTextControl(self._status), height=1, style="class:status")
        return Layout(HSplit([Window(view), status, line]), field)

    def _input_height(self) -> Dimension:
        """Return the height of the typed line, which leaves some rows for the conversation."""
        left = self.output.get_size().rows - 1 - MIN_CONVERSATION
        return Dimension(min=1, max=max(1, min(left, HIGHEST_INPUT)))

    def _status(self) -> StyleAndTextTuples:
        alarms = shorter = since = ""
        if self._link.since is None:
            left = self._link.until - monotonic()
            soon = left < 0.5
            alarms = f" not connected, trying again {'now' if soon else f'in {left:.0f} s'} "
            shorter = f" not connected: {'now' if soon else f'{left:.0f} s'} "
        else:
            since = f" connected {format_duration(monotonic() - self._link.since)}"
        if unread := self.pages.unread:
            alarms += f" {unread} unread: PageDown "
            shorter += f" {unread} unread "
        elif self.pages.scrolled:
            alarms += " scrolled: PageDown "
            shorter += " scrolled "
        width = self.output.get_size().columns
        alarm, rest = fit_status(alarms, shorter, f" {self._name} ", since, width)
        return [("class:lost", alarm), ("", rest)]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        nothing_typed = Condition(lambda: not self.typed.text)
        keys.add("enter")(lambda _event: self.enter())
        # Eager: while text is selected, the library has longer key sequences that begin with
        # Ctrl-C, and would wait for the next key.
        keys.add("c-c", eager=True)(lambda _event: self.end(Ending(0)))
        keys.add("c-d", filter=nothing_typed)(lambda _event: self.end(Ending(0)))
        keys.add("c-z")(lambda _event: self.stop())
        for key in [("pageup",), ("escape", "v")]:
            keys.add(*key)(lambda _event: self.pages.page(-1))
        for key in [("pagedown",), ("c-v",)]:
            keys.add(*key)(lambda _event: self.pages.page(1))
        keys.add("c-r")(lambda _event: self.find())
        at_end = Condition(lambda: self.typed.cursor_position == len(self.typed.text))
        keys.add("end", filter=at_end)(lambda _event: self.pages.end())
        # These keys are disabled: the library would accept and clear the typed line without sending
        # it.
        for key in [("c-o",), ("escape", "#")]:
            keys.add(*key)(lambda _event: None)
        return keys
