"""From the first connection to the last word."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from chatroom.client.address import RoomAddress, reason
from chatroom.client.session import LAST_WORDS, PATIENCE, Ending, ending_of
from chatroom.client.signals import ENDING, handle_signals
from chatroom.client.view.conversation import NOTICE, Conversation
from chatroom.client.view.link import Link
from chatroom.client.view.output import Output, open_terminal
from chatroom.client.view.window import Chat
from chatroom.protocol.text import printable

#: Seconds after which who waits for a connection wants to know that it is not there yet.
SOON = 1.0

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


class Visit:
    """The conversation, the link and the window, which know of each other only through this."""

    def __init__(self, address: RoomAddress, choices: Choices, say: Callable[[str], None]) -> None:
        """`say`: show what there is no window for yet."""
        self._address = address
        self._choices = choices
        self._say = say
        self._conversation = Conversation()
        self._link = Link(address.connect, self, reconnect=choices.reconnect)
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
        """Chat until the user leaves, or the connection ends for good."""
        loop = asyncio.get_running_loop()
        waiting = loop.call_later(SOON, self._say, f"connecting to {self._address} …")
        try:
            await self._link.connect()
        except (OSError, UnicodeError) as error:  # UnicodeError: no host's name looks like this.
            return Ending(1, f"cannot connect to {self._address}: {reason(error)}")
        finally:
            waiting.cancel()
        with open_terminal() as terminal:
            screen = Output(terminal)
            self._chat = Chat(
                name=self._address.name,
                output=screen,
                link=self._link,
                conversation=self._conversation,
                clock=self._choices.time,
                mouse=self._choices.mouse,
            )
            if self._choices.warning:
                self._conversation.note(self._choices.warning)
            handle_signals(
                {
                    signal.SIGCONT: self._chat.resume,
                    signal.SIGTSTP: self._chat.stop,
                    **{number: partial(self._end, ending_of(number)) for number in ENDING},
                }
            )
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
