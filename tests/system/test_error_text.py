"""Tests of errors as text for users."""

import errno
import socket

import pytest

from chatroom.system.error_text import error_text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "Connection refused"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), "No such file or directory"),
        (socket.gaierror(socket.EAI_NONAME, "Name not known"), "Name not known"),
        (UnicodeEncodeError("idna", "x", 0, 1, "label too long"), "label too long"),
        (OSError("no answer within 5 s"), "no answer within 5 s"),
        (TimeoutError(), ""),
    ],
)
def test_the_text_has_no_number(error: Exception, text: str) -> None:
    assert error_text(error) == text
