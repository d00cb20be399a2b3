"""Servers whose messages are not lines are not judged."""

import json
from pathlib import Path

import pytest

from harness.clients.room import Room
from harness.probe.framing import require_lines
from harness.profile import WRITTEN
from harness.target.target import make_target
from tests.harness.commands import Harness
from tests.harness.dialects.table import DIALECTS
from tests.harness.simulation.recording import REFERENCE

WHY = (
    "the server frames messages by their length (10 decimal digits), but the clients of the harness"
    " send lines"
)

HISTORY = """
{"history":2,"scenario":"s","seed":1,"target":"t","seconds":1.0}
{"t":0.1,"who":0,"what":"connects","name":"Ann","population":"p","address":"127.0.0.2","link":null}
{"t":0.2,"who":0,"what":"connected","port":1000}
{"t":0.3,"who":0,"what":"welcomed"}
{"t":0.4,"who":0,"what":"ended","how":"reset"}
{"t":0.5,"end":"complete"}
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("conform", "--only", "CAST-7", "--report", "out"),
        ("simulate", "classroom", "--duration", "1", "--clients", "5"),
        ("limit", "--clients", "2", "--seconds", "1"),
        ("shrink", "history.jsonl"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_each_command_refuses_a_server_that_frames_by_length(
    arguments: tuple[str, ...], harness: Harness, tmp_path: Path
) -> None:
    (tmp_path / "history.jsonl").write_text(HISTORY.lstrip())
    command = DIALECTS["length_framing"].command()
    done = harness(*arguments, "--profile", "tutorial", "--command", command, code=2)
    assert f"harness {arguments[0]}: the harness could not judge: {WHY}\n" in done.stderr
    if "out" in arguments:
        record = json.loads((tmp_path / "out/results.json").read_text())
        assert (record["verdict"], record["why"]) == ("invalid", [WHY])


@pytest.mark.parametrize("options", ["", "--broken no-welcome", "--hopeless floods-with-garbage"])
def test_no_other_framing_is_tried_if_the_clients_receive_much_or_each_other(
    options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Room] = []

    async def refuse(room: Room) -> None:
        tried.append(room)

    monkeypatch.setattr("harness.probe.framing.refuse_other_framings", refuse)
    target = make_target(f"{REFERENCE} {options}", [])
    target.start()
    try:
        require_lines(target, WRITTEN, 0.5)
    finally:
        target.stop()
    assert tried == []


def test_a_server_is_restarted_after_the_framings_were_tried() -> None:
    target = make_target(f"{REFERENCE} --hopeless never-accepts", [])
    target.start()
    before = target.address
    try:
        require_lines(target, WRITTEN, 0.1)
        assert target.address != before
    finally:
        target.stop()
