"""Tests of the output of chatroom.admin. tests/integration/test_operate.py uses a real room."""

import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chatroom.cli.admin import main


class Heard:
    """The requests that a fake room has received, and the options that lead to this room."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.options: list[str] = []


@contextmanager
def room(*answers: dict[str, Any]) -> Iterator[Heard]:
    """Run a fake room, which sends one of `answers` for each request, and then ends."""
    heard = Heard()
    with (
        tempfile.TemporaryDirectory(prefix="run-") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(str(Path(folder) / "h:1.sock"))
        listener.listen()
        heard.options = ["--run-dir", folder]

        def serve() -> None:
            while True:
                end, _ = listener.accept()
                with end, end.makefile("rb") as file:
                    asked = False
                    for answer in answers:
                        line = file.readline()
                        if not line:
                            break
                        asked = True
                        heard.requests.append(json.loads(line))
                        end.sendall(json.dumps(answer).encode() + b"\n")
                    if asked:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        thread.join()


def run(
    capsys: pytest.CaptureFixture[str], *order: str, answers: list[dict[str, Any]]
) -> tuple[Any, str, str, list[Any]]:
    """Run an admin command; return its exit code, its standard output and error, and its
    requests."""
    with room(*answers) as heard, pytest.raises(SystemExit) as end:
        main([*heard.options, *order])
    said = capsys.readouterr()
    return end.value.code, said.out, said.err, heard.requests


@pytest.mark.parametrize(
    ("order", "answer", "out"),
    [
        (("kick", "3"), {"kicked": [3]}, "kicked: 3\n"),
        (("kick", "10.0.0.0/8"), {"kicked": [3, 14]}, "kicked: 3, 14\n"),
        (
            ("ban", "3"),
            {"banned": "10.0.0.1/32", "kicked": [3, 4], "bans": []},
            "banned 10.0.0.1/32; kicked: 3, 4\n",
        ),
        (
            ("ban", "10.0.0.0/8"),
            {"banned": "10.0.0.0/8", "kicked": [], "bans": []},
            "banned 10.0.0.0/8; kicked: none\n",
        ),
        (("unban", "10.0.0.1"), {"unbanned": True, "bans": []}, "bans: none\n"),
        (("unban", "10.0.0.1"), {"unbanned": True, "bans": ["::1"]}, "bans: ::1\n"),
    ],
)
def test_a_command_prints_its_result(
    order: tuple[str, str], answer: dict[str, Any], out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, error, asked = run(capsys, *order, answers=[answer])
    assert (code, said, error) == (0, out, "")
    assert asked == [{"do": order[0], "who": order[1], "text": None}]


@pytest.mark.parametrize(
    ("members", "out"), [(0, "said to 0 members\n"), (1, "said to 1 member\n")]
)
def test_say_prints_the_number_of_receivers(
    members: int, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"said": 1, "members": members}
    code, said, error, asked = run(capsys, "say", "lunch", answers=[answer])
    assert (code, said, error) == (0, out, "")
    assert asked == [{"do": "say", "who": None, "text": "lunch"}]


@pytest.mark.parametrize(
    ("order", "answer", "error"),
    [
        (("kick", "3"), {"kicked": []}, "no member matches 3"),
        (
            ("unban", "::1"),
            {"unbanned": False, "bans": ["10.0.0.1"]},
            "::1 is not banned; bans: 10.0.0.1",
        ),
        (("ban", "x"), {"error": "an address, not 'x'"}, "an address, not 'x'"),
    ],
)
def test_a_failed_command_prints_the_reason(
    order: tuple[str, str], answer: dict[str, Any], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, told, _ = run(capsys, *order, answers=[answer])
    assert (code, said, told) == (1, "", f"python -m chatroom.admin: {error}\n")


def test_members_and_bans_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    member = {"id": 3, "address": "10.0.0.1", "port": 5, "worker": 0}
    code, said, _, asked = run(
        capsys, "list", answers=[{"members": [member]}, {"bans": ["::1", "10.0.0.0/8"]}]
    )
    assert code == 0
    assert said.splitlines() == [
        "id   address  port  worker",
        " 3  10.0.0.1     5       0",
        "bans: ::1, 10.0.0.0/8",
    ]
    assert asked == [{"ask": "status"}, {"do": "bans"}]


def test_a_room_that_ends_during_a_request_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    code, said, error, _ = run(capsys, "list", answers=[{"members": []}])
    assert (code, said, error) == (1, "", "python -m chatroom.admin: the room has ended\n")


def test_an_unknown_option_is_reported_instead_of_its_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--run-dr", "x", "list"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "python -m chatroom.admin: unknown option --run-dr; did you mean --run-dir?"
        " (--help shows the usage)\n"
    )


@pytest.mark.parametrize("order", [(), ("sing",), ("kick",), ("say",), ("list", "x")])
def test_an_unknown_or_incomplete_command_is_an_error(
    order: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(order)
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
