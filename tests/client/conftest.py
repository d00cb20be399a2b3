"""Fixtures of the client's tests: a listening socket in place of a room, and a terminal."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.drivers import Room, StartTypist, Typist


@pytest.fixture
def room() -> Iterator[Room]:
    with contextlib.closing(Room()) as room:
        yield room


@pytest.fixture
def start_typist() -> Iterator[StartTypist]:
    with contextlib.ExitStack() as stack:

        def start(command: list[str], **options: Any) -> Typist:
            return stack.enter_context(contextlib.closing(Typist(command, **options)))

        yield start
