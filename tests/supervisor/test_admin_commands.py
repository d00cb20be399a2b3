"""Tests of the commands of a room's owner: kick, ban, unban, say."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chatroom.config.settings import Settings
from chatroom.control.bans import Bans
from chatroom.log.origin import ROOM, Origin
from chatroom.log.ring import Geometry, Log
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.protocol.message import ROOM_ID
from chatroom.supervisor.admin_commands import MAX_TEXT, AdminCommands
from chatroom.supervisor.members import Client, Members
from chatroom.supervisor.room_voice import PREFIX, RoomVoice
from chatroom.system.memory import anonymous_file
from chatroom.system.networks import UNIX
from tests.log.entries import Run, append
from tests.system.loops import ManualLoop

SETTINGS = Settings(log_size=128 << 10, max_lag=32 << 10, max_line=1 << 10)


class Room:
    """The commands, and the parts of a room that they use."""

    def __init__(self) -> None:
        geometry = Geometry.of(SETTINGS.limits)
        self.log = Log(anonymous_file("a test's log", geometry.file_size), geometry)
        self.log.format()
        self.log.prepare_seat(0)
        self.clients: dict[int, Client] = {}
        self.removed: list[tuple[int, LeaveReason]] = []
        self.ended: list[int] = []
        self.woken = 0
        self.bans = Bans()
        for id, address in enumerate(("10.0.0.1", "10.0.0.2", "::1", UNIX, "10.0.0.1"), 1):
            connection: Any = None
            self.clients[id] = Client(connection, address, 1000 + id, "", 0, slot=id)
        self.members = cast(
            Members, SimpleNamespace(by_id=self.clients, disconnect=self.note_removed)
        )
        self.loop = ManualLoop()
        self.voice = RoomVoice(self.loop, self.log, self.wake)
        self.commands = AdminCommands(self.members, self.bans, self.voice, self.ended.extend)

    def note_removed(self, members: list[int], why: LeaveReason) -> None:
        self.removed += [(id, why) for id in members]

    def wake(self) -> None:
        self.woken += 1

    def run(self, do: object, **more: object) -> dict[str, Any] | None:
        return self.commands.run({"do": do} | more)

    def text(self, start: int = 0) -> bytes:
        return b"".join(self.log.views(start, self.log.offset(self.log.head)))


@pytest.fixture(name="room")
def fixture_room() -> Iterator[Room]:
    room = Room()
    yield room
    os.close(room.log.fd)


# --- kick and ban --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "members"),
    [
        ("2", [2]),
        (2, [2]),
        ("002", [2]),
        ("10.0.0.1", [1, 5]),
        ("10.0.0.0/8", [1, 2, 5]),
        ("0.0.0.0/0", [1, 2, 5]),
        ("::/0", [3]),
        ("unix", [4]),
        ("6", []),
        ("0", []),
        ("192.0.2.1", []),
    ],
)
def test_kick_disconnects_the_matching_members(who: object, members: list[int], room: Room) -> None:
    assert room.run("kick", who=who) == {"kicked": members}
    assert room.removed == [(id, LeaveReason.KICKED) for id in members]
    assert room.ended == members
    assert room.bans.all() == [], "a kick does not ban"


@pytest.mark.parametrize(
    ("who", "banned", "members"),
    [
        ("1", "10.0.0.1", [1, 5]),
        ("10.0.0.0/30", "10.0.0.0/30", [1, 2, 5]),
        ("::1", "::1", [3]),
        ("192.0.2.1", "192.0.2.1", []),
    ],
)
def test_ban_disconnects_and_bans_the_matching_addresses(
    who: str, banned: str, members: list[int], room: Room
) -> None:
    spelt = [banned.removesuffix("/32").removesuffix("/128")]
    assert room.run("ban", who=who) == {"banned": banned, "kicked": members, "bans": spelt}
    assert room.removed == [(id, LeaveReason.BANNED) for id in members]
    assert room.ended == members
    assert room.run("bans") == {"bans": spelt}
    assert room.run("unban", who=spelt[0]) == {"unbanned": True, "bans": []}
    assert room.run("unban", who=spelt[0]) == {"unbanned": False, "bans": []}


@pytest.mark.parametrize("do", ["kick", "ban", "unban"])
@pytest.mark.parametrize("who", ["", "x", "10.0.0.1/8", None, [], {}, "\ud800", "²", 1e999, -1])
def test_an_invalid_member_or_network_is_an_error(do: str, who: object, room: Room) -> None:
    answer = room.run(do, who=who)
    assert answer is not None
    assert answer["error"].startswith("an address, a network such as ")
    assert room.removed == []


def test_an_unknown_id_cannot_be_banned(room: Room) -> None:
    answer = room.run("ban", who="99")
    assert answer == {"error": "no member with id 99"}
    assert not room.bans.all()
    assert not room.removed


def test_a_ban_of_a_unix_socket_s_client_bans_all_of_them(room: Room) -> None:
    answer = room.run("ban", who="4")
    assert answer == {"banned": "unix", "kicked": [4], "bans": ["unix"]}
    assert UNIX in room.bans


def test_a_ban_that_cannot_be_written_still_disconnects(room: Room, tmp_path: Path) -> None:
    bans = Bans(tmp_path / "gone" / "bans.json")
    commands = AdminCommands(room.members, bans, room.voice, room.ended.extend)
    answer = commands.run({"do": "ban", "who": "2"})
    assert answer is not None
    assert "can't be written" in answer["error"]
    assert room.removed == [(2, LeaveReason.BANNED)]
    assert "10.0.0.2" in bans


@pytest.mark.parametrize(
    "order", [{}, {"do": "dance"}, {"do": ["kick"]}, {"do": "say"}, {"do": "say", "text": 5}]
)
def test_an_invalid_request_has_no_answer(order: dict[str, Any], room: Room) -> None:
    assert room.commands.run(order) is None


# --- say -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "appended", "lines"),
    [
        ("lunch", b"<room>lunch\n", 1),
        ("lunch\n\n", b"<room>lunch\n", 1),
        ("one\r\ntwo\n\nfour", b"<room>one\n<room>two\n<room>\n<room>four\n", 4),
        ("обед 🍜", "<room>обед 🍜\n".encode(), 1),
        ("\x1b[2Jx\ry", "<room>␛[2Jx␍y\n".encode(), 1),
        ("\ud800", b"<room>?\n", 1),
    ],
)
def test_say_appends_a_message_of_the_room(
    text: str, appended: bytes, lines: int, room: Room
) -> None:
    assert room.run("say", text=text) == {"said": lines, "members": 5}
    assert room.text() == appended
    assert room.log.messages(room.log.head) == lines
    assert room.log.sender(room.log.head) == ROOM_ID, "so that all members receive the message"
    ((*_, origin),) = room.log.entries(1, 2)
    assert Origin.unpack(origin) == (ROOM, len(PREFIX))
    assert room.woken == 1


def test_say_ends_an_unfinished_line_first(room: Room) -> None:
    """LINE-6: the message of `say` begins a new line."""
    append(room.log, Run(7, b"<a>half", 3))
    room.run("say", text="x")
    assert room.text() == b"<a>half\n<room>x\n"


@pytest.mark.parametrize(
    "text", ["", "\n\n", "\r\n", "x" * (MAX_TEXT + 1), "é" * (MAX_TEXT // 2 + 1)]
)
def test_say_refuses_an_empty_or_too_long_text(text: str, room: Room) -> None:
    assert room.run("say", text=text) == {"error": "the text must have 1 to 4096 bytes"}
    assert room.woken == 0
    assert room.run("say", text="x" * MAX_TEXT) == {"said": 1, "members": 5}


BUSY = {"error": "the room is too busy; try again"}


def test_say_does_not_wait_for_space_in_the_log(room: Room) -> None:
    with room.log as log:
        log.serve(0, log.head)  # The worker never advances.
    text = "x\n" * 2000
    while (answer := room.run("say", text=text)) == {"said": 2000, "members": 5}:
        pass
    assert answer == BUSY
    with room.log as log:
        log.advance(0, log.head)
    assert room.run("say", text=text) == {"said": 2000, "members": 5}, "BUSY has released the lock"


HOLDER = """
import fcntl, os, sys, signal
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)
print("held", flush=True)
signal.pause()
"""


def test_say_does_not_wait_for_a_stopped_holder_of_the_lock(
    room: Room,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(room.log.fd)],
        pass_fds=[room.log.fd],
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert room.run("say", text="x") == BUSY
        holder.send_signal(signal.SIGKILL)
    assert room.run("say", text="x") == {"said": 1, "members": 5}
    assert room.text() == b"<room>x\n"
