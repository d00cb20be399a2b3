"""Run the window from its first frame to its last."""

import asyncio
import signal
from functools import partial
from typing import TextIO

from chatroom.client.address import UNCHECKED, RoomAddress
from chatroom.client.connection import Connection
from chatroom.client.session import OUTPUT_WITHIN, PATIENCE, Ending, ending_of
from chatroom.client.signals import ENDING, handle_signals
from chatroom.client.text import left_to_right, visible
from chatroom.client.view.cells import FILLER
from chatroom.client.view.conversation import NOTICE
from chatroom.client.view.link import Link
from chatroom.client.view.output import Output, open_terminal
from chatroom.client.view.window import Chat

#: Exit code that a shell reports for a program killed by SIGHUP.
HUNG_UP = 128 + 1


async def run(
    address: RoomAddress,
    room: Connection,
    *,
    clock: bool,
    bell: bool,
    mouse: bool,
    reconnect: bool,
    nickname: str,
    log: TextIO | None,
) -> Ending:
    """Show the window until the user leaves, or the connection is lost without `reconnect`."""
    link = Link(room, address.connect, reconnect=reconnect)
    with open_terminal() as terminal:
        screen = Output(terminal)
        chat = Chat(
            address.name,
            screen,
            link,
            clock=clock,
            bell=bell,
            mouse=mouse,
            nickname=nickname,
            log=log,
        )
        if address.unchecked:
            chat.on_notice(UNCHECKED)
        handle_signals(
            {
                signal.SIGCONT: chat.resume,
                signal.SIGTSTP: chat.stop,
                **{number: partial(chat.end, ending_of(number)) for number in ENDING},
            }
        )
        ending = await _run_window(chat, link)
        screen.write_raw(_closing_text(chat))
        screen.flush()
        await screen.drain(OUTPUT_WITHIN)
    return ending


async def _run_window(chat: Chat, link: Link) -> Ending:
    """Show the window until there is an ending, and leave the room."""

    async def listen() -> None:
        why = await link.run(chat)
        chat.end(Ending(1, f"connection lost: {why}"))

    listening = asyncio.create_task(listen())
    try:
        ending = await chat.run_async(handle_sigint=False, set_exception_handler=False)
    except EOFError:
        ending = Ending(HUNG_UP)
    listening.cancel()
    await asyncio.wait([listening])
    await link.leave(chat, PATIENCE)
    chat.on_lost()  # This writes an unfinished line to the log.
    return ending


def _closing_text(chat: Chat) -> str:
    """Return the text that stays on the screen: the last rows, and the typed line if it was not
    sent."""
    size = chat.output.get_size()
    chat.pages.end()
    rows = [row.text for row in chat.pages.show(size.columns, size.rows - 2)]
    if unsent := chat.typed.text:
        rows.append(f"{NOTICE}not sent: {visible(unsent)}")
    return "".join(left_to_right(row.replace(FILLER, "")) + "\r\n" for row in rows)
