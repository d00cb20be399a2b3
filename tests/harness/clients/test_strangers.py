"""The search for lines of strangers: clients of the server that do not belong to the run."""

import pytest

from harness.clients.room import _is_own
from harness.clients.strangers import Record
from harness.profile import load, parse

TUTORIAL = load("tutorial")
BARE = parse("prefix = ''\n", "bare")


def record(sent: bytes, heard: bytes) -> Record:
    made = Record()
    made.sends("A", sent)
    made.receives("B", heard)
    return made


def is_own(text: bytes) -> bool:
    return b"z0000000000001" in text


@pytest.mark.parametrize(
    "heard",
    [
        b"",
        b"<127.0.0.2>Good morning\n",
        b"<127.0.0.2>Good mor\n<127.0.0.2>ning\n<127.0.0.2>",
        b"<127.0.0.2>good_morning!\n",
        b"<127.0.0.2>Good morz0000000000001\n",
        b"<127.0.0.2>\n<127.0.0.2>?!\n",
        b"Error: too many words\n",
    ],
)
def test_a_line_of_the_run_or_of_the_server_is_not_a_stranger_s(heard: bytes) -> None:
    assert record(b"Good morning\n", heard).stranger(TUTORIAL, is_own) is None


def test_a_line_that_no_client_of_the_run_sent_is_a_stranger_s() -> None:
    heard = b"Welcome\n<127.0.0.2>Good morning\n<192.0.2.9>hello\n"
    assert record(b"Good morning\n", heard).stranger(TUTORIAL, is_own) == b"<192.0.2.9>hello\n"


def test_a_line_may_be_a_stranger_s_in_a_dialect_without_prefixes() -> None:
    assert record(b"Good morning\n", b"hello\n").stranger(BARE, is_own) == b"hello\n"


def test_a_line_that_an_earlier_test_sent_is_not_a_stranger_s() -> None:
    made = record(b"Good morning\n", b"<192.0.2.9>hello\n")
    made.begin()
    assert made.stranger(TUTORIAL, is_own) is None
    made.receives("A", b"<127.0.0.2>Good morning\n")
    assert made.stranger(TUTORIAL, is_own) is None


def test_no_stranger_is_found_after_more_bytes_than_the_record_keeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.clients.strangers.MOST", 4)
    assert record(b"Good morning\n", b"<192.0.2.9>hello\n").stranger(TUTORIAL, is_own) is None


def test_a_token_of_another_run_is_not_own() -> None:
    assert not _is_own(b"<192.0.2.9>z0000000000001\n")
