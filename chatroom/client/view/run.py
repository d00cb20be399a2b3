"""From the first connection to the last word."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from chatroom.client.reach import Reach, reason
from chatroom.client.session import LAST_WORDS, Ending
from chatroom.client.signals import ENDING
from chatroom.client.streams import output
from chatroom.client.view.conversation import NOTICE, Conversation
from chatroom.client.view.link import Link
from chatroom.client.view.output import Output
from chatroom.client.view.window import Chat
from chatroom.protocol.text import printable

#: Seconds after which who waits for a connection wants to know that it is not there yet.
SOON = 1.0
#: Seconds that the room has to close after the user left.
PATIENCE = 1.0

#: What is reported of a program whose terminal has hung up.
HUNG_UP = 128 + 1


@dataclass(frozen=True)
class Choices:
    """What the user wants of the window."""

    time: bool
    bell: bool
    mouse: bool
    reconnect: bool
    warning: str


def run(reach: Reach, choices: Choices, say: Callable[[str], None]) -> Ending:
    """Chat until the user leaves, or the connection ends for good; `say` what has no window yet."""
    return asyncio.run(Visit(reach, choices, say).run())


class Visit:
    """The conversation, the link and the window, which know of each other only through this."""

    def __init__(self, reach: Reach, choices: Choices, say: Callable[[str], None]) -> None:
        self._reach = reach
        self._choices = choices
        self._say = say
        self._conversation = Conversation()
        self._link = Link(reach.open, self, reconnect=choices.reconnect)
        self._ending = Ending(0)

    # --- what the link tells ----------------------------------------------------------------------

    def heard(self, text: str) -> None:
        if self._conversation.arrived(text) and self._choices.bell:
            self._chat.ring()
        self._chat.invalidate()

    def told(self, words: str) -> None:
        self._conversation.note(words)
        self._chat.invalidate()

    def lost(self) -> None:
        self._conversation.ended()
        self._chat.lost()

    # --- from the beginning to the end ------------------------------------------------------------

    async def run(self) -> Ending:
        loop = asyncio.get_running_loop()
        waiting = loop.call_later(SOON, self._say, f"connecting to {self._reach} …")
        try:
            await self._link.connect()
        except (OSError, UnicodeError) as error:  # UnicodeError: no host's name looks like this.
            return Ending(1, f"cannot connect to {self._reach}: {reason(error)}")
        finally:
            waiting.cancel()
        with output() as terminal:
            screen = Output(terminal)
            self._chat = Chat(
                name=self._reach.name,
                output=screen,
                link=self._link,
                conversation=self._conversation,
                clock=self._choices.time,
                mouse=self._choices.mouse,
            )
            if self._choices.warning:
                self._conversation.note(self._choices.warning)
            self._heed_signals()
            await self._stay()
            screen.write_raw(self._farewell())
            screen.flush()
            await screen.drain(LAST_WORDS)
        return self._ending

    async def _stay(self) -> None:
        """Show the window until there is an ending, and leave the room."""
        listening = asyncio.create_task(self._listen())
        try:
            await self._chat.run_async(handle_sigint=False, set_exception_handler=False)
        except EOFError:
            self._ending = Ending(HUNG_UP)
        listening.cancel()
        await asyncio.wait([listening])
        await self._link.leave(PATIENCE)

    async def _listen(self) -> None:
        why = await self._link.run()
        self._end(Ending(1, f"connection lost: {why}"))

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCONT, self._chat.resume)
        heeded: dict[int, Callable[[], object]] = {
            number: partial(self._end, Ending(0 if number == signal.SIGINT else 128 + number))
            for number in ENDING
        }
        for number, heed in {signal.SIGTSTP: self._chat.stop, **heeded}.items():
            # Who started this with a signal ignored (nohup, a shell's &) wants it to stay so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, heed)

    def _end(self, ending: Ending) -> None:
        if self._chat.end():
            self._ending = ending

    def _farewell(self) -> str:
        """What stays on the screen: the end of the conversation, and what was not sent."""
        size = self._chat.output.get_size()
        self._chat.pages.end()
        rows = [row.text for row in self._chat.pages.show(size.columns, size.rows - 2)]
        if unsent := self._chat.typed.text:
            rows.append(f"{NOTICE}not sent: {printable(unsent)}")
        return "".join(row + "\r\n" for row in rows)
