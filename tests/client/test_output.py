"""Tests of a terminal that does not accept all output: a pipe that the test leaves unread."""

import asyncio
import os
from collections.abc import Iterator
from io import FileIO
from typing import cast

import pytest
from prompt_toolkit.application import Application

from chatroom.client.view.link import Link
from chatroom.client.view.output import Output
from chatroom.client.view.window import Chat, fit_status, format_duration

MUCH = "a" * (1 << 20)


@pytest.fixture
def pipe() -> Iterator[tuple[int, FileIO]]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(writer, "wb", buffering=0) as terminal, open(reader, "rb", buffering=0) as end:
        yield end.fileno(), terminal


async def read(reader: int, size: int) -> str:
    """Read at least `size` bytes, while the event loop continues to write."""
    heard = b""
    while len(heard) < size:
        heard += await asyncio.to_thread(os.read, reader, 1 << 16)
    return heard.decode()


def test_output_that_the_terminal_does_not_take_is_written_later(pipe: tuple[int, FileIO]) -> None:
    reader, terminal = pipe

    async def story() -> None:
        output = Output(terminal)
        output.write_raw(MUCH)
        output.flush()
        assert output.stuck
        await output.drain(0)
        output.write_raw("你")
        output.flush()
        assert await read(reader, len(MUCH) + 3) == MUCH + "你"
        await output.drain(10)
        assert not output.stuck

    asyncio.run(story())


def test_no_frame_is_drawn_before_the_previous_frame_is_written(
    pipe: tuple[int, FileIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, terminal = pipe
    frames: list[str] = []
    monkeypatch.setattr(Application, "invalidate", lambda chat: frames.append("drawn"))

    async def story() -> None:
        output = Output(terminal)
        link = cast("Link", None)
        chat = Chat("room", output, link, clock=False, bell=False, mouse=False)
        frames.clear()
        chat.invalidate()
        assert frames == ["drawn"]
        output.write_raw(MUCH)
        output.flush()
        chat.invalidate()
        chat.ring()
        assert frames == ["drawn"]
        await read(reader, len(MUCH))
        await output.drain(10)
        assert frames == ["drawn", "drawn"]
        chat.ring()
        assert os.read(reader, 10) == b"\a"

    asyncio.run(story())


class UnreadLink:
    """A link to a room that reads nothing."""

    since = 0.0

    def __init__(self) -> None:
        self.hurried = 0

    def reconnect_now(self) -> None:
        self.hurried += 1

    def send(self, text: str) -> bool:
        return False


def test_a_line_is_kept_while_the_room_does_not_read(pipe: tuple[int, FileIO]) -> None:
    link = UnreadLink()

    async def story() -> list[str]:
        output = Output(pipe[1])
        chat = Chat("room", output, cast("Link", link), clock=False, bell=False, mouse=False)
        for lost in (False, False, True):
            if lost:
                chat.on_lost()
            chat.typed.text = "hello"
            chat.enter()
            assert chat.typed.text == "hello"
        chat.typed.text = ""
        chat.enter()
        return [row.text for row in chat.pages.show(80, 10)]

    said = "── not sent: the room is not reading; your line is kept"
    assert asyncio.run(story()) == [said] * 2
    assert link.hurried == 4  # Each Enter calls reconnect_now.


def test_output_to_a_closed_terminal_is_discarded(pipe: tuple[int, FileIO]) -> None:
    reader, terminal = pipe
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, reader)
    os.close(null)

    async def story() -> None:
        output = Output(terminal)
        output.write_raw(MUCH)
        output.flush()
        assert not output.stuck

    asyncio.run(story())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (59.9, "just now"),
        (60, "for 1 min"),
        (3599, "for 59 min"),
        (3600 + 120, "for 1 h 2 min"),
        (86400 * 2 + 3600 * 3 + 5, "for 2 d 3 h"),
    ],
)
def test_a_duration_is_rounded_to_its_largest_units(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


LOST, LOST_SHORT = " not connected, trying again in 12 s ", " not connected: 12 s "
UNREAD, UNREAD_SHORT = " 7 unread: PageDown ", " 7 unread "


@pytest.mark.parametrize(
    ("alarms", "shorter", "width", "status"),
    [
        ("", "", 60, " 192.0.2.7:4000  connected for 3 min"),
        ("", "", 36, " 192.0.2.7:4000  connected for 3 min"),
        ("", "", 35, " 192.0.2.7:4000 "),
        ("", "", 15, " 192.0.2.7:400…"),
        ("", "", 5, ""),
        (LOST, LOST_SHORT, 60, LOST + " 192.0.2.7:4000 "),
        (LOST, LOST_SHORT, 48, LOST + " 192.0.2.7…"),
        (LOST, LOST_SHORT, 40, LOST),
        (LOST, LOST_SHORT, 20, LOST_SHORT),
        (UNREAD, UNREAD_SHORT, 40, UNREAD + " 192.0.2.7:4000 "),
        (UNREAD, UNREAD_SHORT, 20, UNREAD),
        (UNREAD, UNREAD_SHORT, 19, UNREAD_SHORT + " 192.0.2…"),
        (LOST + UNREAD, LOST_SHORT + UNREAD_SHORT, 40, LOST_SHORT + UNREAD_SHORT + " 192.0.2…"),
    ],
)
def test_a_narrow_status_keeps_the_important_parts(
    alarms: str, shorter: str, width: int, status: str
) -> None:
    shown = fit_status(alarms, shorter, " 192.0.2.7:4000 ", " connected for 3 min", width)
    assert "".join(shown) == status


def test_a_status_is_cut_by_cells() -> None:
    assert fit_status("", "", " 你好你好你好.example ", "", 14) == ("", " 你好你好你好…")
