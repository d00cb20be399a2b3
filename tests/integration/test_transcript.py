"""`--transcript FILE`: the file has each message that members received, exactly once."""

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chatroom.config.sizes import KIB
from chatroom.sidecars.transcript.lines import header
from tests.integration.clients import Client
from tests.integration.faults import hang
from tests.integration.faulty_room import faulty_room
from tests.integration.owner import UnixClient
from tests.integration.processes import look
from tests.integration.rooms import (
    DIED,
    NEVER_SILENT,
    ROOT,
    SMALL_LOG,
    UNLIMITED,
    WELCOME,
    Room,
    addresses,
    room,
)
from tests.integration.waiting import until
from tests.sidecars.transcript.lines import read as lines

WRITER_DIED = r" level=warning event=transcript-died file=\S+ exit=-9( again_in=[\d.]+)? says="
TROUBLE = (
    r" level=warning event=transcript-(trouble file=\S+ error=\"{why}\"|resumed file=\S+) says="
)
QUIET = ("--quiet", "--workers", 2, "--watchdog", 0, *NEVER_SILENT, *UNLIMITED)
MISSED = r" level=warning event=transcript-missed file=\S+ messages=\d+ says="

Line = dict[str, Any]


def as_received(found: Iterable[Line], prefix: str = "<{address}>") -> bytes:
    """Return the messages of the file as members have received them."""
    return "".join(
        prefix.format(**line) + line["text"] + "\n" for line in found if "text" in line
    ).encode()


def count_messages(found: list[Line]) -> tuple[int, int]:
    """Return the number of messages in the file, and the number of messages recorded as missed.

    Check that each message from the first on is in the file once and in order, or is recorded as
    missed.
    """
    there, gone = 0, 0
    for line in found:
        if "text" in line:
            assert line["n"] == there + gone + 1, line
            there += 1
        elif "missed" in line:
            assert line["first"] == there + gone + 1, line
            assert line["last"] == line["first"] + line["missed"] - 1, line
            gone += line["missed"]
        else:
            assert line["after"] == there + gone, line
    return there, gone


def has(file: Path, text: str) -> Callable[[], bool]:
    return lambda: file.exists() and text.encode() in file.read_bytes()


class Talk:
    """Two senders and a witness. The file must have the messages that the witness receives."""

    def __init__(self, here: Room) -> None:
        self.witness = here.join("127.0.0.9")
        self.speakers = here.join_all(addresses(2))
        self.heard = b""
        self._number = 0

    def lines(self, count: int) -> None:
        """Let each sender send `count` lines, at most 200 at once."""
        for first in range(0, count, 200):
            many = min(200, count - first)
            for speaker in self.speakers:
                self.send(speaker, many)
            self.expect(2 * many)

    def send(self, speaker: Client, count: int) -> None:
        """Let one sender send `count` lines at once."""
        speaker.send("".join(self._line() for _ in range(count)))

    def talk_until(self, condition: Callable[[], bool], what: str) -> None:
        """Let both senders send until the condition holds."""

        def talk_and_look() -> bool:
            self.lines(5)
            return condition()

        until(talk_and_look, what)

    def expect(self, messages: int) -> None:
        """Receive the next messages at the witness and at both senders."""
        for _ in range(messages):
            self.heard += self.witness.receive_until("\n")
        for speaker in self.speakers:
            speaker.arrived()
            speaker.unread.clear()

    def _line(self) -> str:
        self._number += 1
        return f'{self._number} naïve – 語る 🙂 "\\{"x" * (self._number % 100)}\n'

    def until_written(self, file: Path) -> None:
        """Wait until the file has the last received message, which begins with a unique number."""
        last = self.heard.decode().split("\n")[-2].partition(">")[2].partition(" ")[0]
        until(has(file, f"{last} naïve"), "the last message is written")


# --- content -------------------------------------------------------------------------------------


def test_the_file_has_what_members_receive(tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    with room("--quiet", "--workers", 2, "--transcript", file) as here:
        witness, client, other = here.join_all(["127.0.0.9", *addresses(2)])
        client.send(
            'hello\n\nnaïve 語る 🙂\r\n\x1b[2J\ttab "quoted" \\ \u2028\xff\n'.encode() + b"\xff\n"
        )
        heard = witness.receive_until("\n<127.0.0.2>\ufffd\n")
        other.send("no end")
        witness.expect("<127.0.0.3>no end")
        other.send(" and more\n")
        witness.expect("\n<127.0.0.3> and more\n")
        heard += b"<127.0.0.3>no end\n<127.0.0.3> and more\n"
        other.send("open")
        witness.expect("<127.0.0.3>open")
        client.send("x\n")
        witness.expect("\n<127.0.0.2>x\n")
        heard += b"<127.0.0.3>open\n<127.0.0.2>x\n"
        here.stop()
        where = f"127.0.0.1:{here.port}"
    first, *rest = found = lines(file)
    assert {**first, "run": "", "time": ""} == {"room": where, "run": "", "after": 0, "time": ""}
    assert as_received(found) == heard
    assert "naïve 語る 🙂".encode() in file.read_bytes(), "text is not escaped, so grep finds it"
    assert count_messages(found) == (len(rest), 0)
    assert [line["id"] for line in rest] == [
        2 if "2" in line["address"][-1] else 3 for line in rest
    ]
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in found
    )
    assert file.stat().st_mode & 0o777 == 0o600


def test_each_piece_of_a_line_that_is_too_long_is_a_message(tmp_path: Path) -> None:
    """LINE-7: each piece of a line longer than the limit is a message of its own in the file."""
    file = tmp_path / "said.jsonl"
    with room(*QUIET, "--max-line", 64, "--transcript", file) as here:
        witness, client = here.join_all(["127.0.0.9", "127.0.0.2"])
        client.send("語" * 1000 + "\n")
        heard = b"".join(witness.receive_until("\n") for _ in range(48))
        here.stop()
    assert as_received(lines(file)) == heard
    assert "".join(line["text"] for line in lines(file)[1:]) == "語" * 1000


def test_other_prefixes_and_messages_of_the_room_are_written(tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    form = "[{id}] {ip}:{port} – "
    options = ("--prefix", form, "--run-dir", tmp_path / "run")
    with room(*QUIET, *options, "--transcript", file) as here:
        witness, client = here.join_all(["127.0.0.9", "127.0.0.2"])
        client.send("[1] x\n")
        heard = witness.receive_until("\n")
        says = [sys.executable, "-m", "chatroom.admin", "--run-dir", str(tmp_path / "run"), "say"]
        subprocess.run([*says, "two\nlines"], cwd=ROOT, check=True, timeout=30)
        witness.expect("<room>two\n<room>lines\n")
        here.stop()
    found = lines(file)
    assert count_messages(found) == (3, 0)
    assert heard.decode().endswith(f"127.0.0.2:{client.end[1]} – {found[1]['text']}\n")
    assert found[1]["text"] == "[1] x"
    room_said = [(line["id"], line["address"], line["text"]) for line in found[2:]]
    assert room_said == [(0, "room", "two"), (0, "room", "lines")]


def test_messages_of_a_unix_socket_s_client_are_written(tmp_path: Path) -> None:
    file, path = tmp_path / "said.jsonl", tmp_path / "room"
    with room(*QUIET, "--listen", f"unix:{path}", "--transcript", file) as here:
        with UnixClient(path) as client:
            witness = here.join("127.0.0.9")
            client.expect(WELCOME)
            client.send("hello\n")
            witness.expect("<unix>hello\n")
        here.stop()
    assert as_received(lines(file)) == b"<unix>hello\n"


def test_messages_of_members_that_have_left_are_written(tmp_path: Path) -> None:
    """The last messages of a member are written after the member has left."""
    file = tmp_path / "said.jsonl"
    with room(*QUIET, "--transcript", file) as here:
        witness = here.join("127.0.0.9")
        until(has(file, "run"), "the file exists")
        writer = here.writer()
        os.kill(writer.pid, signal.SIGSTOP)
        guests = here.join_all(addresses(60))
        heard = b""
        for guest in guests:
            guest.send("bye")
            guest.close()
            heard += witness.receive_until("bye").lstrip(b"\n") + b"\n"
        until(lambda: here.descriptors() and len(here.spread(guests)) == 2, "the guests have left")
        os.kill(writer.pid, signal.SIGCONT)
        here.stop()
    assert as_received(lines(file)) == heard


def test_a_new_run_is_appended_to_the_file(tmp_path: Path) -> None:
    """If the file ends with an incomplete line of a transcript, this line is removed. All other
    text stays. Each run of a room records its start."""
    file = tmp_path / "said.jsonl"
    file.write_bytes(b'{"n": 7, "time": "2020')
    for number in range(2):
        with room(*QUIET, "--transcript", file) as here:
            witness, client = here.join_all(["127.0.0.9", "127.0.0.2"])
            client.send(f"{number}\n")
            witness.expect(f"<127.0.0.2>{number}\n")
    found = lines(file)
    assert [line.get("n", line.get("after")) for line in found] == [0, 1, 0, 1]
    assert found[0]["run"] != found[2]["run"]
    assert as_received(found) == b"<127.0.0.2>0\n<127.0.0.2>1\n"


def test_a_backlog_is_written_when_the_room_stops(tmp_path: Path) -> None:
    """The writer, which is the transcript's process, was stopped while the members sent."""
    file = tmp_path / "said.jsonl"
    with room(*QUIET, "--transcript", file) as here:
        until(has(file, "run"), "the file exists")
        talk = Talk(here)
        writer = here.writer()
        os.kill(writer.pid, signal.SIGSTOP)
        for speaker in talk.speakers:
            # Long lines need many writes to the file, but take little time to send.
            speaker.send("".join(f"{'x' * 250}{number:04}\n" for number in range(4000)))
        heard = b"".join(talk.witness.receive_until(b"3999\n") for _ in range(2))
        os.kill(here.pid, signal.SIGTERM)
        until(lambda: not here.workers(), "all workers have ended")
        os.kill(writer.pid, signal.SIGCONT)
        here.expect_exit(within=8.0)
    assert count_messages(lines(file)) == (8000, 0)
    assert as_received(lines(file)) == heard


def test_the_writer_of_a_silent_room_is_idle(tmp_path: Path) -> None:
    """LEAVE-3: the writer uses no processor time."""
    file = tmp_path / "said.jsonl"
    with room(*QUIET, "--transcript", file) as here:
        talk = Talk(here)
        talk.lines(10)
        until(here.is_idle, "the room is idle")


# --- the process dies or hangs -------------------------------------------------------------------


def all_is_written(file: Path, talk: Talk) -> bool:
    return file.read_bytes().count(b'{"n"') == talk.heard.count(b"\n")


def test_the_writer_is_killed_repeatedly_under_load(tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    chance = random.Random(1)
    with room(*QUIET, *SMALL_LOG, "--transcript", file, logs=WRITER_DIED) as here:
        talk = Talk(here)
        for deaths in range(1, 9):
            talk.lines(20)
            for speaker in talk.speakers:
                talk.send(speaker, 100)
            before = chance.randrange(1, 200)
            for _ in range(before):
                talk.expect(1)
            here.writer().kill()
            talk.expect(200 - before)
            until(lambda n=deaths: here.errors.count("transcript-died") == n, "the death is logged")  # type: ignore[misc]
            # Wait here, because the log keeps only 384 entries for the next writer.
            until(lambda: all_is_written(file, talk), "the next writer has written all")
        talk.lines(20)
        here.stop()
    found = lines(file)
    assert as_received(found) == talk.heard
    assert count_messages(found) == (8 * 240 + 40, 0)
    assert sum("run" in line for line in found) == 1


def test_the_writer_and_workers_are_killed_together(tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    with room(*QUIET, "--transcript", file, logs=f"{WRITER_DIED}|{DIED}") as here:
        talk = Talk(here)
        for number in range(4):
            for speaker in talk.speakers:
                talk.send(speaker, 100)
            # Find the writer first: in /proc, a worker that is about to end looks like the writer.
            writer = here.writer()
            here.workers()[0].kill()
            writer.kill()
            talk.expect(200)
            here.wait_until_replaced(number + 1, 2)
            until(lambda n=number: here.errors.count("-died") == 2 * n + 2, "both are logged")  # type: ignore[misc]
        here.stop()
    assert as_received(lines(file)) == talk.heard
    assert count_messages(lines(file)) == (800, 0)


POINTS = [
    ("looking", 0),
    ("looking", 3),
    ("found", 3),
    ("unwritten", 0),
    ("unwritten", 2),
    ("half written", 0),
    ("half written", 2),
    ("written", 0),
    ("written", 2),
    ("done", 2),
    ("synced", 0),
    ("opening", 0),
    ("opened", 0),
    ("open", 0),
]


@pytest.mark.sample(4)
@pytest.mark.parametrize(("point", "skip"), POINTS)
def test_the_writer_dies_at(tmp_path: Path, point: str, skip: int) -> None:
    """The first writer dies at the point, and another writer writes the rest."""
    file = tmp_path / "said.jsonl"
    options = (*QUIET, "--transcript", file)
    faulty = faulty_room(
        tmp_path, f"transcript {point}", *options, skip=skip, logs=WRITER_DIED, loaded=1
    )
    with faulty as (here, rounds):
        talk = Talk(here)
        talk.talk_until(lambda: not rounds.left, "the writer has died")
        until(lambda: "-died" in here.errors, "the death is logged")
        talk.lines(5)
        here.stop()
        assert here.errors.count("\n") == 1
    assert as_received(lines(file)) == talk.heard
    count_messages(lines(file))


@pytest.mark.sample(2)
@pytest.mark.parametrize("point", ["mending", "opening", "opened", "open", "half written"])
def test_the_writer_dies_after_the_file_was_moved(tmp_path: Path, point: str) -> None:
    """The next writer continues the moved file until SIGUSR1."""
    file, moved = tmp_path / "said.jsonl", tmp_path / "said.jsonl.1"
    with faulty_room(
        tmp_path, f"transcript {point}", *QUIET, "--transcript", file, logs=WRITER_DIED
    ) as (
        here,
        rounds,
    ):
        talk = Talk(here)
        talk.lines(5)
        talk.until_written(file)
        file.rename(moved)
        deaths = 1
        here.writer().kill()
        if point == "mending":
            rounds.load()
            deaths += 1
        until(lambda: here.errors.count("-died") >= 1, "the death is logged")
        talk.lines(5)
        talk.until_written(moved)
        assert not file.exists()
        if point != "mending":
            rounds.load()
            deaths += 1
        os.kill(here.pid, signal.SIGUSR1)
        until(file.exists, "the new file exists")
        talk.lines(5)
        rounds.wait_until_fired()
        talk.lines(5)
        until(lambda: here.errors.count("-died") == deaths, "all deaths are logged")
        here.stop()
    assert as_received(lines(moved, file)) == talk.heard
    assert count_messages(lines(moved, file)) == (40, 0)


def test_the_writer_dies_when_the_room_stops(tmp_path: Path) -> None:
    """Another writer writes the rest."""
    file = tmp_path / "said.jsonl"
    with faulty_room(
        tmp_path, "transcript unwritten", *QUIET, "--transcript", file, logs=WRITER_DIED
    ) as (
        here,
        rounds,
    ):
        talk = Talk(here)
        talk.lines(5)
        talk.until_written(file)
        writer = here.writer()
        os.kill(writer.pid, signal.SIGSTOP)
        talk.lines(5)
        rounds.load(pid=writer.pid)
        os.kill(here.pid, signal.SIGTERM)
        until(lambda: not here.workers(), "all workers have ended")
        os.kill(writer.pid, signal.SIGCONT)
        here.expect_exit()
        assert not rounds.left
    assert as_received(lines(file)) == talk.heard


def test_a_writer_that_was_stopped_writes_everything_later(tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    with room(*QUIET, "--transcript", file) as here:
        talk = Talk(here)
        writer = here.writer()
        os.kill(writer.pid, signal.SIGSTOP)
        talk.lines(1000)
        os.kill(writer.pid, signal.SIGCONT)
        talk.until_written(file)
        here.stop()
    assert as_received(lines(file)) == talk.heard


def test_the_number_of_missed_messages_is_written(tmp_path: Path) -> None:
    """The room does not wait for the writer. The writer records the number of messages that it
    missed."""
    file = tmp_path / "said.jsonl"
    with room(*QUIET, *SMALL_LOG, "--transcript", file, logs=MISSED) as here:
        talk = Talk(here)
        said = 0
        for _ in range(2):
            talk.lines(20)
            talk.until_written(file)
            writer = here.writer()
            os.kill(writer.pid, signal.SIGSTOP)
            talk.lines(2000)
            os.kill(writer.pid, signal.SIGCONT)
            talk.until_written(file)
            said += 2 * 2020
        here.stop()
        told = re.findall(r" messages=(\d+) ", here.errors)
    found = lines(file)
    there, gone = count_messages(found)
    assert sum(map(int, told)) == gone
    assert (there + gone, sum("missed" in line for line in found)) == (said, 2)
    assert gone < there + gone - 80
    heard = talk.heard.split(b"\n")
    texts = [heard[line["n"] - 1] + b"\n" for line in found if "text" in line]
    assert as_received(found) == b"".join(texts)


def test_the_next_writer_records_what_both_have_missed(tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    logs = f"{WRITER_DIED}|{MISSED}"
    with room(*QUIET, *SMALL_LOG, "--transcript", file, logs=logs) as here:
        talk = Talk(here)
        talk.lines(20)
        talk.until_written(file)
        writer = here.writer()
        os.kill(writer.pid, signal.SIGSTOP)
        talk.lines(2000)
        writer.kill()
        talk.until_written(file)
        here.stop()
    there, gone = count_messages(lines(file))
    assert (there + gone, gone > 0) == (4040, True)


@pytest.mark.sample(1)
@pytest.mark.parametrize("point", ["looking", "found", "half written", "synced"])
def test_a_writer_that_hangs_delays_no_member(tmp_path: Path, point: str) -> None:
    """Members do not wait for a writer that hangs. A room that stops waits for the writer only a
    short time."""
    file = tmp_path / "said.jsonl"
    logs = " level=warning event=transcript-unfinished file="
    options = (*QUIET, *SMALL_LOG, "--transcript", file)
    with faulty_room(tmp_path, f"transcript {point}", *options, act=hang, logs=logs) as (
        here,
        rounds,
    ):
        talk = Talk(here)
        rounds.load()
        talk.talk_until(lambda: not rounds.left, "the writer hangs")
        talk.lines(2000)
        os.kill(here.pid, signal.SIGTERM)
        here.expect_exit(within=8.0)


def test_a_writer_that_hangs_is_replaced(tmp_path: Path) -> None:
    """The next writer writes the rest."""
    file = tmp_path / "said.jsonl"
    logs = rf" level=warning event=transcript-stuck file=\S+ says=|{WRITER_DIED}"
    with room(*QUIET, "--watchdog", 1, "--transcript", file, logs=logs) as here:
        talk = Talk(here)
        talk.lines(5)
        talk.until_written(file)
        os.kill(here.writer().pid, signal.SIGSTOP)
        talk.lines(5)
        talk.until_written(file)  # the next writer does this
        here.stop()
        assert here.errors.count("transcript-stuck") == 1
    assert as_received(lines(file)) == talk.heard


def test_the_transcript_is_completed_after_the_main_process_was_killed(tmp_path: Path) -> None:
    """All messages are written, even those of a newcomer, and all processes end."""
    file = tmp_path / "said.jsonl"
    with room(*QUIET, "--transcript", file) as here:
        talk = Talk(here)
        talk.lines(5)
        talk.until_written(file)
        writer = here.writer()
        os.kill(writer.pid, signal.SIGSTOP)
        talk.lines(50)
        here.join("127.0.0.7").send("my first words\n")
        talk.heard += talk.witness.receive_until("\n")
        os.kill(here.pid, signal.SIGKILL)
        here.process.wait()
        os.kill(writer.pid, signal.SIGCONT)
        until(lambda: not here.processes(), "all processes end")
        assert look(writer.pid) is None or not here.processes()
    assert as_received(lines(file)) == talk.heard


# --- the file ------------------------------------------------------------------------------------


def test_sigusr1_opens_a_new_file(tmp_path: Path) -> None:
    """Between the old and the new file, no message is lost or written twice. logrotate needs
    this."""
    files = [tmp_path / f"said.jsonl{end}" for end in ("", ".1", ".2", ".3")]
    with room(*QUIET, "--transcript", files[0]) as here:
        talk = Talk(here)
        until(files[0].exists, "the file exists")
        for moved in (files[3], files[2], files[1]):
            for speaker in talk.speakers:
                talk.send(speaker, 100)
            talk.expect(50)
            until(lambda: files[0].stat().st_size, "the file has a line")
            files[0].rename(moved)
            os.kill(here.pid, signal.SIGUSR1)
            until(files[0].exists, "there is a new file")
            talk.expect(150)
            # The file was not moved, so the room opens the same file again.
            os.kill(here.pid, signal.SIGUSR1)
        talk.lines(5)
        here.stop()
    assert as_received(lines(*reversed(files))) == talk.heard
    assert count_messages(lines(*reversed(files))) == (610, 0)
    assert [sum("run" in line for line in lines(file)) for file in files] == [1] * 4


def test_sigusr1_does_nothing_in_a_room_without_a_transcript() -> None:
    with room(*QUIET) as here:
        talk = Talk(here)
        os.kill(here.pid, signal.SIGUSR1)
        talk.lines(5)


def test_a_missing_folder_is_awaited(tmp_path: Path) -> None:
    """The trouble is logged once. No message that is still in the log is lost."""
    file = tmp_path / "later" / "said.jsonl"
    logs = TROUBLE.format(why="No such file or directory")
    with room(*QUIET, "--transcript", file, logs=logs) as here:
        talk = Talk(here)
        talk.lines(100)
        until(lambda: "event=transcript-trouble" in here.errors, "the event is logged")
        file.parent.mkdir()
        talk.until_written(file)
        until(lambda: "event=transcript-resumed" in here.errors, "the resumption is logged")
        here.stop()
        assert here.errors.count("\n") == 2
    assert as_received(lines(file)) == talk.heard


def test_a_folder_that_never_appears_does_not_stop_the_room(tmp_path: Path) -> None:
    """The room stops normally, and logs the number of messages that were not written."""
    file = tmp_path / "never" / "said.jsonl"
    logs = r"event=transcript-(trouble file=\S+ error=\"No such|incomplete file=\S+ messages=20 )"
    with room(*QUIET, "--transcript", file, logs=logs) as here:
        talk = Talk(here)
        talk.lines(10)
        here.stop()
        assert "event=transcript-incomplete" in here.errors


@pytest.mark.parametrize("what", ["pipe", "device"])
def test_a_path_that_is_not_a_regular_file_is_reported(what: str, full_pipe: Path) -> None:
    path = {"pipe": full_pipe, "device": Path("/dev/full")}[what]
    with room(*QUIET, "--transcript", path, logs="not a regular file") as here:
        Talk(here)
        until(lambda: "event=transcript-trouble" in here.errors, "the event is logged")


def test_two_rooms_do_not_write_one_file(tmp_path: Path) -> None:
    """The second room writes to the file after the first room has ended."""
    file = tmp_path / "said.jsonl"
    logs = TROUBLE.format(why="another room is writing to it")
    with room(*QUIET, "--transcript", file) as first:
        talk = Talk(first)
        talk.lines(1)
        talk.until_written(file)
        with room(*QUIET, "--transcript", file, logs=logs) as here:
            other = Talk(here)
            other.lines(2)
            until(lambda: "another room" in here.errors, "the event is logged")
            first.stop()
            until(lambda: "event=transcript-resumed" in here.errors, "the file is free")
    assert as_received(lines(file)) == talk.heard + other.heard


SIZE = 4096 * KIB
ROTATED = r" level=warning event=transcript-rotated file=\S+ to=\S+ size=\d+ says="


def nearly_full(file: Path) -> None:
    """Write the file of an earlier room, with space left for about a hundred messages."""
    empty = header("earlier", "", 0, "")
    file.write_bytes(header("earlier", "", 0, "x" * (SIZE - 16 * KIB - len(empty))))


@pytest.mark.sample(2)
@pytest.mark.parametrize("point", ["", "rotating", "rotated", "opened", "open"])
def test_a_full_file_is_rotated(tmp_path: Path, point: str) -> None:
    """The writer dies before the rename, before the new file is created, before the main process is
    told about the new file, or before its first line."""
    file, aside = tmp_path / "said.jsonl", tmp_path / "said.jsonl.1"
    nearly_full(file)
    aside.write_text("older")
    options = (*QUIET, "--transcript", file, "--transcript-size", "4M")
    logs = f"{ROTATED}|{WRITER_DIED}"
    with faulty_room(tmp_path, f"transcript {point or 'open'}", *options, logs=logs) as (
        here,
        rounds,
    ):
        talk = Talk(here)
        talk.lines(1)
        talk.until_written(file)
        rounds.load(bool(point))
        talk.talk_until(lambda: aside.read_bytes() != b"older", "the file is full")
        until(lambda: "transcript-rotated" in here.errors, "the event is logged")
        talk.lines(5)
        here.stop()
        assert not rounds.left
        assert here.errors.count("transcript-died") == bool(point)
        size = aside.stat().st_size
        assert here.errors.count(f"transcript-rotated file={file} to={aside} size={size} ") == 1
    assert SIZE - 4 * KIB < size <= SIZE
    assert as_received(lines(aside, file)) == talk.heard
    count_messages(lines(aside, file))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount and yield a file system of 256 KiB."""
    disk = folder / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"can't mount a file system: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


FULL = r"No space left on device"


def fill(path: Path) -> None:
    """Fill the file system with one file."""
    with path.open("wb", buffering=0) as filler:
        for size in (4096, 1):
            try:
                while filler.write(b"x" * size):
                    pass
            except OSError:
                continue


def test_the_file_is_removed_from_a_full_disk(tmp_path: Path) -> None:
    """Removing the file frees its space, and a new file contains the later messages."""
    with small_disk(tmp_path) as disk:
        file = disk / "said.jsonl"
        with room(*QUIET, "--transcript", file, logs=TROUBLE.format(why=FULL)) as here:
            talk = Talk(here)
            talk.talk_until(lambda: "event=transcript-trouble" in here.errors, "the disk is full")
            before = lines(file)
            assert count_messages(before)[1] == 0
            file.unlink()
            until(lambda: "event=transcript-resumed" in here.errors, "the file is written again")
            here.stop()
        assert count_messages(before + lines(file))[0] == talk.heard.count(b"\n")
        assert as_received(before + lines(file)) == talk.heard


def test_a_full_disk_delays_messages_without_loss(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        file, filler = disk / "said.jsonl", disk / "filler"
        with room(*QUIET, "--transcript", file, logs=TROUBLE.format(why=FULL)) as here:
            talk = Talk(here)
            talk.lines(20)
            talk.until_written(file)
            fill(filler)
            talk.lines(80)
            until(lambda: "event=transcript-trouble" in here.errors, "the event is logged")
            lines(file)
            filler.unlink()
            talk.until_written(file)
            here.stop()
            assert here.errors.count("\n") == 2
        assert as_received(lines(file)) == talk.heard
        assert count_messages(lines(file)) == (200, 0)


def test_a_large_write_fills_the_disk_without_loss(tmp_path: Path) -> None:
    """The write is larger than the free space on the disk."""
    with small_disk(tmp_path) as disk:
        file, filler = disk / "said.jsonl", disk / "filler"
        with room(*QUIET, "--transcript", file, logs=TROUBLE.format(why=FULL)) as here:
            talk = Talk(here)
            talk.lines(20)
            talk.until_written(file)
            fill(filler)
            os.truncate(filler, filler.stat().st_size - 32 * KIB)
            writer = here.writer()
            os.kill(writer.pid, signal.SIGSTOP)
            talk.lines(400)
            os.kill(writer.pid, signal.SIGCONT)
            until(lambda: "event=transcript-trouble" in here.errors, "the event is logged")
            assert file.stat().st_size > 24 * KIB
            lines(file)
            filler.unlink()
            talk.until_written(file)
            here.stop()
        assert as_received(lines(file)) == talk.heard


def test_the_writer_is_killed_while_the_disk_is_full(tmp_path: Path) -> None:
    """The next writer continues the file, and writes no message twice."""
    logs = f"{TROUBLE.format(why=FULL)}|{WRITER_DIED}|{MISSED}"
    with small_disk(tmp_path) as disk:
        file, filler = disk / "said.jsonl", disk / "filler"
        with room(*QUIET, *SMALL_LOG, "--transcript", file, logs=logs) as here:
            talk = Talk(here)
            talk.lines(20)
            talk.until_written(file)
            fill(filler)
            talk.lines(1000)
            until(lambda: "event=transcript-trouble" in here.errors, "the event is logged")
            here.writer().kill()
            until(lambda: "-died" in here.errors, "the death is logged")
            filler.unlink()
            talk.until_written(file)
            here.stop()
        there, gone = count_messages(lines(file))
        assert (there + gone, gone > 0) == (2040, True)
