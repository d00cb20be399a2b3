"""Tests of numbers, texts and times in lines for people."""

from chatroom.wording import stamp


def test_a_stamp_is_utc_with_milliseconds() -> None:
    assert stamp(0) == "1970-01-01T00:00:00.000Z"
    assert stamp(1769860807.1239) == "2026-01-31T12:00:07.123Z"
