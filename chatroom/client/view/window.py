"""What is on the screen, and what the keys do.

From above: what was said, the status, and the line that is being typed. prompt_toolkit has the keys
that edit it, its history and its pastes; here is only what a chat adds.
"""

import os
import signal
import termios
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING

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
    Window,
)
from prompt_toolkit.layout.processors import (
    BeforeInput,
    Processor,
    Transformation,
    TransformationInput,
)
from prompt_toolkit.mouse_events import MouseEvent, MouseEventType
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from chatroom.client.session import Ending
from chatroom.client.view.conversation import YOU, Conversation
from chatroom.client.view.link import Link
from chatroom.client.view.output import Output
from chatroom.client.view.pages import Pages, Row, calm
from chatroom.protocol.text import printable

if TYPE_CHECKING:
    from prompt_toolkit.key_binding.key_bindings import NotImplementedOrNone

#: Hues that one can read on black as well as on white: all are as bright, half-way between.
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
        "status": "reverse",
        "lost": "bold",
        **{f"person{number}": colour for number, colour in enumerate(PEOPLE)},
    }
)

#: Seconds between two frames at least, however much is said.
FRAME = 0.05
#: Seconds after which the status is looked at again.
TICK = 1.0
#: Rows that the wheel scrolls.
NOTCH = 3
#: Rows of a line that is being typed that are seen at once.
HIGHEST_INPUT = 8
#: Rows of the conversation that are seen all the same, where there are as many.
LEAST_SAID = 2
#: Characters of a cut name that still say something.
SHORTEST_NAME = 6
#: Seconds between two bells at least.
SILENCE = 1.0


def lasted(seconds: float) -> str:
    """A time in words, as exact as a glance wants it."""
    minutes = int(seconds) // 60
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"for {days} d {hours_left} h"
    if hours:
        return f"for {hours} h {minutes_left} min"
    return f"for {minutes} min" if minutes else "just now"


def fitted(alarms: str, shorter: str, name: str, since: str, width: int) -> tuple[str, str]:
    """A status of so many cells: its alarms, `shorter` where it is narrow, and what fits beside."""
    alarms = alarms if get_cwidth(alarms) <= width else shorter
    left = width - get_cwidth(alarms)
    if get_cwidth(name) <= left:
        fits = get_cwidth(name + since) <= left
        return alarms, name + since if fits else name
    while name and get_cwidth(name) >= left:
        name = name[:-1]
    return alarms, f"{name}…" if len(name) > SHORTEST_NAME else ""


def fragments(row: Row, clock: bool) -> StyleAndTextTuples:
    """A row with its styles: of the first row of a line, when it came and whose it is."""
    line = row.line
    if line.kind == "notice":
        return [("class:notice", row.text)]
    if row.place.row or line.rest:
        return [("", row.text)]
    came = len(line.clock()) if clock else 0
    head = came + len(line.head)
    whose = "class:you" if line.kind == "own" else f"class:person{line.person % len(PEOPLE)}"
    return [
        ("class:clock", row.text[:came]),
        (whose, row.text[came:head]),
        ("", row.text[head:]),
    ]


def stop_all() -> None:
    """Stop, with all that the shell has started with us, as SIGTSTP does by default."""
    handler = signal.getsignal(signal.SIGTSTP)
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(0, signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)


class Visible(Processor):
    """What is typed, and above all pasted, is shown no more trustingly than what arrives."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        # One character for one, so that the cursor stays where it is.
        fragments = transformation_input.fragments
        typed = "".join(text for _, text, *_ in fragments)
        shown = iter(calm(printable(typed).replace("\t", " ")))
        return Transformation(
            [(style, "".join(islice(shown, len(text)))) for style, text, *_ in fragments]
        )


class Said(UIControl):
    """The conversation, as far as it is on the screen: its end is above the status."""

    def __init__(self, pages: Pages, clock: bool) -> None:
        self._pages = pages
        self._clock = clock

    def create_content(self, width: int, height: int) -> UIContent:
        shown = [fragments(row, self._clock) for row in self._pages.show(width, height)]
        rows: list[StyleAndTextTuples] = [[]] * (height - len(shown)) + shown
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
    """The window, and what it shows of a link. It ends when the user leaves, or by `end`."""

    def __init__(
        self, name: str, output: Output, link: Link, *, clock: bool, bell: bool, mouse: bool
    ) -> None:
        self._name = name
        self._link = link
        self._bell = bell
        self._conversation = Conversation()
        self._rung = 0.0
        self._kept = False  # The user knows that a line was not sent.
        self._glass = output
        output.drained = self.invalidate
        self.pages = Pages(self._conversation, clock=clock)
        self.typed = Buffer(history=InMemoryHistory(), multiline=False)
        super().__init__(
            layout=self._laid_out(clock),
            style=STYLE,
            key_bindings=self._keys(),
            output=output,
            color_depth=ColorDepth.from_env(),
            full_screen=True,
            mouse_support=mouse,
            min_redraw_interval=FRAME,
            refresh_interval=TICK,
        )

    # --- what the link tells ----------------------------------------------------------------------

    def heard(self, text: str) -> None:
        if self._conversation.arrived(text) and self._bell:
            self.ring()
        self.invalidate()

    def told(self, words: str) -> None:
        self._conversation.note(words)
        self.invalidate()

    def lost(self) -> None:
        self._conversation.ended()
        self._kept = False  # That a line can't be sent is news again.

    # --- the window -------------------------------------------------------------------------------

    @property
    def _is_open(self) -> bool:
        return self.is_running and not self.is_done

    def end(self, ending: Ending) -> None:
        """Close the window, unless it is closing already."""
        if self._is_open:
            self.exit(result=ending)

    def invalidate(self) -> None:
        """Draw a frame soon, unless the terminal has not taken the last one."""
        if not self._glass.stuck:
            super().invalidate()

    def stop(self) -> None:
        """Give the terminal back, and stop, until the shell has it go on (SIGTSTP)."""
        if self._is_open:
            run_in_terminal(stop_all)

    def resume(self) -> None:
        """Take a terminal on which a shell has been meanwhile (SIGCONT)."""
        if self._is_open:
            with suppress(termios.error):  # It is not ours any longer.
                # Not to be left: what is to be restored in the end is known from the beginning.
                self.input.raw_mode().__enter__()
            self.renderer.reset()
            self.invalidate()

    def ring(self) -> None:
        """Ring the terminal's bell, and not too often."""
        if monotonic() - self._rung >= SILENCE and not self._glass.stuck:
            self._rung = monotonic()
            self._glass.bell()

    def send(self) -> None:
        """Send what is typed; what can't be sent stays where it is."""
        text = self.typed.text
        # Of a paste, the last line is mostly ended. An Enter too many is no message to everyone.
        lines = text.strip("\n").split("\n") if text.strip("\n") else []
        self._link.hurry()
        if not lines:
            self.typed.reset()
            return
        if not self._link.send("".join(f"{line}\n" for line in lines)):
            if not self._kept:
                lost = self._link.since is None
                why = "there is no connection" if lost else "the room does not take it"
                self._conversation.note(f"not sent: {why}; your line is kept")
            self._kept = True
            return
        self._kept = False
        for line in lines:
            self._conversation.own(line)
        self.typed.reset(append_to_history=True)
        self.typed.load_history_if_not_yet_loaded()  # Now, and not with the next frame.
        self.pages.end()

    def _laid_out(self, clock: bool) -> Layout:
        field = Window(
            BufferControl(self.typed, input_processors=[Visible(), BeforeInput(YOU, "class:you")]),
            height=self._input_height,
            dont_extend_height=True,
            wrap_lines=True,
        )
        status = Window(FormattedTextControl(self._status), height=1, style="class:status")
        return Layout(HSplit([Window(Said(self.pages, clock)), status, field]), field)

    def _input_height(self) -> Dimension:
        """However long the line is, what is said meanwhile is seen above it."""
        left = self.output.get_size().rows - 1 - LEAST_SAID
        return Dimension(min=1, max=max(1, min(left, HIGHEST_INPUT)))

    def _status(self) -> StyleAndTextTuples:
        alarms = shorter = since = ""
        if self._link.since is None:
            left = self._link.until - monotonic()
            soon = left < 0.5
            alarms = f" not connected, trying again {'now' if soon else f'in {left:.0f} s'} "
            shorter = f" not connected: {'now' if soon else f'{left:.0f} s'} "
        else:
            since = f" connected {lasted(monotonic() - self._link.since)}"
        if unread := self.pages.unread:
            alarms += f" {unread} unread: PageDown "
            shorter += f" {unread} unread "
        elif self.pages.scrolled:
            alarms += " scrolled: PageDown "
            shorter += " scrolled "
        width = self.output.get_size().columns
        alarm, rest = fitted(alarms, shorter, f" {self._name} ", since, width)
        return [("class:lost", alarm), ("", rest)]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        nothing_typed = Condition(lambda: not self.typed.text)
        keys.add("enter")(lambda _event: self.send())
        keys.add("c-c")(lambda _event: self.end(Ending(0)))
        keys.add("c-d", filter=nothing_typed)(lambda _event: self.end(Ending(0)))
        keys.add("c-z")(lambda _event: self.stop())
        keys.add("pageup")(lambda _event: self.pages.page(-1))
        keys.add("pagedown")(lambda _event: self.pages.page(1))
        return keys
