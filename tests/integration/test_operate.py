"""Operation of a running room: status, admin, bans, run-dir, listeners, a service manager."""

import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import pytest

from chatroom.build import BUILD
from chatroom.config.sizes import KIB
from chatroom.control.control_socket import MAX_CONNECTIONS
from chatroom.control.run_dir import find
from tests.integration.clients import Client, talk
from tests.integration.owner import Owner, UnixClient, is_root, status_json
from tests.integration.rooms import (
    DIED,
    ERROR_LINE,
    NEVER_SILENT,
    ROOT,
    UNLIMITED,
    WELCOME,
    Room,
    addresses,
    command,
    room,
    started,
)
from tests.integration.waiting import PATIENCE, until
from tests.system.ports import free_port

NOBODY = 65534


@pytest.fixture(name="folder")
def fixture_folder() -> Iterator[Path]:
    """Yield a private folder with a short path, because the path of a socket has a maximum
    length."""
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        yield Path(folder)


@pytest.fixture(name="owner")
def fixture_owner(folder: Path) -> Owner:
    return Owner(folder)


@pytest.fixture(name="shared", scope="module")
def fixture_shared() -> Iterator[tuple[Room, Owner]]:
    """Yield a room that tests share but do not change, and its owner."""
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        owner = Owner(Path(folder))
        with room("--workers", 2, "--run-dir", owner.folder) as here:
            yield here, owner


# --- status --------------------------------------------------------------------------------------


def test_status_prints_the_figures_of_the_room(owner: Owner) -> None:
    with room("--workers", 2, "--run-dir", owner.folder) as here:
        member, other = here.join_all(["127.0.0.2", "127.0.0.3"])
        member.send("hello\n")
        other.expect("<127.0.0.2>hello\n")
        owner.until(
            lambda found: (found["room"]["deliveries"], found["room"]["joins"]) == (1, 2),
            "the delivery and the joins are counted",
        )
        code, said, error = owner.run("status")
        assert (code, error) == (0, "")
        lines = said.splitlines()
        assert re.fullmatch(
            rf"127\.0\.0\.1:{here.port}, pid {here.pid}, up 0:00:\d\d, {BUILD}", lines[0]
        )
        assert re.fullmatch(r"2 members of [\d,]+; 2 joined, 0 left, 0 refused", lines[1])
        assert re.match(r"1 message \(.*/s\), 1 delivery \(.*/s\), 17 bytes", lines[2])
        assert lines[4].split()[0] == "worker"
        assert [line.split()[2] for line in lines[5:7]] == ["1", "1"], "one member on each worker"
        ends = [line.split()[1] for line in lines[-2:]]
        requests: list[dict[str, object]] = [{}, {"ask": "x"}, {"do": "x"}, {"ask": []}]
        for request in requests:
            assert owner.ask(**request) == {"error": "unknown request"}
        assert ends == [f"{client.end[0]}:{client.end[1]}" for client in (member, other)]
        assert here.files() == []


def test_status_finds_a_room_in_the_default_run_dir() -> None:
    with room("--workers", 1) as here:
        folder = here.run_dir
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        environment = os.environ | {"TMPDIR": str(folder.parent), "XDG_RUNTIME_DIR": ""}
        said = subprocess.run(
            [sys.executable, "-m", "chatroom.status", "--json"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            check=True,
        ).stdout
        assert json.loads(said)["room"]["pid"] == here.pid


def test_status_as_json_matches_what_clients_saw(owner: Owner) -> None:
    """The status counts deliveries, messages and bytes, by worker and by member, and leaves by
    reason."""
    with room("--workers", 2, *NEVER_SILENT, "--run-dir", owner.folder) as here:
        crowd = here.join_all(addresses(5))
        for number in range(3):
            for client in crowd:
                client.send(f"{number}\n")
                for other in crowd:
                    if other is not client:
                        other.expect(f"<{client.address}>{number}\n")
        found = owner.until(
            lambda now: (now["room"]["deliveries"], now["room"]["joins"]) == (60, 5),
            "all is counted",
        )
        text = 3 * sum(len(f"<{client.address}>0\n") for client in crowd)
        told = found["room"]
        assert (told["messages"], told["bytes"], told["lag"]) == (15, text, 0)
        assert (told["members"], told["joins"], told["leaves"]) == (5, 5, {})
        assert sorted(worker["members"] for worker in found["workers"]) == [2, 3]
        for worker in found["workers"]:
            assert worker["messages"] == 3 * worker["members"]
            assert worker["deliveries"] == 12 * worker["members"]
            assert worker["pid"] in [process.pid for process in here.workers()]
        for client in crowd:
            member = owner.member(client)
            assert member["address"] == client.address
            assert member["said"] == 6
            own = 3 * len(f"<{client.address}>0\n")
            assert member["heard"] == len(WELCOME) + text - own
            assert (member["lag"], member["worker"] in (0, 1)) == (0, True)
        crowd[0].close()
        crowd[1].reset()
        reasons = {"closed": 1, "reset": 1}
        owner.until(lambda now: now["room"]["leaves"] == reasons, "two members have left")
        _, said, _ = owner.run("status", "--json")
        (found,) = status_json(said)
        assert (found["room"]["members"], found["room"]["joins"]) == (3, 5)


def test_status_shows_the_lag_of_a_slow_reader(owner: Owner) -> None:
    with room("--workers", 2, "--quiet", *UNLIMITED, "--run-dir", owner.folder) as here:
        speaker, other = here.join_all(addresses(2))
        slow = here.join("127.0.9.9", receive_buffer=4096)
        text = b"x" * 1000 + b"\n"
        times = 0
        # The kernel's buffers take the first bytes. A small lag may end when the worker sends.
        while owner.member(slow)["lag"] <= 64 * KIB:
            speaker.send(text * 128)
            other.expect((speaker.prefix + text) * 128)
            times += 128
        size = times * len(speaker.prefix + text)
        found = owner.status()
        told = owner.member(slow)
        assert found["room"]["bytes"] == size
        assert told["lag"] == size - (told["heard"] - len(WELCOME)) > 0
        assert found["room"]["lag"] == told["lag"]
        assert max(worker["lag"] for worker in found["workers"]) == told["lag"]
        assert owner.member(other)["lag"] == 0
        slow.expect((speaker.prefix + text) * times)
        assert owner.member(slow)["lag"] == 0


def test_status_shows_the_deaths_of_workers(owner: Owner) -> None:
    with room("--workers", 2, "--run-dir", owner.folder, logs=DIED) as here:
        members = here.join_all(addresses(4))
        here.workers()[0].kill()
        talk(members)
        found = owner.until(
            lambda now: now["room"]["recoveries"] == 1 and len(now["workers"]) == 2,
            "both have ended",
        )
        told = found["room"]
        assert told["worker_deaths"] == 1
        assert 0 < told["longest_recovery"] == told["recovery_seconds"] < PATIENCE
        _, said, _ = owner.run("status")
        assert re.search(
            r"^1 worker replaced; the members waited \d+ ms at most$", said, re.MULTILINE
        )


def test_watch_repeats_the_status_until_it_is_interrupted(
    shared: tuple[Room, Owner],
) -> None:
    with watch(shared[1], subprocess.PIPE, "--json") as process:
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline()) for _ in range(3)]
        for earlier, later in pairwise(told):
            assert EVERY <= later["at"] - earlier["at"] < PATIENCE
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE)
        assert (process.returncode, error) == (0, "")


def test_watch_ends_when_its_output_is_closed(shared: tuple[Room, Owner]) -> None:
    with watch(shared[1], subprocess.PIPE, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("module", ["status", "admin"])
def test_an_output_that_cannot_be_written_is_reported(
    shared: tuple[Room, Owner], module: str
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            shared[1].command(f"chatroom.{module}", *(["list"] if module == "admin" else [])),
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    why = f"python -m chatroom.{module}: can't write: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, why)


EVERY = 0.1
"""Seconds between two reports of `watch`: the minimum that the command accepts."""


@contextmanager
def watch(owner: Owner, out: int | IO[str], *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Run chatroom.status --watch, and kill it at the end of the block."""
    arguments = owner.command("chatroom.status", "--watch", EVERY, *options)
    with subprocess.Popen(
        arguments, cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_watch_shows_rates_per_interval_and_ends_with_the_room(owner: Owner) -> None:
    with room("--workers", 1, "--run-dir", owner.folder) as here:
        client = here.join()
        client.send("x\n" * 50)
        here.read_until("x\n" * 1)
        owner.until(lambda found: found["room"]["messages"] == 50, "all messages are counted")
        with watch(owner, subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            counted = [line for line in read_until(process.stdout, 2) if RATES in line]
            here.stop()
            assert process.wait(PATIENCE) == 1
            assert process.stderr.read() == "python -m chatroom.status: the room has ended\n"
        assert re.match(r"50 messages \([\d.]*[1-9][\d.]*/s\)", counted[0]), "a rate above 0"
        assert counted[1].startswith("50 messages (0.0/s), 0 deliveries (0.0/s), "), counted


RATES = "/s)"


def read_until(file: IO[str], times: int) -> list[str]:
    """Read `times` reports, and return their lines. A report ends with the line of its rates."""
    found: list[str] = []
    while sum(RATES in line for line in found) < times:
        line = file.readline()
        assert line, found
        found.append(line)
    return found


def test_watch_clears_the_terminal_before_each_status(shared: tuple[Room, Owner]) -> None:
    terminal, theirs = pty.openpty()
    with watch(shared[1], theirs) as process:
        os.close(theirs)
        shown = b""
        while shown.count(b"\x1b[H\x1b[2J127.0.0.1:") < 2:
            shown += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    os.close(terminal)


# --- choose a room -------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("status",), ("admin", "kick", 1), ("admin", "list")])
def test_a_missing_room_is_an_error(arguments: tuple[Any, ...], owner: Owner) -> None:
    said = f"python -m chatroom.{arguments[0]}: no running room found in {owner.folder}\n"
    assert owner.run(*arguments) == (1, "", said)


def test_commands_need_the_option_room_if_several_rooms_run(owner: Owner) -> None:
    options = ("--workers", 1, "--run-dir", owner.folder)
    with room(*options) as client, room(*options) as other:
        code, said, error = owner.run("status")
        assert (code, said) == (1, "")
        listed = ", ".join(sorted(f"127.0.0.1:{here.port}" for here in (client, other)))
        assert error.endswith(f"several rooms are running; choose one with --room: {listed}\n")
        for here in (client, other):
            for name in (f"127.0.0.1:{here.port}", here.port):
                assert Owner(owner.folder, str(name)).status()["room"]["pid"] == here.pid
        assert "no running room at 1 found" in Owner(owner.folder, "1").run("status")[2]


@pytest.mark.skipif(not is_root(), reason="only root can give a folder away")
def test_a_run_dir_that_another_user_can_change_is_not_trusted(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root, too, does not trust such a folder, even if it is root's default run-dir."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    theirs = tmp_path / "chatroom"
    theirs.mkdir(0o700)
    os.chown(theirs, NOBODY, NOBODY)
    folder.chmod(0o722)
    for code, said, error in (Owner(theirs).run("status"), Owner(folder).run("status")):
        assert (code, said) == (1, "")
        assert error.endswith("is not private to this user, so no room there is trusted\n")


def test_a_room_that_does_not_answer_is_reported(owner: Owner) -> None:
    with room("--workers", 1, "--run-dir", owner.folder) as here:
        for path in owner.folder.glob("*.sock"):
            path.unlink()
            path.touch()
        code, said, error = owner.run("status")
        assert (code, said) == (1, "")
        name = f"127.0.0.1:{here.port}"
        assert error.endswith(f"the room at {name} does not answer: Connection refused\n")
    for path in owner.folder.glob("*.sock"):
        path.unlink()


def test_the_control_socket_of_a_killed_room_is_replaced(owner: Owner) -> None:
    """JOIN-3: the port is also free at once, although clients were connected."""
    options = ("--workers", 1, "--run-dir", owner.folder)
    with room(*options, port=free_port()) as there:
        members = there.join_all(addresses(3))
        os.kill(there.pid, signal.SIGKILL)
        there.process.wait()
        until(lambda: not there.processes(), "all processes of the room end")
        assert len(list(owner.folder.iterdir())) == 1
        assert owner.run("status")[0] == 1
        with room(*options, port=there.port) as here:
            assert owner.status()["room"]["pid"] == here.pid
            talk(here.join_all(addresses(2)))
        for member in members:
            member.expect_end()
    assert list(owner.folder.iterdir()) == []


# --- other users ---------------------------------------------------------------------------------

AS_NOBODY = """
import locale, os, shutil, socket, sys  # argparse imports locale and shutil late: as that user
from chatroom.cli import status
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
end = socket.socket(socket.AF_UNIX)
try:
    end.connect(sys.argv[1])
    end.sendall(b'{"do": "kick", "who": "1"}\\n')
    print(end.recv(99))
except OSError as error:
    print(type(error).__name__)
status.main(["--run-dir", os.path.dirname(sys.argv[1])])
"""


@pytest.mark.skipif(not is_root(), reason="only root can be another user")
def test_another_user_cannot_use_the_control_socket(owner: Owner) -> None:
    """The run-dir keeps other users out. If the mode of the run-dir lets them in, the socket
    refuses them."""
    with room("--workers", 1, "--run-dir", owner.folder) as here:
        client = here.join()
        path = find(owner.folder, None)

        def attempt() -> list[str]:
            done = subprocess.run(
                [sys.executable, "-c", AS_NOBODY, str(path)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                env={name: value for name, value in os.environ.items() if "COV" not in name},
            )
            assert done.returncode == 1
            return [*done.stdout.splitlines(), *done.stderr.splitlines()]

        said, why = attempt()
        assert said == "PermissionError"
        assert why.endswith(
            f"{owner.folder} is not private to this user, so no room there is trusted"
        )
        owner.folder.chmod(0o777)
        path.chmod(0o777)
        said, why = attempt()
        assert said in ("b''", "ConnectionResetError", "BrokenPipeError")
        assert why.endswith("no room there is trusted")
        owner.folder.chmod(0o700)
        talk([client, here.join("127.0.0.2")])


# --- slow and broken clients ---------------------------------------------------------------------


def test_bad_clients_of_the_control_socket_disturb_nobody(owner: Owner) -> None:
    """Some clients send garbage, floods or many requests at once; some do not read answers. There
    are also too many clients."""
    options = ("--workers", 2, "--quiet", "--run-dir", owner.folder)
    with room(*options) as here, ExitStack() as leaving:
        crowd = here.join_all(addresses(60))
        ends = [leaving.enter_context(end) for end in owner.connect(MAX_CONNECTIONS)]
        garbage, flood, many, *slow = ends
        garbage.sendall(b"\xff\x00\n{\n[]\n" + b"[" * 9000 + b"\n")
        with pytest.raises(ConnectionError):
            flood.sendall(b"x" * (1 << 23))
        many.sendall(b'{"ask": "status"}\n' * 300)
        for end in slow:
            end.sendall(b'{"ask": "status"}\n' * 300)  # This client never reads.
        for end in owner.connect(3):
            leaving.enter_context(end)
        talk([*crowd[:4], here.join("127.0.9.9")])
        many.shutdown(socket.SHUT_WR)
        with many.makefile("rb") as answers:
            found = [len(json.loads(line)["members"]) for line in answers]
        assert len(found) == 300
        assert found[-1] == 61
        with garbage.makefile("rb") as answers:
            for _ in range(4):
                assert json.loads(answers.readline()) == {
                    "error": "a request must be a JSON object"
                }
        until(here.is_idle, "the room is idle")
        leaving.close()
        assert owner.status()["room"]["members"] == 61
        talk(crowd[:4])


KICKED = "<room>You were kicked\n"


# --- admin ---------------------------------------------------------------------------------------


def test_kick_disconnects_members_by_id_address_or_network(owner: Owner) -> None:
    """Kicked members may join again. The other members stay."""
    with room("--workers", 2, "--run-dir", owner.folder) as here:
        sources = ["127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.1.4", "127.0.1.5", "127.0.2.6"]
        crowd = [here.join(source) for source in sources]
        ids = [owner.member(client)["id"] for client in crowd]
        assert owner.admin("kick", ids[0]) == f"kicked: {ids[0]}\n"
        crowd[0].expect(KICKED)
        crowd[0].expect_end()
        assert owner.admin("kick", "127.0.0.3") == f"kicked: {ids[1]}, {ids[2]}\n"
        assert owner.admin("kick", "127.0.1.0/24") == f"kicked: {ids[3]}, {ids[4]}\n"
        for client in crowd[1:5]:
            client.expect(KICKED)
            client.expect_end()
        for _ in range(5):
            here.read_until(" disconnected: kicked\n")
        assert owner.status()["room"]["leaves"] == {"kicked": 5}
        talk([crowd[5], *(here.join(source) for source in sources[:3])])
        code, said, error = owner.run("admin", "kick", ids[0])
        assert (code, said) == (1, "")
        assert error == f"python -m chatroom.admin: no member matches {ids[0]}\n"


def test_the_text_of_a_kicked_member_is_delivered(owner: Owner) -> None:
    with room("--workers", 2, *NEVER_SILENT, "--run-dir", owner.folder) as here:
        client, other = here.join_all(addresses(2))
        id = owner.member(client)["id"]
        client.send("first\nhalf")
        other.expect("<127.0.0.2>first\n")
        owner.admin("kick", id)
        client.expect(KICKED)
        client.expect_end()
        other.expect("<127.0.0.2>half")


def test_the_flood_of_a_throttled_member_ends_with_a_kick(owner: Owner) -> None:
    """The room does not read the rest of the flood, which would take a minute at this rate."""
    options = ("--workers", 2, "--rate", "1K", "--burst", "4K", "--run-dir", owner.folder)
    with room(*options) as here:
        client, other = here.join_all(addresses(2))
        client.send("flood\n" * 8000)
        other.expect("<127.0.0.2>flood\n")
        owner.admin("kick", "127.0.0.2")
        here.read_until("127.0.0.2 disconnected: kicked\n")


def test_the_line_for_a_kicked_member_begins_a_line(owner: Owner) -> None:
    """PREFIX-4: the reason is on a line of its own, even after unfinished text of another
    member."""
    with room("--workers", 2, "--run-dir", owner.folder) as here:
        client, other = here.join_all(addresses(2))
        other.send("half")
        client.expect("<127.0.0.3>half")
        owner.admin("kick", "127.0.0.2")
        client.expect("\n" + KICKED)
        client.expect_end()


def test_a_banned_address_stays_out_until_the_ban_is_lifted(owner: Owner) -> None:
    with room("--workers", 2, "--run-dir", owner.folder) as here:
        member, other, stays = here.join_all(["127.0.0.2", "127.0.0.2", "127.0.1.3"])
        ids = [owner.member(client)["id"] for client in (member, other, stays)]
        assert owner.admin("ban", ids[0]) == f"banned 127.0.0.2; kicked: {ids[0]}, {ids[1]}\n"
        for client in (member, other):
            client.expect("<room>You were banned\n")
            client.expect_end()
        assert owner.admin("ban", "127.0.2.0/24") == "banned 127.0.2.0/24; kicked: none\n"
        for source in ("127.0.0.2", "127.0.2.9"):
            client = here.connect(source)
            client.expect("You are banned from this room\n")
            client.expect_end()
        assert owner.admin("list").splitlines() == [
            "id    address   port  worker",
            f" {ids[2]}  127.0.1.3  {stays.end[1]:5}       {owner.member(stays)['worker']}",
            "bans: 127.0.0.2, 127.0.2.0/24",
        ]
        assert owner.admin("unban", "127.0.0.2") == "bans: 127.0.2.0/24\n"
        talk([stays, here.join("127.0.0.2")])
        code, _, error = owner.run("admin", "unban", "127.0.0.2")
        assert code == 1
        assert error.endswith("127.0.0.2 is not banned; bans: 127.0.2.0/24\n")
        code, _, error = owner.run("admin", "ban", "everybody")
        assert code == 1
        assert error.endswith("not 'everybody'\n")
        told = owner.status()["room"]
        assert told["leaves"] == {"banned": 2}
        assert told["refusals"] == {"You are banned from this room": 2}


def test_say_reaches_all_members_in_one_order_with_the_others(owner: Owner) -> None:
    """CAST-5: all members receive the members' and the room's messages in one order."""
    with room("--workers", 2, *NEVER_SILENT, "--run-dir", owner.folder) as here:
        client, other, *listeners = here.join_all(addresses(7))
        witnesses = listeners[:2]
        listeners = listeners[2:]
        for number in range(10):
            client.send(f"{number}\n" * 20)
            other.send(f"{number}\n" * 20)
            owner.ask(do="say", text=f"{number}\r\nand more")
        for speaker, witness in zip((client, other), witnesses, strict=True):
            # The room's last line must come after all lines of the senders.
            speaker.send("done\n")
            witness.receive_until(speaker.prefix.decode() + "done\n")
        assert owner.admin("say", "the\x1bend") == "said to 7 members\n"
        end = "<room>the␛end\n"
        first, *rest = [listener.receive_until(end) for listener in listeners]
        assert all(heard == first for heard in rest)
        lines = first.decode().splitlines()
        assert [line for line in lines if line.startswith("<room>")] == [
            *(line for number in range(10) for line in (f"<room>{number}", "<room>and more")),
            "<room>the␛end",
        ]
        assert len(lines) == 423
        for speaker in (client, other):
            own = speaker.prefix.decode()
            heard = speaker.receive_until(end).decode().splitlines()
            assert heard == [line for line in lines if not line.startswith(own)]
        assert here.read_until(end).decode().count("<room>") == 21, "lines on the console"


def test_say_ends_an_unfinished_line_first(owner: Owner) -> None:
    """LINE-6: the room's message ends an unfinished line of a member."""
    with room("--workers", 1, "--flush-after", 0.01, "--run-dir", owner.folder) as here:
        client, other = here.join_all(addresses(2))
        client.send("half")
        other.expect("<127.0.0.2>half")
        owner.admin("say", "x")
        other.expect("\n<room>x\n")
        client.expect("<room>x\n")


def test_say_works_while_a_worker_hangs(owner: Owner) -> None:
    """The main process does not wait for a worker, even if this worker holds the log's lock. In
    this case, the main process refuses the text."""
    with room("--workers", 2, "--run-dir", owner.folder) as here:
        client, other = here.join_all(addresses(2))
        for text in ("", "x" * 4097):
            code, _, error = owner.run("admin", "say", text)
            assert code == 1
            assert error.endswith("the text must have 1 to 4096 bytes\n")
        victim = here.serving(client)
        os.kill(victim.pid, signal.SIGSTOP)
        owner.admin("say", "x")
        other.expect("<room>x\n")
        os.kill(victim.pid, signal.SIGCONT)
        client.expect("<room>x\n")


# --- bans that are kept --------------------------------------------------------------------------


def test_bans_are_kept_when_the_room_restarts(owner: Owner) -> None:
    """Another room in the same run-dir has its own bans."""
    options = ("--workers", 1, "--run-dir", owner.folder)
    port = free_port()
    with room(*options, "--keep-bans", port=port), room(*options, "--keep-bans") as other:
        here, there = (Owner(owner.folder, str(number)) for number in (port, other.port))
        here.admin("ban", "127.0.0.2")
        there.admin("ban", "127.0.4.0/24")
        here.admin("ban", "127.0.3.0/24")
        here.admin("unban", "127.0.0.2")
    for kept, answer in (("--keep-bans", b"You are banned from this room\n"), ("", WELCOME)):
        with room(*options, *filter(None, [kept]), port=port) as again:
            again.connect("127.0.3.1").expect(answer)
            again.join("127.0.0.2")
            again.join("127.0.4.1")
    names = {path.name for path in owner.folder.iterdir()}
    assert names == {f"127.0.0.1:{number}.bans" for number in (port, other.port)}


def test_a_file_of_bans_that_cannot_be_read_prevents_the_start(owner: Owner) -> None:
    port = free_port()
    file = owner.folder / f"127.0.0.1:{port}.bans"
    file.write_text("[1")
    options = ("--workers", 1, "--run-dir", owner.folder)
    with started(command(*options, "--keep-bans", port=port), logs=ERROR_LINE) as here:
        here.expect_error(1, f"{file} must be a list of networks in JSON: ")
    with room(*options, port=port):
        owner.admin("ban", "127.0.0.2")
    assert file.read_text() == "[1", "without --keep-bans, the file is ignored"
    file.unlink()
    os.mkfifo(file)
    with started(command(*options, "--keep-bans", port=port), logs=ERROR_LINE) as here:
        here.expect_error(1, f"{file} can't be read: not a regular file")


def test_a_ban_that_cannot_be_written_still_applies(owner: Owner) -> None:
    port = free_port()
    (owner.folder / f"127.0.0.1:{port}.new").mkdir()
    with room("--workers", 1, "--run-dir", owner.folder, "--keep-bans", port=port) as here:
        client = here.join("127.0.0.2")
        code, _, error = owner.run("admin", "ban", "127.0.0.2")
        assert code == 1
        assert error.endswith(f"127.0.0.1:{port}.bans can't be written: Is a directory\n")
        client.expect("<room>You were banned\n")
        client.expect_end()
        here.connect("127.0.0.2").expect("You are banned from this room\n")


# --- the run-dir ---------------------------------------------------------------------------------


NO_STATUS = " level=warning event=no-control "


@pytest.mark.sample(1)
@pytest.mark.parametrize("wrong", ["open", "file", "long"])
def test_a_room_runs_without_a_usable_default_run_dir(wrong: str, folder: Path) -> None:
    if wrong == "open":
        (folder / "chatroom").mkdir(0o755)
    elif wrong == "file":
        (folder / "chatroom").touch()
    else:
        folder = folder / ("x" * 99)
        folder.mkdir()
    environment = {"XDG_RUNTIME_DIR": str(folder)}
    with room("--workers", 1, environment=environment, logs=NO_STATUS) as here:
        talk(here.join_all(addresses(2)))
        assert here.errors.count("\n") == 1
    if wrong != "long":
        arguments = command("--keep-bans")
        with started(arguments, environment=environment, logs=ERROR_LINE) as it:
            it.expect_error(1, "the run-dir ")


# --- Unix sockets, and several listeners ---------------------------------------------------------


def test_clients_of_a_unix_socket_are_members(owner: Owner) -> None:
    path = owner.folder / "room"
    options = ("--workers", 2, "--listen", f"unix:{path}", "--run-dir", owner.folder)
    with room(*options) as here:
        assert here.where.endswith(f", unix:{path}")
        with UnixClient(path) as member, UnixClient(path) as other:
            for client in (member, other):
                client.expect(WELCOME)
            three = here.join()
            talk([member, three, other])
            told = owner.until(lambda found: len(found["members"]) == 3, "all clients are members")
            assert [member["address"] for member in told["members"]].count("unix") == 2
            assert "  unix  " in owner.run("status")[1]
            assert len(owner.admin("kick", "unix").split(",")) == 2
            for client in (member, other):
                client.expect(KICKED)
                client.expect_end()
        assert path.exists()
    assert list(owner.folder.iterdir()) == []


def test_a_room_can_listen_at_several_addresses(owner: Owner) -> None:
    """HOST and PORT are not needed with --listen; the first address names the room."""
    member, other = owner.folder / "one", owner.folder / "other"
    listen = ("--listen", f"unix:{member}", "--listen", "127.0.0.1:0", "--listen", f"unix:{other}")
    arguments = [*command("--workers", 1, *listen, "--run-dir", owner.folder)[:-2]]
    with started(arguments) as here:
        line = here.read_until("\n").decode()
        found = re.fullmatch(
            rf"listening on unix:{member}, 127\.0\.0\.1:(\d+), unix:{other}\n", line
        )
        assert found
        here.host, here.port = "127.0.0.1", int(found[1])
        with UnixClient(member) as a, UnixClient(other) as b:
            for client in (a, b):
                client.expect(WELCOME)
            talk([a, b, here.join()])
        for name in (f"unix:{member}", str(member), "one"):
            assert Owner(owner.folder, name).status()["room"]["pid"] == here.pid
        here.stop()
    assert list(owner.folder.iterdir()) == []


def test_the_unix_socket_of_a_killed_room_is_replaced(owner: Owner) -> None:
    path = owner.folder / "room"
    listen = ("--listen", f"unix:{path}", "--run-dir", owner.folder, "--workers", 1)
    with room(*listen) as there:
        with started(command(*listen), logs=ERROR_LINE) as here:
            here.expect_error(1, f"can't listen on unix:{path}: Address already in use")
        os.kill(there.pid, signal.SIGKILL)
        there.process.wait()
        until(lambda: not there.processes(), "all processes of the room end")
        assert path.exists()
    with room(*listen), UnixClient(path) as client:
        client.expect(WELCOME)
    assert not path.exists()


def test_a_file_that_is_not_a_socket_is_not_replaced(folder: Path) -> None:
    path = folder / "file"
    path.write_text("mine")
    with started(command("--listen", f"unix:{path}"), logs=ERROR_LINE) as here:
        here.expect_error(1, "the file is not a socket")
    assert path.read_text() == "mine"


def test_the_log_names_addresses_without_recovery_at_the_start(owner: Owner) -> None:
    at = f"unix:{owner.folder / 'room'}"
    with room("--workers", 1, "--verbose", "--listen", at, logs=" level=info ") as here:
        told = [line for line in here.errors.splitlines() if " event=no-recovery " in line]
        assert [f" at={at} " in line for line in told] == [True]


def test_a_worker_s_death_disconnects_only_clients_of_a_unix_socket(
    owner: Owner,
) -> None:
    """LOAD-4: the kernel counts received bytes only for TCP."""
    path = owner.folder / "room"
    options = ("--workers", 1, "--listen", f"unix:{path}", "--run-dir", owner.folder)
    with room(*options, logs=DIED) as here, UnixClient(path) as client:
        client.expect(WELCOME)
        others = here.join_all(addresses(2))
        talk([client, *others])
        here.workers()[0].kill()
        client.expect_end()
        talk(others)
        assert owner.status()["room"]["leaves"] == {"its worker died": 1}
        with UnixClient(path) as again:
            again.expect(WELCOME)
            talk([again, *others])


def test_balancing_does_not_move_clients_of_a_unix_socket(owner: Owner) -> None:
    path = owner.folder / "room"
    options = ("--workers", 2, "--listen", f"unix:{path}", "--run-dir", owner.folder)
    with room(*options) as here:
        clients: list[Client] = []
        for _ in range(4):  # Each worker gets two clients of each kind.
            for _ in range(2):
                clients.append(UnixClient(path))
                clients[-1].expect(WELCOME)
            clients += here.join_all(addresses(2))
        unix = [client for client in clients if isinstance(client, UnixClient)]
        tcp = [client for client in clients if not isinstance(client, UnixClient)]
        by_port = {member.end[1]: member for member in tcp}
        found = owner.status()["members"]
        # The ids of members increase in the order in which they joined.
        unix_ids = [member["id"] for member in found if member["address"] == "unix"]
        home = {member["id"]: member["worker"] for member in found}
        stay: list[Client] = []
        stay += (member for member, id in zip(unix, unix_ids, strict=True) if home[id] == 1)
        stay_tcp = [
            by_port[member["port"]] for member in found if member["port"] and member["worker"] == 1
        ]
        assert (len(stay), len(stay_tcp)) == (4, 4)
        stay += stay_tcp
        for client in clients:
            if client not in stay:
                client.close()
        found = owner.until(
            lambda now: [worker["members"] for worker in now["workers"]] == [4, 4],
            "the clients are spread evenly",
        )["members"]
        assert all(home[member["id"]] == member["worker"] for member in found if not member["port"])
        assert any(home[member["id"]] != member["worker"] for member in found if member["port"])
        talk(stay)
        for client in stay:
            client.close()


# --- prefixes ------------------------------------------------------------------------------------


def test_the_prefix_option_sets_the_form_of_prefixes(owner: Owner) -> None:
    """PREFIX-1: the form also applies after a worker's death, and for clients of a Unix socket."""
    path = owner.folder / "room"
    form = "{{{id}}} {ip}:{port} said: "
    listen = ("--listen", f"unix:{path}", "--run-dir", owner.folder)
    with room("--workers", 2, "--prefix", form, *listen, logs=DIED) as here:
        members = here.join_all(addresses(4))
        ids = [owner.member(member)["id"] for member in members]

        def talk_briefly() -> None:
            for client, id in zip(members, ids, strict=True):
                client.send("hi\n\n")
                line = f"{{{id}}} {client.address}:{client.end[1]} said: "
                for other in members:
                    if other is not client:
                        other.expect(f"{line}hi\n{line}\n")

        talk_briefly()
        for victim in here.workers():
            victim.kill()
            talk_briefly()
        with UnixClient(path) as client:
            client.expect(WELCOME)
            client.send("hi\n")
            for member in members:
                member.expect("{5} unix:0 said: hi\n")


# --- a service manager ---------------------------------------------------------------------------

ACTIVATE = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_a_room_listens_on_a_socket_from_a_service_manager(owner: Owner) -> None:
    words = command("--workers", 2, "--run-dir", owner.folder)[1:-2]
    with started([sys.executable, "-c", ACTIVATE, *words]) as here:
        here.listen()
        talk(here.join_all(addresses(3)))
        assert owner.status()["room"]["listening"] == f"127.0.0.1:{here.port}"
        here.stop()


def test_a_shell_between_the_service_manager_and_the_room_is_named(owner: Owner) -> None:
    words = command("--run-dir", owner.folder)[1:-2]
    shell = ["/bin/sh", "-c", 'true; "$@"; exit $?', "sh", sys.executable, *words]
    activate = ACTIVATE.replace("sys.executable, [sys.executable,", "sys.argv[1], [")
    with started([sys.executable, "-c", activate, *shell], logs=ERROR_LINE) as it:
        it.expect_error(
            2, f"LISTEN_PID is '{it.pid}', but", "A shell must start the room with exec"
        )


def test_a_service_manager_is_notified_of_the_room_s_state(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(PATIENCE)

        def expect_notification(what: str) -> str:
            """Return the next notification that is not a keepalive; check that it begins with
            `what`."""
            while True:
                told = manager.recv(999).decode()
                if told.startswith(what):
                    return told
                assert told.startswith("WATCHDOG=1\n"), told

        environment = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "200000"}
        began = time.monotonic()
        with room("--workers", 2, environment=environment) as here:
            where = f"127.0.0.1:{here.port}"
            assert (
                expect_notification("READY=1") == f"READY=1\nSTATUS=0 members, 2 workers, {where}"
            )
            here.join()
            for _ in range(15):
                expect_notification("WATCHDOG=1")
            # The first keepalive may come at once. A busy machine only delays keepalives.
            assert time.monotonic() - began >= 14 * 0.1, "15 keepalives, one per 0.1 s"
            until(
                lambda: "STATUS=1 member, 2 workers, " in expect_notification("WATCHDOG=1"),
                "the room reports its status",
            )
            here.process.send_signal(signal.SIGHUP)
            expect_notification("RELOADING=1\nMONOTONIC_USEC=")
            expect_notification("READY=1")
            here.stop()
            assert expect_notification("STOPPING=1") == "STOPPING=1\nSTATUS=stopping"


def test_a_missing_service_manager_does_not_stop_the_room(folder: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(folder / "none"), "WATCHDOG_USEC": "20000"}
    with room("--workers", 1, environment=environment) as here:
        talk(here.join_all(addresses(2)))
