"""Terminal output that never blocks and that draws whole rows.

prompt_toolkit writes a frame and waits until the terminal has accepted it. If the terminal is not
read, for example because ssh hangs, no key and no signal is handled meanwhile. In this module, the
rest of a frame is queued, and no other frame is drawn until the queue is empty.

prompt_toolkit writes only the differences from the last frame, and moves the cursor by the number
of cells that it computes. If the terminal computes another number, the screen is wrong: a digit of
one message may appear in the next message. So this module drops the writes of prompt_toolkit.
`draw` takes the same frame and draws each changed row whole, from its first column; see also
cells.py.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import FileIO
from typing import TextIO, cast

from prompt_toolkit.data_structures import Point, Size
from prompt_toolkit.layout.screen import Screen
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import DEFAULT_ATTRS, Attrs

from chatroom.client.streams import STDOUT
from chatroom.client.text import LEFT_TO_RIGHT, left_to_right
from chatroom.client.view.cells import FILLER, is_agreed

USUAL_SIZE = os.terminal_size((80, 24))
#: Escape sequence that resets the attributes.
PLAIN = "\x1b[0m"

Look = Callable[[str], Attrs]
"""A function that returns the attributes of a style."""


def size() -> Size:
    try:
        columns, rows = os.get_terminal_size(STDOUT)
    except OSError:  # The terminal has hung up.
        columns, rows = USUAL_SIZE
    return Size(rows or USUAL_SIZE.lines, columns or USUAL_SIZE.columns)


def goto(y: int, x: int) -> str:
    return f"\x1b[{y + 1};{x + 1}H"


def open_terminal() -> FileIO:
    """Open standard output a second time, without blocking.

    The file that is open already must stay blocking, because the shell uses it, too. Waiting until
    the terminal is ready is not enough: a write may still block.
    """
    how = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK
    with suppress(OSError):  # After `su`, another user owns it; in a container, it may be missing.
        return open(os.open(os.ttyname(STDOUT), how), "wb", buffering=0)
    with suppress(OSError):
        os.tcgetpgrp(STDOUT)  # Raises OSError if this is not our controlling terminal.
        return open(os.open("/dev/tty", how), "wb", buffering=0)
    return open(STDOUT, "wb", buffering=0, closefd=False)


class Output(Vt100_Output):
    """An output that queues what the terminal does not accept.

    `drained` is called when the queue is empty again.
    """

    drained: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, terminal: FileIO) -> None:
        # The cursor's position need not be requested: a window begins at the corner of the screen.
        super().__init__(
            cast("TextIO", terminal), size, term=os.environ.get("TERM"), enable_cpr=False
        )
        self._terminal = terminal
        self._waiting = bytearray()
        # The console of Linux shows links (OSC 8) as text; other terminals without links ignore
        # them.
        self._has_links = self.term != "linux"
        self._drawn: dict[int, str] = {}
        """Text and escape sequences of each row on the screen; a missing row must be drawn."""
        self._all_written = asyncio.Event()
        """Set while the queue is empty."""
        self._all_written.set()

    # --- the frame -----------------------------------------------------------------------------

    # These methods drop the parts of a frame and the moves of the cursor: `draw` writes whole rows.

    def write(self, data: str) -> None:
        pass

    def set_attributes(self, attrs: Attrs, color_depth: ColorDepth) -> None:
        pass

    def reset_attributes(self) -> None:
        pass

    def cursor_goto(self, row: int = 0, column: int = 0) -> None:
        pass

    def cursor_up(self, amount: int) -> None:
        pass

    def cursor_forward(self, amount: int) -> None:
        pass

    def cursor_backward(self, amount: int) -> None:
        pass

    def erase_end_of_line(self) -> None:
        pass

    def erase_down(self) -> None:
        self.forget()

    def erase_screen(self) -> None:
        self.forget()

    def enter_alternate_screen(self) -> None:
        super().enter_alternate_screen()
        self.forget()

    def forget(self) -> None:
        """Draw every row of the next frame, even rows that have not changed."""
        self._drawn.clear()

    def draw(self, screen: Screen, cursor: Point, look: Look, depth: ColorDepth) -> None:
        """Draw the rows of a frame that have changed. `look` returns the attributes of a style."""
        size = self.get_size()
        changed = []
        for y in range(size.rows):
            drawn = self._row(y, screen, size.columns, look, depth)
            if self._drawn.get(y) != drawn:
                self._drawn[y] = drawn
                # Erase first: after the last column, the cursor stays on the cell that was written.
                changed.append(f"{goto(y, 0)}{PLAIN}\x1b[K{drawn}{PLAIN}")
        if changed:
            self.hide_cursor()
            self.write_raw("".join(changed))
        self.write_raw(goto(cursor.y, cursor.x))
        self.show_cursor()
        self.flush()

    def _row(self, y: int, screen: Screen, columns: int, look: Look, depth: ColorDepth) -> str:
        """Return the text and escape sequences that draw a row, from its first column on."""
        row = screen.data_buffer[y]
        end = 1 + max(
            (x for x, cell in row.items() if cell.char != " " or look(cell.style) != DEFAULT_ATTRS),
            default=-1,
        )
        links: Mapping[int, str] = {}
        if self._has_links:
            links = screen.zero_width_escapes.get(y, links)
        drawn = []
        style, attributes = "", DEFAULT_ATTRS
        here = x = 0  # `here`: the column of the cursor, or -1 if it is in doubt.
        marked = False
        while x < min(end, columns):
            cell = row[x]
            drawn.append(links.get(x, ""))
            # A cell without width is an accent, which was already merged with the cell before it.
            if cell.width and FILLER not in cell.char:
                if here != x:
                    drawn.append(goto(y, x))
                if cell.style != style:
                    style = cell.style
                    if attributes != look(style):
                        attributes = look(style)
                        super().set_attributes(attributes, depth)
                        drawn.append(self._buffer.pop())
                text = cell.char.replace("\x1b", "?")
                agreed = is_agreed(text)
                if not (marked or agreed):
                    text = left_to_right(text)
                    marked = text.startswith(LEFT_TO_RIGHT)
                drawn.append(text)
                here = x + cell.width if agreed else -1
            x += cell.width or 1
        drawn.append(links.get(x, ""))  # The end of a link.
        return "".join(drawn)

    @property
    def stuck(self) -> bool:
        return bool(self._waiting)

    def flush(self) -> None:
        self._waiting += "".join(self._buffer).encode("utf-8", "replace")
        self._buffer = []
        self._write()

    def retry(self) -> None:
        """Try again to write the queue: the kernel does not always report that there is space."""
        if self._waiting:
            self._write()

    def encoding(self) -> str:
        return "utf-8"

    async def drain(self, seconds: float) -> None:
        """Wait until everything is written, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._all_written.wait()
        asyncio.get_running_loop().remove_writer(self._terminal)

    def _write(self) -> None:
        try:
            while self._waiting and (written := self._terminal.write(self._waiting)):
                del self._waiting[:written]
        except OSError:  # The terminal has hung up; SIGHUP will end the client.
            self._waiting.clear()
        loop = asyncio.get_running_loop()
        if self._waiting:
            self._all_written.clear()
            loop.add_writer(self._terminal, self._write)
        elif not self._all_written.is_set():
            self._all_written.set()
            loop.remove_writer(self._terminal)
            self.drained()
