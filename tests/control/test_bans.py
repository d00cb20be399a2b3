"""Tests of bans, and of the file that stores them."""

import json
import os
from pathlib import Path

import pytest

from chatroom.control.bans import Bans
from chatroom.errors import BansError
from chatroom.system.networks import parse_network

# --- the list ------------------------------------------------------------------------------------


def test_bans_are_listed_in_their_order_and_lifted() -> None:
    bans = Bans()
    for text in ("10.0.0.0/8", "192.0.2.1", "2001:db8::1", "10.0.0.0/8"):
        bans.add(parse_network(text))
    assert bans.all() == ["10.0.0.0/8", "192.0.2.1", "2001:db8::1"]
    assert not bans.remove(parse_network("10.0.0.1"))
    assert bans.remove(parse_network("10.0.0.0/8"))
    assert not bans.remove(parse_network("10.0.0.0/8"))
    assert bans.all() == ["192.0.2.1", "2001:db8::1"]
    assert "10.0.0.1" not in bans


# --- the file ------------------------------------------------------------------------------------


def test_bans_are_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "bans.json"
    bans = Bans(path)
    assert not path.exists(), "no file is written before the first ban"
    bans.add(parse_network("10.0.0.0/8"))
    bans.add(parse_network("192.0.2.1"))
    assert Bans(path).all() == ["10.0.0.0/8", "192.0.2.1"] == json.loads(path.read_text())
    whole = path.stat().st_ino
    bans.remove(parse_network("10.0.0.0/8"))
    assert path.stat().st_ino != whole, "the old file is replaced, not changed"
    assert Bans(path).all() == ["192.0.2.1"]
    assert [file.name for file in tmp_path.iterdir()] == ["bans.json"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "{}", '{"10.0.0.1": 1}', '"10.0.0.1"', "5", "null", "[1]", "[true]", "[[]]"),
        *('["x"]', "[" * 100_000, '["10.0.0.1"', "\xff"),
    ],
)
def test_an_invalid_file_of_bans_is_an_error_of_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bans.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BansError, match=r"bans\.json must be a list of networks in JSON: ") as e:
        Bans(path)
    assert "\n" not in str(e.value)
    assert path.read_bytes() == text.encode("latin-1"), "the file is unchanged"


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(BansError, match=r"can't be read: not a regular file"):
            Bans(path)


def test_a_ban_that_cannot_be_written_still_applies(tmp_path: Path) -> None:
    bans = Bans(tmp_path / "gone" / "bans.json")
    with pytest.raises(BansError, match=r"can't be written: No such file or directory$"):
        bans.add(parse_network("10.0.0.1"))
    assert "10.0.0.1" in bans
    with pytest.raises(BansError, match="can't be written"):
        bans.remove(parse_network("10.0.0.1"))
    assert "10.0.0.1" not in bans


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "bans.json"
    bans = Bans(path)
    bans.add(parse_network("10.0.0.1"))
    (tmp_path / "bans.new").mkdir()
    with pytest.raises(BansError):
        bans.add(parse_network("10.0.0.2"))
    assert Bans(path).all() == ["10.0.0.1"]
