"""Tests of the window's keys: each key of prompt_toolkit works, or is disabled."""

import asyncio
from pathlib import Path
from typing import cast

import pytest
from prompt_toolkit.application.current import set_app
from prompt_toolkit.key_binding.bindings.basic import load_basic_bindings
from prompt_toolkit.key_binding.bindings.emacs import (
    load_emacs_bindings,
    load_emacs_shift_selection_bindings,
)
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys

from chatroom.client.view.link import Link
from chatroom.client.view.output import Output
from chatroom.client.view.window import Chat


class SilentLink:
    """A link that accepts every message."""

    since = 0.0

    def send(self, text: str) -> bool:
        return True

    def reconnect_now(self) -> None:
        pass


def press(keys: tuple[Keys | str, ...], text: str) -> list[str]:
    """Type `text` and press keys; return the line after the keys, and the line after each undo."""

    async def story() -> list[str]:
        with Path("/dev/null").open("wb", buffering=0) as terminal:
            output = Output(terminal)
            chat = Chat(
                "room", output, cast("Link", SilentLink()), clock=False, bell=False, mouse=False
            )
            with set_app(chat):
                chat.typed.text = text
                chat.typed.cursor_position = 2
                data = "x" if keys[-1] == Keys.Any else ""
                chat.key_processor.feed_multiple([KeyPress(key, data) for key in keys])
                chat.key_processor.process_keys()
                found = [chat.typed.text]
                for _ in range(3):
                    found.append(chat.typed.text)
                    chat.typed.undo()
                return found

    return asyncio.run(story())


LOADED = (load_basic_bindings, load_emacs_bindings, load_emacs_shift_selection_bindings)
BOUND = sorted(
    {tuple(binding.keys) for load in LOADED for binding in load().bindings},
    key=lambda keys: [str(key) for key in keys],
)


@pytest.mark.parametrize("keys", BOUND, ids=lambda keys: " ".join(map(str, keys)))
def test_no_key_throws_the_typed_line_away(keys: tuple[Keys | str, ...]) -> None:
    if keys[-1] in (Keys.ControlM, Keys.ControlJ):
        pytest.skip("this key sends the line")
    assert "one two" in press(keys, "one two")
