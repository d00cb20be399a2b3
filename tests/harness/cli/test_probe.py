"""The command `probe`: the profiles that it writes for real servers."""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness import profile
from harness.cli.probe import add_arguments, run
from harness.target.processes import environment
from tests.programs import program

PYTHON = shlex.quote(sys.executable)
HERE = shlex.quote(str(Path(__file__).parents[1]))
REFERENCE = f"{PYTHON} -m harness.reference {{host}} {{port}}"
TUTORIAL = f"{PYTHON} {HERE}/tutorial.py {{host}} {{port}}"


def probe(*arguments: str) -> int:
    parser = argparse.ArgumentParser("probe")
    add_arguments(parser)
    return run(parser.parse_args(arguments), parser)


def probed(command: str, tmp_path: Path) -> profile.Profile:
    assert probe("--command", command, "--out", str(tmp_path / "made.toml")) == 0
    return profile.load(str(tmp_path / "made.toml"))


def test_the_profile_of_the_reference_server(tmp_path: Path) -> None:
    made = probed(REFERENCE, tmp_path)
    assert made.welcome
    assert made.welcome.fullmatch(b"Welcome to socket practice\n")
    assert made.prefix.fullmatch(b"<127.1.0.2>")
    assert made.notices == ()
    assert made.claims == {"LINE-2", "LINE-3", "LINE-5", "LINE-6"}
    assert made.dialect() == []


def test_the_profile_of_the_tutorial_s_server(tmp_path: Path) -> None:
    made = probed(TUTORIAL, tmp_path)
    assert made.welcome
    assert made.welcome == profile.load("tutorial").welcome
    assert made.prefix.fullmatch(b"<127.1.0.2>")
    assert (made.notices, made.claims) == ((), frozenset({"LINE-5"}))
    assert made.dialect() == []


def test_the_profile_of_ncat(tmp_path: Path) -> None:
    made = probed(f"{program('ncat')} --chat -l {{host}} {{port}}", tmp_path)
    assert made.welcome
    for others in (b"nobody", b"127.1.0.2 as user5", b"127.1.0.2 as user5, 127.1.0.3 as user6"):
        greeting = (
            b"<announce> 127.1.0.4 is connected as <user7>.\n<announce> already connected: %s.\n"
        )
        assert made.welcome.fullmatch(greeting % others)
    assert made.prefix.fullmatch(b"<user12> ")
    for notice in (b"127.1.0.9 is connected as <user12>", b"<user12> is disconnected"):
        assert any(pattern.fullmatch(b"<announce> " + notice + b".\n") for pattern in made.notices)


def test_an_echoed_message_does_not_count_as_a_notice(tmp_path: Path) -> None:
    assert probed(f"{REFERENCE} --broken echoes", tmp_path).notices == ()


def test_a_profile_has_no_welcome_if_the_server_sends_none(tmp_path: Path) -> None:
    assert probed(f"{REFERENCE} --broken no-welcome", tmp_path).welcome is None


def test_a_profile_is_written_to_standard_output_by_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert probe("--command", REFERENCE) == 0
    assert profile.parse(capsys.readouterr().out, "out").claims


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_profile_on_standard_output_is_utf8_in_any_encoding(
    encoding: str, tmp_path: Path
) -> None:
    greeting = "Schön, dass du da bist: 1 €\n"
    code = f"main.Server.greeting = {greeting.encode()!r}; main.main()"
    (tmp_path / "server.py").write_text(f"from harness.reference import __main__ as main; {code}")
    command = f"{PYTHON} {shlex.quote(str(tmp_path / 'server.py'))} {{host}} {{port}}"
    done = subprocess.run(
        [sys.executable, "-m", "harness", "probe", "--command", command],
        env={**environment(), "PYTHONIOENCODING": encoding},
        stdout=subprocess.PIPE,
        check=True,
    )
    found = profile.parse(done.stdout.decode(), "out").welcome
    assert found
    assert found.fullmatch(greeting.encode())


@pytest.mark.parametrize(
    ("hopeless", "complaint"),
    [
        ("floods-with-garbage", "A received more than 64 KiB while no client sent"),
        ("closes-at-once", "another's line, and the server closed connections; tried, "),
        ("never-accepts", "the server listens, but has not accepted a connection for 1.25 s"),
        ("exits-with-3", "did not start: it ended (exit status 3); its last line: no chat today"),
    ],
)
def test_a_server_that_cannot_be_probed_is_reported(
    hopeless: str,
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="3"):
        probe("--command", f"{REFERENCE} --hopeless {hopeless}", "--timeout-scale", "0.25")
    out, error = capsys.readouterr()
    assert out == ""
    assert complaint in error


BROKEN_BY_A_LEAVE = """
import socket, sys, threading

members = {}

def serve(connection):
    file = connection.makefile("rb")
    members[connection] = file.readline().strip()
    for line in file:
        for member in members:
            if member is not connection:
                member.sendall(members[connection] + b": " + line)  # fails once a member has left

with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    while True:
        threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()
"""


def test_a_server_that_breaks_when_a_client_leaves_is_probed(tmp_path: Path) -> None:
    """The probe starts a new server for each way to log in that it tries."""
    (tmp_path / "server.py").write_text(BROKEN_BY_A_LEAVE)
    server = shlex.quote(str(tmp_path / "server.py"))
    made = probed(f"{PYTHON} {server} {{host}} {{port}} 2>/dev/null", tmp_path)
    assert [step.sends for step in made.login] == ["{name}"]
    assert made.identity == "name"


def test_a_server_that_loses_lines_does_not_claim_line_3(tmp_path: Path) -> None:
    lossy = "for line in connection.recv(999).splitlines(True)[:1]:"
    (tmp_path / "server.py").write_text(
        BROKEN_BY_A_LEAVE.replace("file.readline()", "b'x'").replace(
            "    for line in file:", f"    while True:\n     {lossy}"
        )
    )
    server = shlex.quote(str(tmp_path / "server.py"))
    made = probed(f"{PYTHON} {server} {{host}} {{port}} 2>/dev/null", tmp_path)
    assert made.claims == {"LINE-5"}


LATE = """
import socket, sys, threading, time

members = []

def serve(connection):
    time.sleep(1)
    connection.sendall(b"Welcome to the chat!\\n")
    members.append(connection)
    for line in connection.makefile("rb"):
        for member in members:
            if member is not connection:
                member.sendall(line)

with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    while True:
        threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()
"""

WELCOME = '    connection.sendall(b"Welcome to the chat!\\n")\n'


@pytest.mark.parametrize(
    "text",
    [
        LATE,
        LATE.replace(WELCOME, "").replace("    time.sleep(1)\n", f"{WELCOME}    time.sleep(1)\n"),
    ],
    ids=["the welcome is late", "the first read is late"],
)
def test_a_server_that_serves_each_client_late_needs_no_login(text: str, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(text)
    server = shlex.quote(str(tmp_path / "server.py"))
    made = probed(f"{PYTHON} {server} {{host}} {{port}} 2>/dev/null", tmp_path)
    assert (made.login, made.input_line_end, made.identity) == ((), "LF", "none")
    assert made.welcome
    assert made.welcome.fullmatch(b"Welcome to the chat!\n")


FRAMES_BY_LENGTH = """
import socket, sys, threading

members = []

def serve(connection):
    members.append(connection)
    file = connection.makefile("rb")
    while (size := file.read(10)).strip().isdigit():
        text = size + file.read(int(size))
        for member in members:
            if member is not connection:
                member.sendall(text)
    members.remove(connection)

with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    while True:
        threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()
"""


def test_a_server_that_frames_by_length_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.py").write_text(FRAMES_BY_LENGTH)
    with pytest.raises(SystemExit, match="3"):
        probe("--command", f"{PYTHON} {shlex.quote(str(tmp_path / 'server.py'))} {{host}} {{port}}")
    assert "frames messages by their length (10 decimal digits)" in capsys.readouterr().err
